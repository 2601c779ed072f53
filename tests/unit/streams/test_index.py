"""The read index against the exact way over all buckets, and that against the definition."""

import random

import numpy as np
import pytest

from streams import index as index_module
from streams.fold import Fold
from streams.hashing import item_hash, query_hash
from streams.index import IndexView, ReadIndex
from streams.kinds import Kind
from streams.state import Parameters, State
from streams.views import ExactView, View
from tests.support.oracle import PAIR, QUERY_ITEM, Expected, expect
from tests.support.streams_of_events import START_MS, Shape, events, fold_all, row, splits

BUCKET_MS = 3_600_000
PARAMETERS = Parameters(bucket_ms=BUCKET_MS, horizon_buckets=30, clock_events=40, history_max=3)
SHAPE = Shape(events=1500, users=4, items=15, queries=5, span_ms=60 * BUCKET_MS, grain_ms=60_000)
ITEMS = np.array([item_hash(f"item-{n}") for n in range(20)], np.uint64)
QUERIES = [query_hash(f"query {n}") for n in range(6)]


def same(got: View, wanted: View, users: range = range(13)) -> None:
    """Both views give the same answers to everything that can be asked."""
    for q in QUERIES:
        close(got.query_item_counts(q, ITEMS), wanted.query_item_counts(q, ITEMS))
        for limit in (3, 100):
            pair(got.query_items(q, limit), wanted.query_items(q, limit))
    close(got.item_counts(ITEMS), wanted.item_counts(ITEMS))
    for item in ITEMS[:5]:
        for limit in (3, 100):
            pair(got.co_items(int(item), limit), wanted.co_items(int(item), limit))
    for anchors in (ITEMS[:1], ITEMS[3:9], ITEMS):
        close(got.co_counts(anchors, ITEMS[2:5]), wanted.co_counts(anchors, ITEMS[2:5]))
        close(got.co_counts(anchors, ITEMS), wanted.co_counts(anchors, ITEMS))
    for limit in (2, 100):
        pair(got.popular(limit), wanted.popular(limit))
    for user in users:
        a, b = got.history(user), wanted.history(user)
        assert a.time_ms.tolist() == b.time_ms.tolist()
        assert a.item.tolist() == b.item.tolist()
        assert a.kind.tolist() == b.kind.tolist()
    assert got.answers() == wanted.answers()


def close(got: np.ndarray, wanted: np.ndarray) -> None:
    """Equal within 1e-9, relatively."""
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)


def pair(got: tuple[np.ndarray, np.ndarray], wanted: tuple[np.ndarray, np.ndarray]) -> None:
    """The same items in the same order, with the same counts."""
    assert got[0].tolist() == wanted[0].tolist()
    close(got[1], wanted[1])


@pytest.mark.parametrize("seed", range(6))
def test_index_agrees_with_the_exact_way_under_any_order(seed: int) -> None:
    """In any order, with late, future and retracted ones, reads forward and back equal a walk over all buckets."""
    g = random.Random(seed)
    stream = events(seed, SHAPE)
    stream.sort(key=lambda e: e.time_ms)
    if seed % 2:
        g.shuffle(stream)
    state = State(PARAMETERS)
    index = ReadIndex(state)
    fold = Fold(state, index)
    at = START_MS
    for frame in splits(stream, g, sizes=(1, 20, 60)):
        fold_all([frame], PARAMETERS, fold)
        at += g.choice([0, 60_000, BUCKET_MS, 3 * BUCKET_MS, -2 * BUCKET_MS])
        if state.clock_bucket is not None and g.random() < 0.4:
            at_ms = g.choice([at, at, at, START_MS + 15 * BUCKET_MS, at + 20 * 365 * 86_400_000, 0])
            same(index.read(at_ms), ExactView(state, at_ms))
    at_ms = at + BUCKET_MS
    same(index.read(at_ms), ExactView(state, at_ms))
    index.rebuild(at_ms)
    same(index.read(at_ms), ExactView(state, at_ms))


def test_index_and_rebuilt_index_agree_to_the_last_bit() -> None:
    """What was followed in any order is what a rebuild finds: features do not depend on restarts."""
    stream = events(3, SHAPE)
    at_ms = START_MS + 50 * BUCKET_MS
    answers = []
    for seed in range(3):
        random.Random(seed).shuffle(stream)
        state = State(PARAMETERS)
        index = ReadIndex(state)
        index.read(at_ms)
        fold_all(splits(stream, random.Random(seed)), PARAMETERS, Fold(state, index))
        if seed == 2:
            index = ReadIndex(state)
        view = index.read(at_ms)
        assert isinstance(view, IndexView)
        answers.append((view.item_counts(ITEMS).tobytes(), view.popular(50)[1].tobytes()))
    assert answers[0] == answers[1] == answers[2]


def test_exact_way_agrees_with_the_definition() -> None:
    """Counts are the definition's, decayed by half-lives of 8 and 40 buckets, to the precision of the weights."""
    stream = events(11, SHAPE)
    state = fold_all(splits(stream, random.Random(1)), PARAMETERS).state
    truth = expect(stream, PARAMETERS)
    assert truth.clock is not None
    at_ms = (truth.clock + 1) * BUCKET_MS + 5
    view = ExactView(state, at_ms)
    for q in QUERIES:
        wanted = [by_definition(truth, at_ms, QUERY_ITEM, q, int(item)) for item in ITEMS]
        np.testing.assert_allclose(view.query_item_counts(q, ITEMS), wanted, rtol=1e-5)
    pairs = [[by_definition(truth, at_ms, PAIR, *sorted((int(a), int(b)))) for b in ITEMS] for a in ITEMS]
    np.testing.assert_allclose(view.co_counts(ITEMS[:4], ITEMS), np.sum(pairs[:4], axis=0), rtol=1e-5)
    for user in range(13):
        newest = sorted((e for (_, u), es in truth.history.items() if u == user for e in es), reverse=True)
        newest = [e for e in newest if e[0] <= at_ms][:20]
        history = view.history(user)
        assert history.time_ms.tolist() == [e[0] for e in newest] and history.item.tolist() == [e[2] for e in newest]
    clicks = sum(sum(a.clicks_by_position) for a in view.answers())
    assert clicks == sum(n for (b, tag, _, _), n in truth.answers.items() if tag == 5 and b <= at_ms // BUCKET_MS)


def by_definition(truth: Expected, at_ms: int, tag: int, a: int, b: int) -> list[float]:
    """The three lanes of one counter."""
    now = at_ms // BUCKET_MS
    by_bucket = {bucket: n for (bucket, t, x, y), n in truth.counters.items() if (t, x, y) == (tag, a, b)}
    ages = {now - bucket: n for bucket, n in by_bucket.items() if bucket <= now}
    return [sum(n * 0.5 ** (age / half) for age, n in ages.items()) for half in (8, 40)] + [sum(ages.values())]


def test_reads_see_nothing_later_than_they_are_for() -> None:
    """Histories stop at the moment, counters at its bucket; moments before the anchor included."""
    state = State(PARAMETERS)
    index = ReadIndex(state)
    clicks = [row(Kind.CLICK, START_MS + n * BUCKET_MS, user=1, session=1, item="item-1") for n in range(4)]
    fold_all([clicks], PARAMETERS, Fold(state, index))
    for n in (3, 1, 2, 0):
        view = index.read(START_MS + n * BUCKET_MS)
        assert view.item_counts(ITEMS[1:2])[0, 0, 2] == n + 1
        assert len(view.history(1).time_ms) == n + 1
        assert len(index.read(START_MS + n * BUCKET_MS - 1).history(1).time_ms) == n
    assert index.exact_reads == 0


def test_old_moments_take_the_exact_way_when_stepping_back_is_much_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more counters than may be taken out, a read before the anchor walks over the buckets, and is counted."""
    monkeypatch.setattr(index_module, "SMALL_COUNTERS_MAX", 10)
    state = State(PARAMETERS)
    index = ReadIndex(state)
    fold_all(splits(events(5, SHAPE), random.Random(5)), PARAMETERS, Fold(state, index))
    newest, older = START_MS + 55 * BUCKET_MS, START_MS + 40 * BUCKET_MS
    assert isinstance(index.read(newest), IndexView)
    view = index.read(older)
    assert isinstance(view, ExactView) and index.exact_reads == 1
    same(index.read(newest), ExactView(state, newest))


def test_unknown_things_count_zero() -> None:
    """Queries, items and users that nobody ever saw have zero counts and empty lists."""
    view = ReadIndex(State(PARAMETERS)).read(START_MS)
    assert not view.item_counts(ITEMS).any() and not view.query_item_counts(5, ITEMS).any()
    assert len(view.query_items(5, 10)[0]) == len(view.co_items(7, 10)[0]) == len(view.popular(10)[0]) == 0
    assert view.co_counts(ITEMS[:0], ITEMS[:0]).shape == (0, 3) and len(view.history(9).time_ms) == 0
    assert view.answers() == []
