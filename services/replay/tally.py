"""What became of the events: counted, and written down for the ledger."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from services.client import Accepted, Coordinates, Event, Outcome, Refused
from services.ledger.acks import Ack, AckWriter

EXAMPLES_MAX = 5


class PublishReport(msgspec.Struct, frozen=True):
    """Outcomes of all events; `examples` are some reasons of refusals and of unknown outcomes."""

    acknowledged: int
    refused: int
    unknown: int
    examples: list[str]


class Tally:
    """Counts outcomes; an event whose outcome was unknown counts as acknowledged once a flush says so."""

    def __init__(self, acks: AckWriter | None = None, wall_ms: Callable[[], int] = lambda: 0) -> None:
        self._acks = acks
        self._wall_ms = wall_ms
        self._examples: Counter[str] = Counter()
        self._waiting: dict[str, Event] = {}
        self._newest: dict[tuple[str, int], Coordinates] = {}
        self.acknowledged = 0
        self.refused = 0

    @property
    def unknown(self) -> int:
        """Events whose outcome is not known yet."""
        return len(self._waiting)

    def note(self, events: Sequence[Event], outcomes: Sequence[Outcome]) -> None:
        """Take the outcomes of a publish call, in its order."""
        for event, outcome in zip(events, outcomes, strict=True):
            if isinstance(outcome, Accepted):
                self.acknowledge(event, outcome.coordinates)
            elif isinstance(outcome, Refused):
                self.refused += 1
                self._waiting.pop(event.id, None)
                self._examples[outcome.problem.sentence()] += 1
            else:
                self._waiting[event.id] = event
                self._examples[outcome.reason] += 1

    def note_flushed(self, outcomes: Sequence[Outcome]) -> None:
        """Take the outcomes of a flush, which come in any order."""
        known = [outcome for outcome in outcomes if outcome.id in self._waiting]
        self.note([self._waiting[outcome.id] for outcome in known], known)

    def acknowledge(self, event: Event, coordinates: Coordinates) -> None:
        """The region holds this event for good."""
        self._waiting.pop(event.id, None)
        self.acknowledged += 1
        keep_newest(self._newest, coordinates)
        if self._acks is not None:
            self._acks.write(ack_of(event, coordinates, self._wall_ms()))

    def newest(self) -> tuple[Coordinates, ...]:
        """The newest acknowledged coordinates of every partition of every log."""
        return tuple(self._newest.values())

    def report(self) -> PublishReport:
        """The counts so far."""
        examples = [f"{reason} ({count} times)" for reason, count in self._examples.most_common(EXAMPLES_MAX)]
        return PublishReport(self.acknowledged, self.refused, self.unknown, examples)


def keep_newest(newest: dict[tuple[str, int], Coordinates], where: Coordinates) -> None:
    """Let `where` replace an older place in the same partition."""
    known = newest.get((where.log, where.partition))
    if known is None or (known.offset, known.index) < (where.offset, where.index):
        newest[where.log, where.partition] = where


def newest_of(places: Iterable[Coordinates]) -> tuple[Coordinates, ...]:
    """The newest place in each partition."""
    newest: dict[tuple[str, int], Coordinates] = {}
    for where in places:
        keep_newest(newest, where)
    return tuple(newest.values())


def ack_of(event: Event, coordinates: Coordinates, acknowledged_ms: int = 0) -> Ack:
    """The line for the ledger."""
    body = event.body
    return Ack(
        source=event.source,
        id=event.id,
        time_ms=event.time_ms,
        kind=body.kind,
        log=coordinates.log,
        partition=coordinates.partition,
        offset=coordinates.offset,
        index=coordinates.index,
        query=getattr(body, "query", None) or "",
        item=getattr(body, "item", None) or "",
        user=body.user_or_none or "",
        acknowledged_ms=acknowledged_ms,
    )
