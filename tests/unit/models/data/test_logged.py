"""Events into a source: each once, in one order whatever order they came in, each click with its own search."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.log_cut import cut_source, refuse_other, wanted_frontier
from models.data.logged import JOIN_MS_MAX, frontier_of, source_of
from models.errors import SourceUnreadable
from models.frontier import CutFrontier, RowsFrontier
from models.records import SearchRecord, Source
from streams.asks import RankingId
from streams.digest import digest
from streams.frame import EventRow
from streams.kinds import Kind, Rung
from streams.position import Frontier
from streams.state import Parameters
from tests.support.streams_of_events import LOG, Shape, events, fold_all, row, splits

RANKING = RankingId(1_000, 0, int(Rung.MODEL), 7, 9).to_bytes()


def search(time_ms: int, user: int = 1, query: str = "red lamp") -> EventRow:
    """A search; its session is its user's only one."""
    return row(Kind.SEARCH, time_ms, user=user, session=user, query=query)


def click(time_ms: int, item: str, user: int = 1, query: str = "red lamp", kind: Kind = Kind.CLICK) -> EventRow:
    """A click, or what follows one."""
    return row(kind, time_ms, user=user, session=user, query=query, item=item)


def labels(*rows: EventRow) -> list[str]:
    """What was clicked for each search, in order of time."""
    return [found.clicked for found in source_of("log", rows).searches]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_neither_order_nor_repetition_shows(seed: int) -> None:
    """The same set of events is the same source, and every distinct event is walked once."""
    g = random.Random(seed)
    rows = events(seed, Shape(events=80, grain_ms=40_000_000))
    shuffled = [*rows, *g.sample(rows, 30)]
    g.shuffle(shuffled)
    source, again = source_of("log", rows), source_of("log", shuffled)
    assert again == source
    told = [each for each in again.lived() if not isinstance(each, SearchRecord)]
    asked = [again.row_of(each) for each in again.lived() if isinstance(each, SearchRecord)]
    last = source.asked[-1] if asked else -1
    assert {each.identity for each in [*told, *asked]} == {each.identity for each in source.rows[: last + 1]}
    assert len(told) + len(asked) == last + 1
    joined = source.joined
    assert joined.first + joined.further + joined.alone == joined.clicks
    assert joined.first == sum(bool(found.clicked) for found in source.searches)


def test_a_click_belongs_to_the_newest_search_before_it() -> None:
    """Of the same user for the same query, however it was spelled; the first click is the answer."""
    assert labels(search(1), search(5, query="Red  Lamp!"), click(9, "a"), click(11, "b")) == ["", "a"]
    assert labels(search(1), search(2, user=2), click(3, "a", user=2)) == ["", "a"]
    assert labels(search(1), click(3, "a", query="blue lamp"), click(4, "b", query="")) == [""]
    assert labels(search(5), click(4, "before"), click(5, "at once")) == ["at once"]
    assert labels(search(1), click(2 + JOIN_MS_MAX, "too late")) == [""]
    joined = source_of("log", [search(1), click(2, "a"), click(3, "b"), click(4, "c", user=2)]).joined
    assert (joined.clicks, joined.first, joined.further, joined.alone) == (3, 1, 1, 1)


def test_a_click_that_names_its_ranking_belongs_to_that() -> None:
    """Also when the same query was asked again in between."""
    served = row(Kind.SERVED, 1, user=1, session=1, query="red lamp", ranking=RANKING)
    named = msgspec.structs.replace(click(9, "a"), ranking=RANKING)
    assert labels(search(1), served, search(5), named) == ["a", ""]


def test_cart_and_purchase_follow_the_click_on_their_item() -> None:
    """The furthest step is kept; one for an item that was not clicked changes nothing."""
    steps = [search(1), click(2, "a"), click(3, "a", kind=Kind.PURCHASE), click(4, "a", kind=Kind.CART)]
    assert source_of("log", steps).searches[0].outcome == "purchase"
    steps = [search(1), click(2, "a"), click(3, "b", kind=Kind.PURCHASE)]
    assert source_of("log", steps).searches[0].outcome == "click"


def test_a_cut_names_its_events() -> None:
    """Log, partition, offset, last record and digest; fewer rows are said; a file of searches is named as before."""
    rows = events(3, Shape(events=200))
    frames = splits(rows, random.Random(3))
    state = fold_all(frames, Parameters()).state
    cut = cut_source(rows, state)
    named = frontier_of(cut, 5)
    assert isinstance(named, CutFrontier)
    assert {log: list(partitions) for log, partitions in named.logs.items()} == {LOG: ["0"]}
    point = named.logs[LOG]["0"]
    assert (point.next_offset, int(point.checksum, 16)) == (len(frames), len(frames) - 1)
    assert (named.digest, named.rows) == (digest(state).hex(), 5)
    assert named.last_time_ms == cut.searches[4].time_ms
    assert wanted_frontier(msgspec.to_builtins(named)) == Frontier({(LOG, 0): len(frames)})
    written = msgspec.to_builtins(named)
    refuse_other(cut, written)
    refuse_other(cut, {LOG: {"0": len(frames)}})
    written["logs"][LOG]["0"]["checksum"] = "0" * 16
    with pytest.raises(SourceUnreadable, match="it is not the same log"):
        refuse_other(cut, written)
    assert isinstance(frontier_of(Source(name="file", items=[], searches=cut.searches), 5), RowsFrontier)


@pytest.mark.parametrize("written", [{"a": 1}, {"a": {"x": 1}}, {"a": {"0": "many"}}, {"a": {"0": {}}}, {"logs": 3}])
def test_what_is_no_frontier_is_refused(written: dict[str, object]) -> None:
    """With how to write one."""
    with pytest.raises(SourceUnreadable, match="that is no frontier"):
        wanted_frontier(written)
