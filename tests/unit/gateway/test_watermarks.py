"""What peers hold and what they lack, held against a list of records that is counted by hand."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import watermarks
from services.gateway.watermarks import Lag, StaleLife, Watermarks

LOG = "east-1.events"


def marks(ends: dict[int, int] | None = None) -> Watermarks:
    """Watermarks of a log that was empty, unless a test says otherwise."""
    return Watermarks(LOG, ends or {}, 2.0, 0.0)


def test_what_a_peer_reported_lately_is_covered() -> None:
    """The offset itself must be below the watermark, and the report younger than the limit."""
    at = marks()
    at.acknowledged(0, 0, 3, 1.0)
    assert at.uncovered([(0, 0)], 1.0) == [(0, 0)]
    at.report("west", "west-1", {0: 0}, 1.0)
    assert at.uncovered([(0, 0)], 1.0) == [(0, 0)]
    at.report("west", "west-1", {0: 1}, 1.0)
    assert at.uncovered([(0, 0)], 2.9) == []
    assert at.uncovered([(0, 0), (0, 1), (1, 0)], 2.9) == [(0, 1), (1, 0)]
    assert at.uncovered([(0, 0)], 3.0) == [(0, 0)]


def test_each_record_may_lie_with_another_peer() -> None:
    """What counts is that somebody else holds it."""
    at = marks()
    at.report("west", "west-1", {0: 5}, 1.0)
    at.report("south", "south-3", {1: 5}, 1.0)
    assert at.uncovered([(0, 4), (1, 4)], 1.0) == []


def test_a_watermark_ends_with_the_life_that_reported_it() -> None:
    """A wiped peer holds nothing of what it held; a report that its earlier life left on the way is refused."""
    at = marks()
    at.report("west", "west-1", {0: 9, 1: 9}, 1.0)
    at.report("west", "west-2", {1: 2}, 1.1)
    assert at.uncovered([(0, 0), (1, 1), (1, 2)], 1.1) == [(0, 0), (1, 2)]
    with pytest.raises(StaleLife, match="west-1 is over"):
        at.report("west", "west-1", {0: 9}, 1.2)
    assert at.uncovered([(0, 0)], 1.2) == [(0, 0)]
    at.report("west", "west-10", {0: 1}, 1.3)
    assert at.uncovered([(0, 0)], 1.3) == []


def test_a_peer_that_found_its_copy_damaged_holds_less() -> None:
    """The newest report of a life holds, also one that goes back."""
    at = marks()
    at.report("west", "west-1", {0: 9}, 1.0)
    at.report("west", "west-1", {0: 4}, 1.1)
    assert at.uncovered([(0, 3), (0, 4)], 1.1) == [(0, 4)]


def test_events_behind_a_watermark_are_counted_only_where_they_are_known() -> None:
    """From before the start, or behind a record that was never acknowledged: unknown, not guessed."""
    at = marks({0: 10})
    assert (at.end(0), at.events_after(0, 10), at.events_after(0, 9)) == (10, 0, None)
    at.acknowledged(0, 10, 3, 1.0)
    at.acknowledged(0, 11, 4, 2.0)
    assert [at.events_after(0, held) for held in (9, 10, 11, 12, 99)] == [None, 7, 4, 0, 0]
    at.acknowledged(0, 14, 5, 3.0)
    assert at.end(0) == 15
    assert [at.events_after(0, held) for held in (10, 12, 13, 14, 15)] == [None, None, None, 5, 0]


def test_the_lag_is_that_of_the_best_peer() -> None:
    """In events, and in seconds since the oldest that it lacks; a peer that fell silent still holds what it held."""
    at = marks()
    at.acknowledged(0, 0, 3, 10.0)
    at.acknowledged(1, 0, 4, 12.0)
    assert at.lag(15.0) == Lag(7, 5.0)
    at.report("west", "west-1", {0: 1}, 15.0)
    at.report("south", "south-1", {}, 15.0)
    assert at.lag(15.0) == Lag(4, 3.0)
    assert at.lag(100.0) == Lag(4, 88.0)
    at.report("south", "south-1", {0: 1, 1: 1}, 100.0)
    assert at.lag(100.0) == Lag(0, 0.0)


def test_a_lag_that_cannot_be_told_is_not_small() -> None:
    """A log that was not empty at the start, and nobody who said what it holds of it."""
    at = marks({0: 10})
    assert at.lag(3.0) == Lag(None, 3.0)
    at.report("west", "west-1", {0: 10}, 3.0)
    assert at.lag(3.0) == Lag(0, 0.0)


RECORDS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 9)), max_size=40)


@given(RECORDS, st.lists(st.integers(0, 60), min_size=3, max_size=3), st.integers(0, 5))
def test_counts_agree_with_a_list(records: list[tuple[int, int, int]], held: list[int], start: int) -> None:
    """Any records, with gaps of unknown outcome, any watermark: the sum over a plain list, or unknown."""
    at = marks(dict.fromkeys(range(3), start))
    plain: dict[int, list[tuple[int, int | None]]] = {p: [(o, None) for o in range(start)] for p in range(3)}
    for partition, gap, events in records:
        end = plain[partition][-1][0] + 1 if plain[partition] else 0
        plain[partition] += [(end + n, None) for n in range(gap)]
        plain[partition].append((end + gap, events))
        at.acknowledged(partition, end + gap, events, 1.0)
    at.report("west", "west-1", dict(enumerate(held)), 1.0)
    for partition, rows in plain.items():
        missing = [events for offset, events in rows if offset >= held[partition]]
        expected = None if None in missing else sum(events or 0 for events in missing)
        found = at.events_after(partition, held[partition])
        # Behind a gap everything below is forgotten, also what was known before it.
        assert found == expected
        assert at.end(partition) == len(rows)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that is very far behind is told "unknown"; what is told is still right."""
    monkeypatch.setattr(watermarks, "RECORDS_KEPT_MAX", 100)
    at = marks()
    at.report("west", "west-1", {0: 0}, 0.0)
    for offset in range(1000):
        at.acknowledged(0, offset, 2, 0.0)
    written: Any = at._of(0)
    assert len(written._offsets) <= 100
    assert at.events_after(0, 0) is None
    assert at.events_after(0, 990) == 20


def test_what_one_peer_lacks_is_kept_for_it() -> None:
    """However far the others are."""
    at = marks()
    at.report("south", "south-1", {0: 5}, 0.0)
    for offset in range(2000):
        at.acknowledged(0, offset, 2, 0.0)
        at.report("west", "west-1", {0: offset}, 0.0)
    assert at.events_after(0, 5) == 2 * 1995


def test_what_everybody_holds_is_let_go() -> None:
    """Reports that advance make room, without changing any answer."""
    at = marks()
    read: Callable[[], int] = lambda: len(at._of(0)._offsets)  # noqa: E731 - one line for one look
    for offset in range(2000):
        at.acknowledged(0, offset, 2, 0.0)
        at.report("west", "west-1", {0: offset}, 0.0)
        assert at.events_after(0, offset) == 2
    assert read() < 1000
