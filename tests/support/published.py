"""A made-up shop's log as a region gets it: the client's bytes, the gateway's rows, frames with asks in their headers.

Records as they would stand in Kafka, spread over partitions, in the order in which they are written; without a broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from models.records import Source
from services.client import Event
from services.client.events import encode_event
from services.replay.script import EventStep, Script, SearchStep
from streams.asks import Ask
from streams.cloudevents import read_structured
from streams.events import EventReader, Received
from streams.frame import EventRow, encode_frame, frame_headers
from streams.logs import partition_of
from streams.pseudonym import Pseudonyms

KEY = bytes(range(32))
PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Record:
    """One record of an events log; its place in its partition is its offset."""

    partition: int
    value: bytes
    headers: list[tuple[str, bytes]]


class Gateway:
    """What a gateway makes of events, and of searches that are to be ranked."""

    def __init__(self) -> None:
        self._pseudonyms = Pseudonyms(KEY)
        self._reader = EventReader(self._pseudonyms)

    def received(self, event: Event) -> Received:
        """The row of an event, from the very bytes that the client sends."""
        return self._reader.read(read_structured(encode_event(event)), event.time_ms)

    def record(self, rows: list[EventRow], key: int, asks: list[Ask]) -> Record:
        """A frame of some events and asks of one partition."""
        headers = frame_headers(len(rows), self._pseudonyms.fingerprint, asks)
        return Record(partition_of(key, PARTITIONS), encode_frame(rows), headers)


def published(source: Source, between: Iterable[Event] = ()) -> Iterator[Record]:
    """A record for each step; each search is asked in the frame that carries it. `between` is said at its time."""
    gateway, script = Gateway(), Script(source)
    steps: list[EventStep | SearchStep] = [*script.catalogue(), *script.steps()]
    # At one moment searches come last, as in the log itself; the sort is stable.
    steps = sorted(
        [*steps, *(EventStep(event) for event in between)],
        key=lambda step: (step.event.time_ms, isinstance(step, SearchStep)),
    )
    for number, step in enumerate(steps):
        received = gateway.received(step.event)
        asks: list[Ask] = []
        if isinstance(step, SearchStep):
            row = received.row
            asks = [
                Ask(
                    ask_id=f"ask-{number}",
                    reply_to="gateway-1",
                    kind="search",
                    deadline_unix_ms=row.time_ms + 1_000,
                    at_ms=row.time_ms,
                    user=row.user,
                    query=row.query,
                )
            ]
        yield gateway.record([received.row], received.partition_key, asks)
