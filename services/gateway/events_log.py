"""Writing the events log: frames go out, durable coordinates come back.

The shell around the packer. It turns closed frames into records, remembers who waits for which row, keeps the
acknowledged ends, and stops for good when a delivery report proves that the log was cut. It belongs to one event loop;
whatever really talks to Kafka sits behind `RecordSink`.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Final, Protocol

from services.common.logging import get_logger
from services.common.problem import Problem
from services.common.tracing import NO_TRACE, Trace
from services.gateway.acked_ends import AckedEnds, Cut
from services.gateway.errors import GatewayError
from services.gateway.frame_trace import FrameTrace, FrameTraces
from services.gateway.metrics import GatewayMetrics
from services.gateway.packer import CloseReason, Frame, FrameLimits, Packer
from services.gateway.wire import Coordinates
from streams.asks import Ask
from streams.events import Received
from streams.frame import encode_frame, frame_headers
from streams.logs import partition_of, record_key

log = get_logger(__name__)


class SinkFull(GatewayError):
    """The sink cannot queue another record; nothing was sent."""


Done = Callable[[str | None, int], None]
"""Called once on the event loop: (why it is not known to be kept, offset); the offset counts when that is None."""


class RecordSink(Protocol):
    """Something that keeps records: Kafka, or a fake."""

    def send(self, partition: int, key: bytes, value: bytes, headers: list[tuple[str, bytes]], done: Done) -> None:
        """Queue a record. Raises SinkFull."""

    async def close(self, timeout_seconds: float) -> None:
        """Wait (bounded) until everything queued is done."""


Kept = Callable[[str | None], None]
"""Called once on the event loop: why it is not known to be on the disk, or None."""


class Keeper(Protocol):
    """Keeps the acknowledged ends on the region's own disk."""

    def keep(self, kept: Kept) -> None:
        """Call back when all that was acknowledged until now is on the disk; it may call at once."""

    async def close(self) -> None:
        """Wait until everybody was called back."""


@dataclass(frozen=True, slots=True)
class NotKept:
    """The log did not acknowledge an event. `refused`: certainly not kept; otherwise nobody knows."""

    cause: str
    refused: bool = False


Outcome = Coordinates | NotKept


class Waiting:
    """Somebody who waits for the outcomes of some events."""

    __slots__ = ("_left", "done", "outcomes")

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self.outcomes: list[Outcome] = [_PENDING] * count
        self._left = count
        self.done: asyncio.Future[None] = loop.create_future()

    def settle(self, slot: int, outcome: Outcome) -> None:
        """Take note of one outcome; the last one ends the wait."""
        self.outcomes[slot] = outcome
        self._left -= 1
        if self._left == 0 and not self.done.done():
            self.done.set_result(None)


_PENDING: Final = NotKept("pending")
_NO_REQUEST: Final = Context()
"""What becomes due is of many requests: lines that are written then name none, and not whichever set the timer."""
Ticket = tuple[Waiting, int]


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What the events log must know about itself."""

    log: str
    partitions: int
    key_fingerprint: str
    limits: FrameLimits
    stall_seconds: float
    """After so long without an acknowledgement for the oldest frame, nothing more is taken."""


class EventsLog:
    """The one writer of an incarnation's events log in this process."""

    def __init__(
        self,
        settings: LogSettings,
        sink: RecordSink,
        ends: AckedEnds,
        keeper: Keeper,
        metrics: GatewayMetrics,
        on_cut: Callable[[Cut], None],
        on_acknowledged: Callable[[int, int, int], None] = lambda _partition, _offset, _events: None,
    ) -> None:
        self._settings = settings
        self._sink = sink
        self._ends = ends
        self._keeper = keeper
        self._metrics = metrics
        self._on_cut = on_cut
        self._on_acknowledged = on_acknowledged
        self._loop = asyncio.get_running_loop()
        self._packer: Packer[Ticket] = Packer(settings.limits)
        self._sent: dict[int, tuple[float, Frame[Ticket]]] = {}
        self._traces = FrameTraces()
        self._sequence = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed: str | None = None
        self._failing = False

    @property
    def name(self) -> str:
        """The log's name."""
        return self._settings.log

    @property
    def partitions(self) -> int:
        """How many partitions it has."""
        return self._settings.partitions

    def waiting(self, count: int) -> Waiting:
        """Whoever will wait for `count` events."""
        return Waiting(count, self._loop)

    def put(
        self,
        events: Sequence[Received],
        waiting: Waiting,
        first_slot: int = 0,
        *,
        more: bool = False,
        patient: bool = False,
        trace: Trace = NO_TRACE,
    ) -> None:
        """Take events; their frames are written when the packer says so. Check `blocker` first.

        The outcomes go to the slots of `waiting` from `first_slot` on. `more` announces that others follow at once,
        so that frames are not closed in between only because nothing is in flight; `patient`, that nobody waits.
        """
        if self._closed is not None:
            for slot in range(first_slot, first_slot + len(events)):
                waiting.settle(slot, NotKept(self._closed, refused=True))
            return
        now = self._loop.time()
        partitions = self._settings.partitions
        add = self._packer.add
        for slot, event in enumerate(events, first_slot):
            key = event.partition_key
            partition = partition_of(key, partitions)
            if trace.recorded:
                self._traces.joins(partition, trace)
            full = add(partition, key, event.row, (waiting, slot), now, patient=patient)
            if full is not None:
                self._write(full)
        if not more:
            self._settle()

    def put_with_ask(self, event: Received | None, ask: Ask, key: int, trace: Trace = NO_TRACE) -> Waiting:
        """Write an ask at once, behind `event` (if any) and all earlier events of its partition."""
        waiting = Waiting(1, self._loop)
        now = self._loop.time()
        partition = partition_of(key, self._settings.partitions)
        if event is not None:
            self._traces.joins(partition, trace)
            full = self._packer.add(partition, key, event.row, (waiting, 0), now)
            if full is not None:
                self._write(full)
        self._write(self._packer.ask(partition, key, ask, now, (waiting, 0) if event is None else None), trace)
        return waiting

    def put_packed(self, partition: int, key: int, value: bytes, events: int) -> Waiting:
        """Write a frame that is packed and encoded already; the one outcome is that of the whole frame."""
        waiting = Waiting(1, self._loop)
        if self._closed is not None:
            waiting.settle(0, NotKept(self._closed, refused=True))
            return waiting
        frame: Frame[Ticket] = Frame(
            partition, key, due=0.0, riders=[(waiting, 0)], reason=CloseReason.INBOX, carried=events
        )
        self._send(frame, value, frame_headers(events, self._settings.key_fingerprint, []))
        return waiting

    def blocker(self) -> Problem | None:
        """Why nothing can be taken now, or None."""
        if self._closed is not None:
            return Problem(
                503, "closed", self._closed, remedy="Send it again, with the same ids.", retry_after_seconds=1
            )
        waited = self.oldest_unacknowledged_seconds()
        if waited < self._settings.stall_seconds:
            return None
        return Problem(
            503,
            "log-stalled",
            f"the log has not acknowledged anything for {waited:.1f} s; nothing of this request was kept",
            remedy="Send it again after Retry-After, with the same ids.",
            retry_after_seconds=1,
        )

    def oldest_unacknowledged_seconds(self) -> float:
        """For how long the oldest frame in flight has waited; 0 when none is in flight."""
        return self._loop.time() - next(iter(self._sent.values()))[0] if self._sent else 0.0

    @property
    def in_flight(self) -> int:
        """Frames that are in flight."""
        return len(self._sent)

    def stop(self, reason: str) -> None:
        """Take nothing more. Whoever waits still learns the outcome."""
        self._closed = self._closed or reason

    async def close(self, timeout_seconds: float) -> None:
        """Write what is open, and wait (bounded) for the acknowledgements."""
        self.stop("the gateway is stopping")
        for frame in self._packer.flush():
            self._write(frame)
        await self._sink.close(timeout_seconds)
        await self._keeper.close()
        self.abandon("the gateway stopped before the log acknowledged it")
        if self._timer is not None:
            self._timer.cancel()

    def abandon(self, cause: str) -> None:
        """Take nothing more, and wait for nothing: what is in flight has an unknown outcome, the rest is not kept."""
        self.stop(cause)
        for frame in self._packer.flush():
            self._packer.done(frame.partition)
            _settle_all(frame, NotKept(cause, refused=True))
        for sequence, (_, frame) in list(self._sent.items()):
            self._failed(sequence, frame, NotKept(cause))

    def _settle(self) -> None:
        now = self._loop.time()
        for frame in self._packer.settle(now):
            self._write(frame)
        due = self._packer.next_due()
        if self._timer is not None and (due is None or self._timer.when() > due):
            self._timer.cancel()
            self._timer = None
        if due is not None and self._timer is None:
            self._timer = self._loop.call_at(due, self._on_timer, context=_NO_REQUEST)

    def _on_timer(self) -> None:
        self._timer = None
        self._settle()

    def _write(self, frame: Frame[Ticket], asking: Trace = NO_TRACE) -> None:
        traced = self._traces.closed(frame.partition, asking)
        parent = traced.traceparent() if traced is not None else ""
        try:
            headers = frame_headers(len(frame.rows), self._settings.key_fingerprint, frame.asks, parent)
            value = encode_frame(frame.rows)
        except Exception as error:
            # Whatever it was, it must not leave a frame in flight for ever: that would stop the whole gateway.
            log.exception("a frame cannot be encoded", partition=frame.partition, events=len(frame.rows))
            self._packer.done(frame.partition)
            self._metrics.frames_failed.inc()
            _settle_all(frame, NotKept(f"it cannot be encoded: {error}", refused=True))
            return
        self._send(frame, value, headers, traced)

    def _send(
        self,
        frame: Frame[Ticket],
        value: bytes,
        headers: list[tuple[str, bytes]],
        traced: FrameTrace | None = None,
    ) -> None:
        self._sequence += 1
        sequence = self._sequence
        self._traces.flies(sequence, traced)
        self._sent[sequence] = self._loop.time(), frame
        self._metrics.frame(frame.reason, frame.events)
        try:
            self._sink.send(
                frame.partition,
                record_key(frame.key),
                value,
                headers,
                lambda error, offset: self._done(sequence, frame, error, offset),
            )
        except SinkFull as error:
            self._failed(sequence, frame, NotKept(str(error), refused=True))

    def _done(self, sequence: int, frame: Frame[Ticket], error: str | None, offset: int) -> None:
        if sequence not in self._sent:
            return  # given up before
        if error is not None or offset < 0:
            # A broker that has seen a record before, but not where, reports no offset.
            self._failed(sequence, frame, NotKept(error or "the broker did not say at which offset"))
        elif (cut := self._ends.acknowledge(frame.partition, offset)) is not None:
            self.stop(str(cut))
            self._failed(sequence, frame, NotKept(str(cut)))
            self._on_cut(cut)
        else:
            self._traces.acknowledged(sequence)
            self._keeper.keep(lambda problem: self._kept(sequence, frame, problem, offset))
            return
        self._settle()

    def _kept(self, sequence: int, frame: Frame[Ticket], problem: str | None, offset: int) -> None:
        """The log has it, and the own disk knows that (or not): now it may be said."""
        if sequence not in self._sent:
            return  # given up before
        if problem is not None:
            self._failed(sequence, frame, NotKept(problem))
        else:
            if self._failing:
                self._failing = False
                log.info("the log acknowledges again")
            self._landed(frame)
            self._on_acknowledged(frame.partition, offset, frame.events)
            self._metrics.frame_seconds.observe(self._loop.time() - self._sent.pop(sequence)[0])
            name, partition = self._settings.log, frame.partition
            if (traced := self._traces.landed(sequence)) is not None:
                traced.kept(name, partition, offset, frame.events, frame.reason.value)
            for index, (waiting, slot) in enumerate(frame.tickets):
                waiting.settle(slot, Coordinates(log=name, partition=partition, offset=offset, index=index))
            for waiting, slot in frame.riders:
                waiting.settle(slot, Coordinates(log=name, partition=partition, offset=offset))
        self._settle()

    def _landed(self, frame: Frame[Ticket]) -> None:
        """A frame is no longer in flight. Those of the inbox were never counted: apps' frames do not wait for them."""
        if not frame.carried:
            self._packer.done(frame.partition)

    def _failed(self, sequence: int, frame: Frame[Ticket], outcome: NotKept) -> None:
        self._landed(frame)
        if not outcome.refused:
            self._ends.unknown(frame.partition)
        del self._sent[sequence]
        if (traced := self._traces.landed(sequence)) is not None:
            traced.failed(outcome.cause)
        self._metrics.frames_failed.inc()
        if not self._failing:
            self._failing = True
            log.warning("the log does not acknowledge", reason=outcome.cause)
        _settle_all(frame, outcome)


def _settle_all(frame: Frame[Ticket], outcome: NotKept) -> None:
    for waiting, slot in (*frame.tickets, *frame.riders):
        waiting.settle(slot, outcome)
