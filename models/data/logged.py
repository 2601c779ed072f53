"""A log of searches made from the events themselves, as they stand in the events logs of a region.

Two things come out of one set of events. The *records* (`SearchRecord` with its click) are what training wants to know:
which search, and what was clicked for it. The *rows* are the events as they were written, each once, and they are what
is folded while the log is walked: a view, a second click, a click that belongs to no search are no record, but counters
and histories know them, and so they must be there when features are made again.

A click belongs to the ranking that it names; without one to the newest search of the same user for the same query
before it, at most `JOIN_MS_MAX` earlier. Users and sessions are the keyed numbers of the log and nothing else is known.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from models.frontier import CutFrontier, Joined, RowsFrontier, rows_frontier
from models.records import ItemRecord, OutcomeKind, SearchRecord, Source
from streams.asks import NO_RANKING
from streams.events import ItemBody
from streams.frame import EventRow
from streams.hashing import query_hash
from streams.kinds import Kind
from streams.state import Parameters

JOIN_MS_MAX: Final = 24 * 3_600_000
"""A click this long after a search for the same query is no longer taken for its click."""
_ORDER: Final = {Kind.ITEM: 0, Kind.SEARCH: 2}
"""At the same millisecond: the catalogue, then everything else, then searches (as in `models.records.timeline`)."""
_LATER: Final[dict[Kind, OutcomeKind]] = {Kind.CART: "cart", Kind.PURCHASE: "purchase"}


class LoggedSource(Source, frozen=True, kw_only=True):
    """A source whose events are known as they were written."""

    rows: list[EventRow]
    """Every distinct event, in order of time."""
    asked: list[int]
    """By number of a search, its place in `rows`."""
    joined: Joined
    parameters: Parameters = Parameters()
    """Of the fold that makes features of them: those of the region that serves."""
    cut: CutFrontier | None = None
    """Where the logs were cut; None for events that came another way."""

    def row_of(self, search: SearchRecord) -> EventRow:
        """The event of a search."""
        return self.rows[self.asked[search.index]]

    def lived(self, end: int | None = None) -> Iterator[SearchRecord | EventRow]:
        """Everything in order of time up to the search before `end`: searches as records, the rest as written."""
        end = len(self.searches) if end is None else min(end, len(self.searches))
        number = 0
        for place, row in enumerate(self.rows):
            if number == end:
                return
            if self.asked[number] == place:
                yield self.searches[number]
                number += 1
            else:
                yield row


def source_of(name: str, events: Iterable[EventRow], parameters: Parameters | None = None) -> LoggedSource:
    """Put events in order, each identity once, and join clicks, carts and purchases to their searches."""
    distinct = {row.identity: row for row in events}
    rows = sorted(distinct.values(), key=lambda row: (row.time_ms, _ORDER.get(row.kind, 1), row.identity))
    asked = [place for place, row in enumerate(rows) if row.kind is Kind.SEARCH]
    clicks, joined = _Join(rows, asked).clicks()
    return LoggedSource(
        name=name,
        items=[_item(row) for row in rows if row.kind is Kind.ITEM],
        searches=[_search(number, rows[place], clicks.get(number)) for number, place in enumerate(asked)],
        rows=rows,
        asked=asked,
        joined=joined,
        parameters=parameters or Parameters(),
    )


def frontier_of(source: Source, end: int) -> CutFrontier | RowsFrontier:
    """Which events the first `end` searches of a source stand for, as a manifest names them."""
    if not isinstance(source, LoggedSource) or source.cut is None:
        return rows_frontier(source, end)
    rows = source.searches[:end]
    last_ms = rows[-1].time_ms if rows else 0
    return msgspec.structs.replace(source.cut, rows=len(rows), last_time_ms=last_ms)


def _search(number: int, row: EventRow, click: "_Click | None") -> SearchRecord:
    search = SearchRecord(
        index=number,
        time_ms=row.time_ms,
        user=f"{row.user:016x}",
        query=row.query,
        session=f"{row.session:016x}",
    )
    if click is None:
        return search
    return msgspec.structs.replace(
        search,
        clicked=click.row.item,
        click_time_ms=click.row.time_ms,
        position=click.row.position,
        outcome=click.outcome,
    )


def _item(row: EventRow) -> ItemRecord:
    try:
        body = msgspec.json.decode(row.body, type=ItemBody) if row.body else ItemBody()
    except msgspec.DecodeError:
        body = ItemBody()  # As the catalogue reads it: the entry stands, with nothing known of it.
    return ItemRecord(
        time_ms=row.time_ms,
        item=row.item,
        title=body.title,
        category=body.category,
        price=body.price,
        attributes={name: str(value) for name, value in body.attributes.items()},
        stock=body.stock,
    )


class _Click:
    """The first click on a search, and how far it went."""

    __slots__ = ("outcome", "row")

    def __init__(self, row: EventRow) -> None:
        self.row = row
        self.outcome: OutcomeKind = "click"


class _Join:
    """One pass over the events in order of time."""

    def __init__(self, rows: Sequence[EventRow], asked: Sequence[int]) -> None:
        self._rows = rows
        self._number = {place: number for number, place in enumerate(asked)}
        self._by_query: dict[tuple[int, int], int] = {}
        """(user, query) -> the newest search so far."""
        self._times: dict[int, int] = {}
        self._by_ranking: dict[bytes, int] = {}
        self._by_item: dict[tuple[int, str], int] = {}
        """(user, item) -> the newest search for which it was clicked."""
        self._clicks: dict[int, _Click] = {}
        self._further = self._alone = 0

    def clicks(self) -> tuple[dict[int, _Click], Joined]:
        """The first click by search, and how many clicks found one."""
        for first, end in self._moments():
            # A click made in the millisecond of its own search comes before it in the order: searches are noted first.
            for place in range(first, end):
                self._note(place)
            for place in range(first, end):
                self._take(self._rows[place])
        taken = len(self._clicks)
        return self._clicks, Joined(
            clicks=taken + self._further + self._alone,
            first=taken,
            further=self._further,
            alone=self._alone,
        )

    def _moments(self) -> Iterator[tuple[int, int]]:
        """Runs of rows of the same millisecond."""
        first = 0
        for place in range(1, len(self._rows) + 1):
            if place == len(self._rows) or self._rows[place].time_ms != self._rows[first].time_ms:
                yield first, place
                first = place

    def _note(self, place: int) -> None:
        row = self._rows[place]
        if row.kind is Kind.SEARCH:
            number = self._number[place]
            self._by_query[row.user, query_hash(row.query)] = number
            self._times[number] = row.time_ms

    def _take(self, row: EventRow) -> None:
        if row.kind is Kind.SERVED:
            number = self._search_for(row)
            if number is not None and row.query:
                self._by_ranking[row.ranking] = number
        elif row.kind is Kind.CLICK:
            number = self._by_ranking.get(row.ranking) if row.ranking != NO_RANKING else None
            number = self._search_for(row) if number is None else number
            self._click(row, number)
        elif row.kind in _LATER:
            number = self._by_item.get((row.user, row.item))
            click = None if number is None else self._clicks.get(number)
            if click is not None and click.outcome != "purchase":
                click.outcome = _LATER[row.kind]

    def _click(self, row: EventRow, number: int | None) -> None:
        if number is None:
            self._alone += 1
        elif number in self._clicks:
            self._further += 1
        else:
            self._clicks[number] = _Click(row)
            self._by_item[row.user, row.item] = number

    def _search_for(self, row: EventRow) -> int | None:
        number = self._by_query.get((row.user, query_hash(row.query))) if row.query else None
        return number if number is not None and row.time_ms - self._times[number] <= JOIN_MS_MAX else None
