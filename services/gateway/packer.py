"""When does a frame close? The pure core of the gateway's writing side.

Every record costs the same whatever is inside it, here, in Kafka and in the processor. So a frame should be as full
as it can be without anybody waiting for it in vain, and how full that is depends on the load:

* nothing of the partition is in flight: close at once, waiting would only add latency;
* something is: the next acknowledgement will come within milliseconds, so let events gather, up to a target count or
  an age, as long as only a few frames are in flight;
* many are: the log is what limits, so let frames grow to their hard bounds instead of queueing small ones;
* somebody waits for a ranking: close at once, whatever the load;
* nobody waits for an event at all (what was shown): let it ride on its partition's next frame, for some time.

This is Nagle's algorithm per partition, with a bypass. No clock, no I/O: the shell says what time it is, when a frame
was acknowledged, and does what it is told.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Generic, TypeVar

from streams.asks import Ask
from streams.frame import EVENTS_MAX, EventRow

TicketT = TypeVar("TicketT")

ROW_BYTES: Final = 80
"""Fixed-width columns, dictionary indices and offsets of one row, rounded up."""


class CloseReason(Enum):
    """Why a frame was closed; a metric label."""

    IDLE = "idle"
    EVENTS = "events"
    BYTES = "bytes"
    AGE = "age"
    ASK = "ask"
    SHUTDOWN = "shutdown"
    INBOX = "inbox"
    """It was closed elsewhere."""


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """Bounds of a frame. `events_target` applies while the log keeps up, `events_max` and `bytes_max` always."""

    events_target: int = 250
    events_max: int = 4_000
    bytes_max: int = 1 << 20
    age_seconds: float = 0.005
    patient_age_seconds: float = 0.1
    """Age at which a frame closes that holds only events for which nobody waits."""
    in_flight_max: int = 4
    """Frames of one partition that may be in flight before frames grow instead."""

    def __post_init__(self) -> None:
        if not 1 <= self.events_target <= self.events_max <= EVENTS_MAX:
            raise ValueError(f"need 1 <= events_target <= events_max <= {EVENTS_MAX}")
        if not 1 <= self.bytes_max <= 3 << 20:
            raise ValueError("bytes_max must leave room below the log's largest message (4 MiB): at most 3 MiB")


@dataclass(slots=True)
class Frame(Generic[TicketT]):
    """Events of one partition that become one record. `tickets[i]` is whoever waits for `rows[i]`."""

    partition: int
    key: int
    """The partitioning number of the first event or ask; the record's key."""
    due: float
    """When its age closes it."""
    urgent: bool = False
    """Somebody waits for one of its events."""
    rows: list[EventRow] = field(default_factory=list)
    tickets: list[TicketT] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    riders: list[TicketT] = field(default_factory=list)
    """Whoever waits for the frame as a whole: asks without an event of their own."""
    size_bytes: int = 0
    reason: CloseReason = CloseReason.IDLE
    carried: int = 0
    """Events of a frame that came packed and encoded, from the inbox's worker; such a frame has no rows."""

    @property
    def events(self) -> int:
        """How many events it holds."""
        return self.carried or len(self.rows)


class Packer(Generic[TicketT]):
    """One open frame a partition. Whatever a method returns is closed and must be written, in that order."""

    def __init__(self, limits: FrameLimits) -> None:
        self._limits = limits
        self._open: dict[int, Frame[TicketT]] = {}
        self._in_flight: dict[int, int] = {}

    def add(
        self, partition: int, key: int, row: EventRow, ticket: TicketT, now: float, *, patient: bool = False
    ) -> Frame[TicketT] | None:
        """Put an event into its partition's frame; returns the frame if that filled it. `patient`: nobody waits."""
        frame = self._frame(partition, key, now)
        if not patient and not frame.urgent:
            frame.urgent = True
            frame.due = min(frame.due, now + self._limits.age_seconds)
        frame.rows.append(row)
        frame.tickets.append(ticket)
        frame.size_bytes += ROW_BYTES + len(row.body) + 4 * (len(row.query) + len(row.item))
        if frame.size_bytes >= self._limits.bytes_max:
            return self._close(frame, CloseReason.BYTES)
        count = len(frame.rows)
        if count >= self._limits.events_max or (count >= self._limits.events_target and self._may_fly(partition)):
            return self._close(frame, CloseReason.EVENTS)
        return None

    def ask(self, partition: int, key: int, ask: Ask, now: float, rider: TicketT | None = None) -> Frame[TicketT]:
        """Let an ask ride on its partition's frame, behind the events that are in it, and close that at once."""
        frame = self._frame(partition, key, now)
        frame.asks.append(ask)
        if rider is not None:
            frame.riders.append(rider)
        return self._close(frame, CloseReason.ASK)

    def alone(self, partition: int, key: int, row: EventRow, ticket: TicketT) -> Frame[TicketT]:
        """A frame with one event and nothing else, beside the open one."""
        self._in_flight[partition] = self._in_flight.get(partition, 0) + 1
        return Frame(partition, key, 0.0, rows=[row], tickets=[ticket], reason=CloseReason.EVENTS)

    def settle(self, now: float) -> list[Frame[TicketT]]:
        """Close what is due: to be called after a request's events, when a frame was done, and at `next_due`."""
        return list(self._due(now))

    def done(self, partition: int) -> None:
        """A closed frame of this partition is no longer in flight, kept or not."""
        left = self._in_flight.get(partition, 0) - 1
        if left < 0:
            raise AssertionError(f"more frames of partition {partition} were done than closed")
        self._in_flight[partition] = left

    def next_due(self) -> float | None:
        """When `settle` will next close a frame because of its age; None while acknowledgements must come first."""
        return min((frame.due for frame in self._open.values() if self._may_fly(frame.partition)), default=None)

    def flush(self) -> list[Frame[TicketT]]:
        """Close everything."""
        return [self._close(frame, CloseReason.SHUTDOWN) for frame in list(self._open.values())]

    @property
    def in_flight(self) -> int:
        """Frames that were closed and are not done."""
        return sum(self._in_flight.values())

    def _frame(self, partition: int, key: int, now: float) -> Frame[TicketT]:
        frame = self._open.get(partition)
        if frame is None:
            frame = self._open[partition] = Frame(partition, key, now + self._limits.patient_age_seconds)
        return frame

    def _may_fly(self, partition: int) -> bool:
        return self._in_flight.get(partition, 0) < self._limits.in_flight_max

    def _due(self, now: float) -> Iterator[Frame[TicketT]]:
        for frame in list(self._open.values()):
            if frame.urgent and self._in_flight.get(frame.partition, 0) == 0:
                yield self._close(frame, CloseReason.IDLE)
            elif self._may_fly(frame.partition):
                if len(frame.rows) >= self._limits.events_target:
                    yield self._close(frame, CloseReason.EVENTS)
                elif now >= frame.due:
                    yield self._close(frame, CloseReason.AGE)

    def _close(self, frame: Frame[TicketT], reason: CloseReason) -> Frame[TicketT]:
        del self._open[frame.partition]
        self._in_flight[frame.partition] = self._in_flight.get(frame.partition, 0) + 1
        frame.reason = reason
        return frame
