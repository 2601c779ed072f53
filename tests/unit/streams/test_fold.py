"""The fold's rules one by one, each as a small story; `tests/property` holds them all at once."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest

from streams.asks import RankingId
from streams.digest import audit, digest
from streams.fold import Applied, Fold
from streams.frame import EventRow
from streams.hashing import NO_QUERY, identity_hash, item_hash, query_hash
from streams.kinds import Kind, Rung
from streams.position import Verdict
from streams.state import Parameters, State
from streams.views import ExactView
from tests.support.oracle import expect, identity, text_hash
from tests.support.streams_of_events import LOG, START_MS, Shape, events, fold_all, frame_of, row, splits

HOUR_MS = 3_600_000
PARAMETERS = Parameters(bucket_ms=HOUR_MS, horizon_buckets=10, clock_events=3, history_max=3)


def click(n: int = 0, hours: float = 0, *, user: int = 1, item: str = "a", query: str = "lamp") -> EventRow:
    """A click, `hours` after the start."""
    at = START_MS // HOUR_MS * HOUR_MS + int(hours * HOUR_MS) + n
    return row(Kind.CLICK, at, user=user, session=1, item=item, query=query)


def apply(fold: Fold, rows: list[EventRow], offset: int, partition: int = 0) -> Applied:
    """One frame at a position."""
    return fold.apply(frame_of(rows), LOG, partition, offset, 100 + offset, 7)


def test_reader_rule() -> None:
    """Below the frontier: dropped. At it: taken. Above it: nothing changes and the caller is told."""
    fold = Fold(State(PARAMETERS))
    assert apply(fold, [click(1)], 0).verdict is Verdict.ACCEPTED
    before = digest(fold.state)
    assert apply(fold, [click(2)], 0).verdict is Verdict.DUPLICATE
    assert apply(fold, [click(2)], 2).verdict is Verdict.GAP
    assert digest(fold.state) == before and fold.state.frontier.to_rows() == [(LOG, 0, 1)]
    assert apply(fold, [click(2)], 1).events == 1
    assert apply(fold, [click(3)], 0, partition=5).events == 1
    assert fold.state.frontier.to_rows() == [(LOG, 0, 2), (LOG, 5, 1)]


def test_frontier_remembers_the_last_record() -> None:
    """Checksum and leader epoch of the last record stand beside the offset; that is how a cut log is told."""
    fold = Fold(State(PARAMETERS))
    apply(fold, [click(1)], 0)
    point = fold.state.points[LOG, 0]
    assert (point.next_offset, point.last_checksum, point.last_leader_epoch) == (1, 100, 7)


def test_frame_without_events_moves_the_frontier_only() -> None:
    """An ask that rides alone is no event."""
    fold = Fold(State(PARAMETERS))
    applied = apply(fold, [], 0)
    assert applied == Applied(Verdict.ACCEPTED)
    assert digest(fold.state) == digest(State(PARAMETERS)) and fold.next_offset(LOG, 0) == 1


def test_stepping_over_a_dead_record_moves_the_frontier_only() -> None:
    """A buried record is skipped by the same rule, also while frames are staged."""
    fold = Fold(State(PARAMETERS))
    assert fold.skip(LOG, 0, 1, 5, 0) is Verdict.GAP
    assert fold.skip(LOG, 0, 0, 5, 0) is Verdict.ACCEPTED
    assert fold.state.next_offset(LOG, 0) == 1
    fold.take(frame_of([click(1)]), LOG, 0, 1, 6, 0)
    assert fold.skip(LOG, 0, 2, 7, 0) is Verdict.ACCEPTED
    assert fold.state.next_offset(LOG, 0) == 1 and fold.next_offset(LOG, 0) == 3
    assert fold.flush().events == 1
    assert fold.state.next_offset(LOG, 0) == 3 and fold.state.tally.dead_frames == 2


def test_the_same_event_counts_once() -> None:
    """Within a frame, across frames and across partitions: identity decides."""
    fold = Fold(State(PARAMETERS))
    assert apply(fold, [click(1), click(1)], 0).duplicates == 1
    assert apply(fold, [click(1)], 0, partition=3).duplicates == 1
    counts = ExactView(fold.state, START_MS).item_counts(np.array([item_hash("a")], np.uint64))
    assert counts[0, 0, 2] == 1 and fold.state.tally.events == 1


def test_same_content_from_two_apps_are_two_events() -> None:
    """Two apps that number their events alike lose nothing."""
    twins = [row(Kind.CLICK, START_MS, source=source, user=1, item="a") for source in ("x", "y")]
    assert apply(Fold(State(PARAMETERS)), twins, 0).events == 2


def test_few_events_from_a_broken_clock_do_not_move_the_clock() -> None:
    """Fewer than `clock_events` in the future cannot take it beyond true events; enough of them can."""
    fold = fold_all([[click(n, n) for n in range(5)]], PARAMETERS)
    last = START_MS // HOUR_MS + 4
    assert fold.state.clock_bucket == last - 2
    fold_all([[click(0, 10_000), click(1, 10_000)]], PARAMETERS, fold)
    assert fold.state.clock_bucket == last and fold.state.retained_events() == 7
    fold_all([[click(2, 10_000)]], PARAMETERS, fold)
    assert fold.state.clock_bucket == START_MS // HOUR_MS + 10_000 and fold.state.retained_events() == 3


def test_events_before_the_horizon_are_late() -> None:
    """An event counts iff its bucket is within the horizon before the clock: the last one in, the next one out."""
    fold = fold_all([[click(n, 100) for n in range(3)]], PARAMETERS)
    applied = apply(fold, [click(0, 90), click(0, 90 - 1 / HOUR_MS)], 1)
    assert (applied.events, applied.late) == (1, 1)
    assert fold.state.tally.late == 1


def test_catalogue_keeps_the_newest_and_tells_what_changed() -> None:
    """Largest (time, identity) wins, a tombstone too; an older entry changes nothing and is not reported."""
    fold = Fold(State(PARAMETERS))

    def item(time_ms: int, body: bytes) -> EventRow:
        return row(Kind.ITEM, time_ms, item="lamp-1", body=body)

    lamp = item_hash("lamp-1")
    assert apply(fold, [item(5, b'{"title":"new"}')], 0).changed_items == [lamp]
    assert apply(fold, [item(4, b'{"title":"old"}')], 1).changed_items == []
    assert fold.state.catalogue[lamp].body == b'{"title":"new"}'
    assert apply(fold, [item(6, b'{"deleted":true}')], 2).changed_items == [lamp]
    assert fold.state.catalogue[lamp].deleted and fold.state.catalogue[lamp].item == "lamp-1"
    assert fold.state.tally.item_events == 3 and fold.state.retained_events() == 0
    assert audit(fold.state) is None


@pytest.mark.parametrize("body", [b'{"deleted":"\xff"}', b"[" * 100_000, b"{", b"[]"])
def test_an_item_whose_body_cannot_be_read_is_an_entry_like_any_other(body: bytes) -> None:
    """What an app sent as a body never stops the fold: the entry is kept as it is, and is no tombstone."""
    fold = Fold(State(PARAMETERS))
    applied = apply(fold, [row(Kind.ITEM, 5, item="lamp-1", body=body)], 0)
    assert applied.changed_items == [item_hash("lamp-1")]
    assert not fold.state.catalogue[item_hash("lamp-1")].deleted
    assert fold.state.next_offset(LOG, 0) == 1


def test_items_never_move_the_clock_nor_expire() -> None:
    """A catalogue loaded from far ahead or long ago leaves events alone, and stays."""
    fold = fold_all([[click(n, 100) for n in range(3)]], PARAMETERS)
    clock = fold.state.clock_bucket
    far = [row(Kind.ITEM, START_MS + n * 10**9, item=f"i{n}") for n in range(-50, 50)]
    fold_all([far], PARAMETERS, fold)
    assert fold.state.clock_bucket == clock and len(fold.state.catalogue) == 100


def test_catalogue_grows() -> None:
    """Thousands of items, each with its newest entry."""
    rows = [row(Kind.ITEM, t, item=f"i{n}", body=b"%d" % t) for t in (1, 3, 2) for n in range(5000)]
    fold = fold_all([rows], PARAMETERS)
    assert len(fold.state.catalogue) == 5000
    assert {e.body for e in fold.state.catalogue.values()} == {b"3"}


def test_clicks_count_where_their_ranking_was_served() -> None:
    """In the bucket of the serving, by model, arm and rung; further down than 20 counts as 20."""
    fold = Fold(State(PARAMETERS))
    hour = START_MS // HOUR_MS
    ranking = RankingId(hour * HOUR_MS, 1, int(Rung.MODEL), 0xABCD, 5).to_bytes()

    def about(kind: Kind, hours: int, position: int = 0) -> EventRow:
        return row(kind, (hour + hours) * HOUR_MS, user=1, item="a", ranking=ranking, position=position)

    rows = [about(Kind.SERVED, 0), about(Kind.CLICK, 2, 1), about(Kind.CLICK, 3, 300), about(Kind.IMPRESSION, 1)]
    fold_all([rows, [about(Kind.CLICK, -1, 1)]], PARAMETERS, fold)
    (answer,) = ExactView(fold.state, hour * HOUR_MS).answers()
    assert (answer.model_tag, answer.arm, answer.rung) == (0xABCD, 1, 1)
    assert (answer.served, answer.impressions, sum(answer.clicks_by_position)) == (1, 1, 2)
    assert answer.clicks_by_position[1] == answer.clicks_by_position[20] == 1
    assert answer.click_rate == 2.0 and answer.reciprocal_rank == 1 + 1 / 20


def test_history_keeps_the_newest_of_each_bucket() -> None:
    """Newest first over buckets, at most `history_max` of each, and none after the moment asked for."""
    fold = fold_all([[click(n, item=f"i{n}") for n in range(6)] + [click(0, 1, item="later")]], PARAMETERS)
    view = ExactView(fold.state, START_MS + 5 * HOUR_MS)
    assert view.history(1).item.tolist() == [item_hash(i) for i in ("later", "i5", "i4", "i3")]
    assert view.history(1, limit=2).item.tolist() == [item_hash(i) for i in ("later", "i5")]
    start = START_MS // HOUR_MS * HOUR_MS
    assert ExactView(fold.state, start + 4).history(1).item.tolist() == [item_hash(i) for i in ("i4", "i3")]
    assert len(ExactView(fold.state, start + HOUR_MS).history(2).item) == 0


def test_searches_are_remembered_by_their_query() -> None:
    """A history names the query of a search, folded; capitals and punctuation make no difference."""
    search = row(Kind.SEARCH, START_MS, user=9, query="Red LAMP!")
    fold = fold_all([[search]], PARAMETERS)
    history = ExactView(fold.state, START_MS).history(9)
    assert history.item.tolist() == [query_hash("redlamp")] and history.kind.tolist() == [Kind.SEARCH]


@pytest.mark.parametrize("text", ["", "a", "abcdefgh", "abcdefghi", "Straße, 12!", "née\n", "\x00", "x" * 1000])
def test_hashes_are_those_of_the_definition(text: str) -> None:
    """Python's way to a number, the kernels' way and the oracle's agree, for every length."""
    assert query_hash(text) == text_hash(text, fold_case=True)
    assert item_hash(text) == text_hash(text, fold_case=False)
    raw = text.encode().ljust(16, b"\x01")[:16]
    assert identity_hash(raw) == identity(raw)


def test_clicks_without_a_query_count_for_the_item_only() -> None:
    """A click on the home page is no click for the empty query."""
    fold = fold_all([[click(1, query="!?"), click(2, query="")]], PARAMETERS)
    view = ExactView(fold.state, START_MS)
    items = np.array([item_hash("a")], np.uint64)
    assert query_hash("!?") == NO_QUERY and not view.query_item_counts(NO_QUERY, items).any()
    assert view.item_counts(items)[0, 0, 2] == 2


def test_digest_explains_where_two_states_differ() -> None:
    """A mismatch names its bucket and table; equal states have nothing to explain."""
    one = fold_all([[click(1), click(1, 5)]], PARAMETERS).state
    same = fold_all([[click(1, 5)], [click(1)]], PARAMETERS).state
    assert digest(one).explain(digest(same)) is None and digest(one).hex() == digest(same).hex()
    other = fold_all([[click(1), click(1, 5), click(2, 5)]], PARAMETERS).state
    reason = digest(one).explain(digest(other))
    assert reason is not None and f"bucket {START_MS // HOUR_MS + 5}" in reason and "differ in all" in reason
    wider = State(Parameters(bucket_ms=HOUR_MS, horizon_buckets=11))
    assert "parameters" in (digest(one).explain(digest(wider)) or "")


def test_audit_finds_a_table_that_was_damaged() -> None:
    """Recomputing everything notices a counter that changed behind the fold's back, and says where."""
    state = fold_all([[click(1)], [row(Kind.ITEM, 1, item="a", body=b"1")]], PARAMETERS).state
    assert audit(state) is None
    (unit,) = state.units.values()
    unit.entries[0, 2] += np.uint64(1)
    assert "table counters" in (audit(state) or "")
    unit.entries[0, 2] -= np.uint64(1)
    state.catalogue_lanes = (1, 2)
    assert "catalogue" in (audit(state) or "")


def test_busy_user_leaves_no_dead_counters_behind() -> None:
    """Retracted pairs do not pile up: a table that is a quarter zeros is cleaned instead of grown."""
    parameters = Parameters(bucket_ms=HOUR_MS, history_max=20, clock_events=3)
    rows = [click(n, item=f"i{n}") for n in range(5000)]
    state = fold_all([rows[k : k + 250] for k in range(0, 5000, 250)], parameters).state
    (unit,) = state.units.values()
    live = 2 * 5000 + 190
    assert len(unit.entries) < 2 * live and audit(state) is None
    assert digest(state) == expect(rows, parameters).digest()


def test_parameters_are_checked() -> None:
    """Values under which tables or packing would break are refused."""
    for bad in ({"bucket_ms": 10}, {"bucket_ms": 1 << 28}, {"horizon_buckets": 0}, {"history_max": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Parameters(**bad)


def test_kernels_run_as_plain_python() -> None:
    """With NUMBA_DISABLE_JIT=1 the same source, interpreted, gives the same digest."""
    script = (
        "import sys; sys.path.insert(0, '.')\n"
        "import random\n"
        "from tests.support.streams_of_events import *\n"
        "from streams.digest import digest\n"
        "from streams.state import Parameters\n"
        "p = Parameters(bucket_ms=3_600_000, horizon_buckets=10, clock_events=3, history_max=3)\n"
        "print(digest(fold_all(splits(events(5, Shape(120)), random.Random(5)), p).state).hex())\n"
    )
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    out = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", script],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    compiled = digest(fold_all(splits(events(5, Shape(120)), random.Random(5)), PARAMETERS).state).hex()
    assert out.stdout.strip() == compiled
