"""Living through a shop's log in one process: the real fold, index, catalogue, retrieval and encoding, no broker.

Training and offline evaluation both walk a log like this, so what a model learns from and what it is judged on are
the very tensors that it will get when it serves. Each search is asked before it is told, and its click is told
when it happened (`models.records.timeline`). A region that serves has folded the search itself when it is asked; that
makes no difference, because retrieval does not take the search that is being answered for history.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
import xxhash

from models.catalogue import Catalogue
from models.counters import CounterView
from models.data.logged import LoggedSource
from models.encode import Tensors, encode
from models.records import ItemRecord, OutcomeRecord, SearchRecord, Source, timeline
from models.retrieval import CANDIDATES_MAX, Candidates, Retriever
from streams.asks import Ask, AskKind
from streams.fold import Fold
from streams.frame import EventRow, decode_frame, encode_frame, frame_headers
from streams.index import ReadIndex
from streams.kinds import Kind
from streams.state import Parameters, State

Step = ItemRecord | SearchRecord | OutcomeRecord
LOG: Final = "walk-1.events"
_KINDS: Final = {"click": Kind.CLICK, "cart": Kind.CART, "purchase": Kind.PURCHASE}


@dataclass(frozen=True, slots=True)
class Moment:
    """A search right before it is told: what was asked, and what is known."""

    search: SearchRecord
    ask: Ask
    candidates: Candidates
    tensors: Tensors


def number_of(text: str) -> int:
    """Stands in for the keyed pseudonym of a user or session: there is no secret to keep here."""
    return xxhash.xxh3_64_intdigest(text.encode())


def event_of(step: Step) -> EventRow:
    """The event that a step of a log is published as."""
    if isinstance(step, ItemRecord):
        identity = f"item {step.item} {step.time_ms}"
        body = msgspec.json.encode(
            {
                "title": step.title,
                "category": step.category,
                "price": step.price,
                "attributes": step.attributes,
                "stock": step.stock,
            }
        )
        return EventRow(_identity(identity), step.time_ms, 0, 0, Kind.ITEM, item=step.item, body=body)
    search = step.search if isinstance(step, OutcomeRecord) else step
    user, session = number_of(search.user), number_of(search.session)
    if isinstance(step, SearchRecord):
        return EventRow(_identity(f"search {step.index}"), step.time_ms, user, session, Kind.SEARCH, query=step.query)
    return EventRow(
        _identity(f"{step.kind} {search.index}"),
        step.time_ms,
        user,
        session,
        _KINDS[step.kind],
        query=search.query,
        item=search.clicked,
    )


def _identity(text: str) -> bytes:
    return xxhash.xxh3_128_digest(text.encode())


class Walk:
    """One shop's state as it grows; of a source that was cut from logs, with the events as they were written there."""

    def __init__(self, parameters: Parameters | None = None, logged: LoggedSource | None = None) -> None:
        self._logged = logged
        self.state = State(parameters or Parameters())
        self.index = ReadIndex(self.state)
        self.fold = Fold(self.state, self.index)
        self.catalogue = Catalogue(self.state.catalogue)
        self.retriever = Retriever(self.catalogue)
        self._staged: list[EventRow] = []
        self._offset = 0

    def tell(self, step: Step | EventRow) -> None:
        """Let a step have happened; it is folded before the next read."""
        self._staged.append(self._row(step))
        if len(self._staged) >= 10_000:
            self.settle()

    def settle(self) -> None:
        """Fold what was told."""
        if not self._staged:
            return
        columns = decode_frame(encode_frame(self._staged), frame_headers(len(self._staged), "walk"))
        applied = self.fold.apply(columns, LOG, 0, self._offset, 0, -1)
        self.catalogue.follow(applied.changed_items)
        self._offset += 1
        self._staged.clear()

    def ask(
        self,
        search: SearchRecord,
        kind: AskKind = "search",
        limit: int = CANDIDATES_MAX,
        view: CounterView | None = None,
    ) -> Moment:
        """What would be scored if this search (or, without its query, its user) were answered now.

        With a `view` it is answered out of those counters instead of this walk's own.
        """
        self.settle()
        ask = Ask(
            ask_id=str(search.index),
            reply_to="",
            kind=kind,
            deadline_unix_ms=0,
            at_ms=search.time_ms,
            user=self._user(search),
            query=search.query if kind == "search" else "",
        )
        view = self.index.read(ask.at_ms) if view is None else view
        candidates = self.retriever.candidates(ask, view, limit)
        return Moment(search, ask, candidates, encode(ask, candidates, view, self.catalogue))

    def _row(self, step: Step | EventRow) -> EventRow:
        if isinstance(step, EventRow):
            return step
        if self._logged is not None and isinstance(step, SearchRecord):
            return self._logged.row_of(step)
        return event_of(step)

    def _user(self, search: SearchRecord) -> int:
        return number_of(search.user) if self._logged is None else self._logged.row_of(search).user


def lived(source: Source, end: int | None = None) -> tuple[Walk, Iterator[Step | EventRow]]:
    """A new walk, and what to tell it up to the search before `end`, in order of time.

    Of a source that was cut from logs these are the events themselves, those included that no record speaks of.
    """
    if isinstance(source, LoggedSource):
        return Walk(source.parameters, source), source.lived(end)
    return Walk(), steps(source, end)


def steps(source: Source, end: int | None = None) -> Iterator[Step]:
    """The first `end` searches of a source with everything around them, in order of time."""
    return timeline(source.searches[:end], source.items)
