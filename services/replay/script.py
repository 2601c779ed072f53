"""From a shop's log to the steps of a replay: what is said, when, and under which id.

Ids come from the log's own numbering, so publishing the same log twice counts every event once, and a replay
that was interrupted can simply be run again. Steps keep the order of time: a click is said after the searches
that were made before it, which is what makes the measured quality honest."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from models.records import ItemRecord, OutcomeRecord, SearchRecord, Source, timeline
from services.client import Body, Cart, Click, Event, Item, Purchase, Search

OUTCOME_BODIES: Final[dict[str, type[Click] | type[Cart] | type[Purchase]]] = {
    "click": Click,
    "cart": Cart,
    "purchase": Purchase,
}


class SearchStep(msgspec.Struct, frozen=True):
    """A search that may be ranked; when it is, the ranking request writes the event."""

    search: SearchRecord
    event: Event


class EventStep(msgspec.Struct, frozen=True):
    """Something to publish. `outcome` is set when it followed a search."""

    event: Event
    outcome: OutcomeRecord | None = None


Step = SearchStep | EventStep


class Script:
    """The steps of one replay of one log."""

    def __init__(self, source: Source, event_source: str = "") -> None:
        self._source = source
        self.event_source = event_source or f"/replay/{source.name}"

    def catalogue(self) -> list[EventStep]:
        """The catalogue as it stood when the first search was made."""
        return [self._item(record) for record in self._source.items if record.time_ms <= self._start_ms()]

    def steps(self, skip: int = 0, limit: int | None = None) -> Iterator[Step]:
        """Everything else in order of time, for `limit` searches after the first `skip`."""
        searches = self._source.searches[skip : None if limit is None else skip + limit]
        changes = [record for record in self._source.items if record.time_ms > self._start_ms()]
        if searches and limit is not None and skip + limit < len(self._source.searches):
            end_ms = searches[-1].time_ms
            changes = [record for record in changes if record.time_ms <= end_ms]
        for record in timeline(searches, changes):
            if isinstance(record, SearchRecord):
                yield SearchStep(record, self._event(record.time_ms, f"{record.index}-search", _search(record)))
            elif isinstance(record, OutcomeRecord):
                yield self._outcome(record)
            else:
                yield self._item(record)

    def _start_ms(self) -> int:
        return self._source.searches[0].time_ms if self._source.searches else 0

    def _item(self, record: ItemRecord) -> EventStep:
        body = Item(
            item=record.item,
            title=record.title or record.item,
            category=record.category or None,
            price=record.price,
            attributes=record.attributes or None,
            stock=record.stock,
        )
        return EventStep(self._event(record.time_ms, f"item-{record.item}-{record.time_ms}", body))

    def _outcome(self, record: OutcomeRecord) -> EventStep:
        search = record.search
        kind = OUTCOME_BODIES[record.kind]
        body = kind(
            user=search.user,
            item=search.clicked,
            query=search.query or None,
            session=search.session or None,
        )
        return EventStep(self._event(record.time_ms, f"{search.index}-{record.kind}", body), record)

    def _event(self, time_ms: int, event_id: str, body: Body) -> Event:
        return Event(body=body, id=event_id, time_ms=time_ms, source=self.event_source)


def _search(record: SearchRecord) -> Search:
    return Search(user=record.user, query=record.query, session=record.session or None)


def chunks(steps: Iterable[Step], size: int) -> Iterator[list[Event]]:
    """The events of the steps in lists of `size`."""
    chunk: list[Event] = []
    for step in steps:
        chunk.append(step.event)
        if len(chunk) >= size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def split(steps: Iterable[Step], searches: int) -> tuple[list[Step], list[Step]]:
    """Cut right before the search number `searches` (from 0): what stands before it, and the rest.

    Clicks on earlier searches that were made later stay in the rest, where they belong in time.
    """
    before: list[Step] = []
    rest: list[Step] = []
    seen = 0
    for step in steps:
        if isinstance(step, SearchStep):
            seen += 1
        (rest if seen > searches else before).append(step)
    return before, rest


def searches_in(steps: Sequence[Step]) -> int:
    """How many searches there are among the steps."""
    return sum(isinstance(step, SearchStep) for step in steps)
