"""State is a function of the set of events: any split, order, duplication and lateness gives the oracle's digest.

The seeded streams are large and nasty; hypothesis adds small ones around the edges (ties, boundaries of buckets and
of the horizon, extreme times) and shrinks what fails.
"""

import os
import random
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.asks import NO_RANKING, RankingId
from streams.digest import audit, digest
from streams.fold import Fold
from streams.frame import EventRow
from streams.index import ReadIndex
from streams.kinds import Kind
from streams.snapshot import load, save
from streams.state import Parameters, State
from tests.support.oracle import expect
from tests.support.streams_of_events import LOG, Shape, events, fold_all, frame_of, row, splits

DAY_MS = 86_400_000
RUNS = int(os.environ.get("MERIDIAN_PROPERTY_RUNS", "40"))


def scenario(seed: int) -> tuple[list[EventRow], Parameters]:
    """A stream and parameters under which everything happens: eviction, retraction, ties, clocks that jump."""
    g = random.Random(seed)
    parameters = Parameters(
        bucket_ms=g.choice([3_600_000, 21_600_000, DAY_MS]),
        horizon_buckets=g.choice([1, 2, 5, 20, 112]),
        clock_events=g.choice([1, 5, 50, 300]),
        history_max=g.choice([1, 2, 3, 20]),
        position_max=g.choice([1, 20]),
    )
    shape = Shape(
        events=g.choice([40, 300, 900]),
        users=g.choice([2, 5, 200]),
        items=g.choice([3, 50]),
        queries=g.choice([2, 20]),
        sessions=g.choice([1, 5]),
        span_ms=g.choice([3_600_000, DAY_MS, 10 * DAY_MS, 60 * DAY_MS]),
        grain_ms=g.choice([1, 60_000, 600_000, 7_200_000]),
        outliers=g.choice([0.0, 0.005, 0.05]),
    )
    return events(seed, shape), parameters


def arrivals(stream: list[EventRow], seed: int) -> list[list[EventRow]]:
    """The same set as it may arrive: in order, reversed, shuffled with repeats, all twice, one part very late."""
    g = random.Random(seed)
    shuffled = g.sample(stream, len(stream)) + g.choices(stream, k=g.choice([0, 5, len(stream)]))
    by_time = sorted(stream, key=lambda e: e.time_ms)
    a, b = sorted(g.sample(range(len(stream)), 2))
    healed = by_time[:a] + by_time[b:] + by_time[a:b]
    return [by_time, by_time[::-1], shuffled, stream + stream, healed]


@pytest.mark.parametrize("seed", range(RUNS))
def test_any_arrival_gives_the_digest_of_the_definition(seed: int) -> None:
    """Live, reversed, shuffled with repeats, doubled and healed: one digest, the brute-force oracle's."""
    stream, parameters = scenario(seed)
    wanted = expect(stream, parameters).digest()
    for variant, arrival in enumerate(arrivals(stream, seed)):
        state = fold_all(splits(arrival, random.Random(seed)), parameters).state
        assert digest(state).explain(wanted) is None, (seed, variant)
        assert digest(state).hex() == wanted.hex()
        assert audit(state) is None


@pytest.mark.parametrize("seed", range(0, RUNS, 4))
def test_every_prefix_is_the_state_of_its_own_set(seed: int) -> None:
    """In the middle of a shuffled stream the digest is already that of what was seen so far, not only at the end."""
    stream, parameters = scenario(seed)
    arrival = arrivals(stream, seed)[2]
    frames = splits(arrival, random.Random(seed))
    ends = list(accumulate(map(len, frames)))
    fold = Fold(State(parameters))
    looks = random.Random(seed).sample(range(len(frames)), min(8, len(frames)))
    for j, frame in enumerate(frames):
        fold_all([frame], parameters, fold)
        if j in looks:
            wanted = expect(arrival[: ends[j]], parameters).digest()
            assert digest(fold.state).explain(wanted) is None, (seed, j)


@pytest.mark.parametrize("seed", range(0, RUNS, 4))
def test_snapshot_and_suffix_is_replay_from_zero(seed: int, tmp_path: Path) -> None:
    """Saved anywhere, loaded, and fed the rest in any order, with a read index following: the same digest."""
    stream, parameters = scenario(seed)
    g = random.Random(seed)
    arrival = arrivals(stream, seed)[2]
    cut = g.randrange(len(arrival))
    save(fold_all(splits(arrival[:cut], g), parameters).state, tmp_path)
    state = load(tmp_path, parameters)
    assert state is not None
    fold_all(splits(arrival[cut:], g), parameters, Fold(state, ReadIndex(state)))
    assert digest(state).explain(expect(stream, parameters).digest()) is None
    assert audit(state) is None


@pytest.mark.parametrize("seed", range(0, RUNS, 8))
def test_frames_taken_together_are_frames_taken_one_by_one(seed: int) -> None:
    """A replay that folds many frames in one go has the live state."""
    stream, parameters = scenario(seed)
    fold = Fold(State(parameters))
    for offset, frame in enumerate(splits(arrivals(stream, seed)[2], random.Random(seed))):
        fold.take(frame_of(frame), LOG, 0, offset, 0, 0)
        if fold.pending_events > 500:
            fold.flush()
    fold.flush()
    assert digest(fold.state).explain(expect(stream, parameters).digest()) is None


BUCKET_MS = 1000
EDGE_TIMES = [n * BUCKET_MS + d for n in (-3, -1, 0, 1, 2, 3, 4, 9) for d in (-1, 0, 1)] + [2**62, -(2**62), 2**40]


@st.composite
def small_events(draw: st.DrawFn) -> EventRow:
    """One event around the edges of a few buckets."""
    kind = draw(st.sampled_from(Kind))
    time_ms = draw(st.sampled_from(EDGE_TIMES))
    item = draw(st.sampled_from(["a", "b", "c", ""]))
    if kind is Kind.ITEM:
        return row(kind, time_ms, item=item, body=draw(st.sampled_from([b"", b'{"deleted":true}', b"[1]"])))
    ranking = NO_RANKING
    if draw(st.booleans()):
        served = draw(st.sampled_from([t for t in EDGE_TIMES if 0 <= t < 1 << 48]))
        ranking = RankingId(served, draw(st.integers(0, 1)), 1, 7, draw(st.integers(0, 1))).to_bytes()
    return row(
        kind,
        time_ms,
        source=draw(st.sampled_from("xy")),
        user=draw(st.sampled_from([0, 1, 2, 2**64 - 1])),
        session=draw(st.integers(0, 1)),
        query=draw(st.sampled_from(["", "!", "Q", "q ", "ß"])),
        item=item,
        ranking=ranking,
        position=draw(st.sampled_from([0, 1, 2, 3, 65535])),
    )


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    stream=st.lists(small_events(), max_size=40),
    order=st.randoms(use_true_random=False),
    horizon=st.integers(1, 4),
    clock_events=st.integers(1, 5),
    history_max=st.integers(1, 3),
)
def test_small_sets_around_the_edges(
    stream: list[EventRow], order: random.Random, horizon: int, clock_events: int, history_max: int
) -> None:
    """Hypothesis looks for a set and an order whose state is not the definition's."""
    parameters = Parameters(
        bucket_ms=BUCKET_MS,
        horizon_buckets=horizon,
        clock_events=clock_events,
        history_max=history_max,
        position_max=2,
    )
    arrival = stream + order.choices(stream, k=5) if stream else []
    order.shuffle(arrival)
    state = fold_all(splits(arrival, order, sizes=(1, 3, 40)), parameters).state
    assert digest(state).explain(expect(stream, parameters).digest()) is None
    assert audit(state) is None
