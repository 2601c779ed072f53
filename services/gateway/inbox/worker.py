"""The worker: records of the inbox in, whole frames out, and a position that follows what is acknowledged.

One thread, one loop: listen to the gateway, read as many records as may wait, check and pack them, send the frames that
are closed, tell what was moved. Nothing is ever dropped: a frame that is not acknowledged is sent again, a record that
cannot be taken counts as done when its dead letter is delivered, and the position is noted after both.
"""

from __future__ import annotations

import select
import socket
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Final, cast

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from services.common.clock import Clock
from services.common.logging import get_logger
from services.gateway.errors import BrokerUnreachable
from services.gateway.inbox.letters import letter_of, reason_of, receipt_of
from services.gateway.inbox.messages import (
    LENGTH,
    Begin,
    Done,
    End,
    FromWorker,
    Packed,
    Report,
    ToWorker,
    decode_to_worker,
    framed,
)
from services.gateway.inbox.pen import Note, Pen
from services.gateway.inbox.reader import InboxReader, epoch_of
from services.gateway.inbox.runs import Run, Runs
from services.gateway.packer import Frame, FrameLimits, Packer
from streams.errors import BadEvent
from streams.events import EventReader
from streams.frame import encode_frame
from streams.kafka_binding import RecordHeaders, read_record
from streams.logs import dead_log, inbox_receipts_topic, partition_of
from streams.pseudonym import Pseudonyms

IDLE_SECONDS: Final = 0.1
BUSY_SECONDS: Final = 0.005
RETRY_SECONDS: Final = 0.2
CLEAN_SECONDS_MAX: Final = 60.0
_CHUNK_BYTES: Final = 1 << 16

log = get_logger(__name__)
Ticket = tuple[Run, int]


@dataclass(slots=True)
class _Sent:
    """A frame on its way: what to send again, and whose events it holds."""

    frame: Frame[Ticket]
    message: bytes


class GatewayGone(Exception):
    """The other end of the socket is closed."""


class Line:
    """The worker's end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()

    def send(self, message: bytes) -> None:
        """Send all of it; waits while the gateway does not read. Raises GatewayGone."""
        try:
            self._sock.setblocking(True)
            self._sock.sendall(message)
        except OSError as error:
            raise GatewayGone from error

    def receive(self, wait_seconds: float) -> list[ToWorker]:
        """What came; waits so long for something to come. Raises GatewayGone."""
        readable, _, _ = select.select([self._sock], [], [], wait_seconds)
        while readable:
            try:
                chunk = self._sock.recv(_CHUNK_BYTES)
            except OSError as error:  # reset: it died with something unread
                raise GatewayGone from error
            if not chunk:
                raise GatewayGone
            self._buffer += chunk
            if len(chunk) < _CHUNK_BYTES:
                break
            readable, _, _ = select.select([self._sock], [], [], 0)
        messages: list[ToWorker] = []
        at = 0
        while len(self._buffer) - at >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer, at)
            if len(self._buffer) - at - LENGTH.size < length:
                break
            messages.append(decode_to_worker(bytes(self._buffer[at + LENGTH.size : at + LENGTH.size + length])))
            at += LENGTH.size + length
        del self._buffer[:at]
        return messages


@dataclass(slots=True)
class _Due:
    """When the things are next done that are done now and then, in seconds of the monotonic clock."""

    note: float = 0.0
    report: float = 0.0
    clean: float = 0.0
    again: dict[int, float] = field(default_factory=dict)
    """By sequence: frames that failed, and when they are sent again."""


class Worker:
    """`run` is the process."""

    def __init__(self, line: Line, begin: Begin, pseudonyms: Pseudonyms, clock: Clock) -> None:
        self._line = line
        self._begin = begin
        self._clock = clock
        self._events = EventReader(pseudonyms)
        limits = FrameLimits(
            events_target=begin.frame_events_target,
            events_max=begin.frame_events_max,
            bytes_max=begin.frame_bytes_max,
            age_seconds=begin.frame_age_seconds,
            in_flight_max=begin.frames_in_flight_max,
        )
        self._packer: Packer[Ticket] = Packer(limits)
        self._runs = Runs()
        self._reader = InboxReader(begin.bootstrap, begin.incarnation, self._runs, begin.moved_before, self._tell)
        self._pen = Pen(begin.bootstrap)
        self._sent: dict[int, _Sent] = {}
        self._sequence = 0
        self._outcomes: Counter[str] = Counter()
        self._due = _Due()
        self._trouble = ""
        self._reported: dict[int, int] = {}
        self._ending = False

    def run(self) -> None:
        """Work until the gateway says End or is gone. Raises ProducerBroken."""
        try:
            self._open()
            while not (self._ending and not self._runs.waiting):
                self._step()
            self._reader.close()
            self._pen.close()
        except GatewayGone:
            log.info("the gateway is gone")

    def _open(self) -> None:
        while not self._ending:
            try:
                return self._reader.open()
            except BrokerUnreachable as error:
                self._say(str(error))
            self._listen(RETRY_SECONDS)
        return None

    def _step(self) -> None:
        full = self._ending or self._is_full()
        self._listen(BUSY_SECONDS if full else 0.0)
        self._pen.work()
        if not full:
            self._read()
        now = self._clock.monotonic()
        for frame in self._packer.settle(now):
            self._pack(frame)
        for sequence in [sequence for sequence, at in self._due.again.items() if now >= at]:
            del self._due.again[sequence]
            self._line.send(self._sent[sequence].message)
        self._conclude(now)

    def _is_full(self) -> bool:
        runs, begin = self._runs, self._begin
        return runs.waiting >= begin.events_waiting_max or runs.waiting_bytes >= begin.bytes_waiting_max

    def _read(self) -> None:
        count = min(self._begin.read_events_max, self._begin.events_waiting_max - self._runs.waiting)
        try:
            messages = self._reader.read(count, BUSY_SECONDS if self._runs.waiting else IDLE_SECONDS)
        except BrokerUnreachable as error:
            self._say(str(error))
            return self._listen(RETRY_SECONDS)
        by_partition: dict[int, list[Message]] = {}
        for message in messages:
            by_partition.setdefault(message.partition() or 0, []).append(message)
        for partition_, found in by_partition.items():
            self._take(partition_, found)
        return None

    def _take(self, inbox_partition: int, messages: list[Message]) -> None:
        """Check records of one partition and let the packer have them."""
        offsets = [message.offset() or 0 for message in messages]
        values = [message.value() for message in messages]
        size_bytes = sum(len(value) for value in values if value is not None)
        run = Run(
            inbox_partition, offsets, messages[0].timestamp()[1], size_bytes, epoch_of(messages[-1].leader_epoch())
        )
        self._runs.take(run)
        now, partitions = self._clock.monotonic(), self._begin.partitions
        read, add = self._events.read, self._packer.add
        for slot, (message, value) in enumerate(zip(messages, values, strict=True)):
            kind, stamped_ms = message.timestamp()
            # What is too far ahead is judged by the time when it came in, so that it is the same at every try.
            arrived_ms = stamped_ms if kind == TIMESTAMP_LOG_APPEND_TIME else self._clock.unix_ms()
            try:
                event = read(read_record(cast("RecordHeaders | None", message.headers()), value), arrived_ms)
            except BadEvent as error:
                self._bury(run, slot, value, reason_of(error))
                continue
            except Exception as error:  # noqa: BLE001 - said here
                # Whatever it is, one record must not stop the inbox. What an exception says may be what the record
                # said, and logs are no place for that.
                kind_of_error = type(error).__name__
                log.error(
                    "a record cannot be read", partition=inbox_partition, offset=offsets[slot], error=kind_of_error
                )
                self._bury(run, slot, value, f"it cannot be read: {type(error).__name__}")
                continue
            key = event.partition_key
            full = add(partition_of(key, partitions), key, event.row, (run, slot), now)
            if full is not None:
                self._pack(full)

    def _bury(self, run: Run, slot: int, value: bytes | None, reason: str) -> None:
        letter = letter_of(self._begin.incarnation, run.partition, run.offsets[slot], value, reason)

        def delivered() -> None:
            run.buried(slot, reason)
            self._outcomes["refused"] += 1

        self._pen.write(
            Note(
                dead_log(self._begin.incarnation),
                letter.kept_value,
                delivered,
                key=letter.key,
                headers=letter.to_headers(),
            )
        )

    def _pack(self, frame: Frame[Ticket]) -> None:
        try:
            value = encode_frame(frame.rows)
        except Exception as error:  # noqa: BLE001 - as with a record that cannot be read
            self._unpackable(frame, error)
            return
        self._sequence += 1
        message = framed(Packed(self._sequence, frame.partition, frame.key, value, len(frame.rows)))
        self._sent[self._sequence] = _Sent(frame, message)
        self._line.send(message)

    def _unpackable(self, frame: Frame[Ticket], error: Exception) -> None:
        """Some event of it cannot be encoded. Each goes alone, and that one into the dead log."""
        kind_of_error = type(error).__name__  # and no more: what it says may be what a record said
        log.error("a frame cannot be encoded", partition=frame.partition, events=len(frame.rows), error=kind_of_error)
        self._packer.done(frame.partition)
        if len(frame.rows) == 1:
            ((run, slot),) = frame.tickets
            return self._bury(run, slot, None, f"it cannot be encoded: {type(error).__name__}")
        for row, ticket in zip(frame.rows, frame.tickets, strict=True):
            self._pack(self._packer.alone(frame.partition, frame.key, row, ticket))
        return None

    def _listen(self, wait_seconds: float) -> None:
        for message in self._line.receive(wait_seconds):
            if isinstance(message, Done):
                self._done(message)
            elif isinstance(message, End):
                self._ending = True
                for frame in self._packer.flush():
                    self._pack(frame)

    def _done(self, done: Done) -> None:
        if done.error:
            self._trouble = done.error
            self._due.again[done.sequence] = self._clock.monotonic() + RETRY_SECONDS
            self._outcomes["retried"] += len(self._sent[done.sequence].frame.rows)
            return
        self._trouble = ""
        frame = self._sent.pop(done.sequence).frame
        self._packer.done(frame.partition)
        where = (frame.partition, done.offset)
        for index, (run, slot) in enumerate(frame.tickets):
            run.moved(slot, where, index)
        self._outcomes["moved"] += len(frame.tickets)

    def _conclude(self, now: float) -> None:
        """Tell what was settled, move the positions over what was told, and do what is due."""
        topic = inbox_receipts_topic(self._begin.incarnation)
        for run in self._runs.settled():
            run.told = True
            said = partial(setattr, run, "said", True)
            self._pen.write(Note(topic, receipt_of(run, self._begin.incarnation), said, partition=run.partition))
        self._runs.advance()
        if now >= self._due.note:
            self._due.note = now + self._begin.commit_seconds
            self._reader.note()
        if now >= self._due.report:
            self._due.report = now + self._begin.report_seconds
            self._say("")
        if now >= self._due.clean:
            self._due.clean = now + min(CLEAN_SECONDS_MAX, self._begin.keep_seconds)
            self._reader.clean(self._clock.unix_ms() - int(self._begin.keep_seconds * 1000))

    def _say(self, trouble: str) -> None:
        report = Report(
            moved=dict(self._runs.positions),
            outcomes=dict(self._outcomes),
            oldest_ms=self._runs.oldest_ms(),
            trouble=trouble or self._trouble or self._reader.trouble or self._pen.trouble,
        )
        self._outcomes.clear()
        self._tell(report)

    def _tell(self, message: FromWorker) -> None:
        self._line.send(framed(message))
