"""From a snapshot (or zero) to the end of the logs, fast, through the same fold as live records.

A replay reads each partition in order from the state's frontier to an end noted at the start, folding many frames in
one go where they are small. Before it takes anything new from a partition it holds the last record that the state knows
against the log: a log that was cut and written again under the same name would otherwise be read on as if nothing had
happened. A record that should be there and is not stops the replay; only what is malformed as a pure function of its
bytes is stepped over, after it was handed to the dead log.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from streams.copies import Span, span_of
from streams.dead_letter import DeadLetter, header_pairs
from streams.errors import FrameCorrupt, LogGap
from streams.fold import Fold
from streams.frame import Decode, decode_frame
from streams.logs import consumer_settings, record_checksum
from streams.position import Frontier, Position, Verdict, judge
from streams.readings import REMEDY, Reading, confirm, meet, plan
from streams.state import State
from streams.truncation import LogUnreachableError, Place

BATCH_EVENTS: Final = 8_192
"""Frames are folded together until they hold this many events."""
RECORDS_MAX: Final = 1_000
"""Records taken from the client library at once."""
ANSWER_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.5


class Progress(msgspec.Struct, frozen=True):
    """How far a replay is."""

    records: int
    records_total: int
    events: int
    """Distinct events taken so far."""


class ReplayResult(msgspec.Struct, frozen=True):
    """What a replay did."""

    frontier: Frontier
    records: int
    events: int
    """Distinct events, without those of the catalogue."""
    item_events: int
    duplicates: int
    late: int
    dead: int
    """Records stepped over."""
    value_bytes: int
    resume: dict[Place, int]
    """By partition, the next offset of this region's Kafka to read from."""
    held: dict[Place, int]
    """By partition, below which offset of the origin log this region's Kafka holds everything."""
    notices: list[str]
    """What is the matter with copies: they are being copied again, or lack records."""


def replay(
    bootstrap: str,
    fold: Fold | State,
    logs: Sequence[str],
    until: Frontier | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    dead_letter: Callable[[DeadLetter], None] | None = None,
    *,
    batch_events: int = BATCH_EVENTS,
    answer_seconds: float = ANSWER_SECONDS,
    is_copy: Callable[[str], bool] = lambda _: False,
    new_consumer: Callable[[dict[str, Any]], Consumer] = Consumer,
    decode: Decode = decode_frame,
) -> ReplayResult:
    """Fold `logs` from the state's frontier up to `until`, by default to where they end now. Blocks.

    A copy is read as far as it goes, also when that is not up to `until`: the frontier in the result says how far.
    Raises LogGap when a record that is wanted is not in the log any more, LogTruncated when the log ends before what
    was read (or before `until`), or shows another record in its place, UnknownFrameVersion, and LogUnreachableError
    when the broker gives no answer for `answer_seconds`. What was folded before stays folded, the frontier with it.
    """
    taking = fold if isinstance(fold, Fold) else Fold(fold)
    consumer = new_consumer({**consumer_settings(bootstrap, "meridian-replay"), "enable.partition.eof": True})
    try:
        readings = plan(consumer, taking, logs, until, answer_seconds, is_copy)
        run = _Run(taking, readings, dead_letter, batch_events, decode)
        open_places = [r for r in readings.values() if not r.done]
        consumer.assign([TopicPartition(*r.place, r.first_offset) for r in open_places])
        try:
            _read(consumer, run, on_progress, answer_seconds)
        finally:
            run.flush()
        return run.result()
    except KafkaException as error:
        raise LogUnreachableError(f"the logs cannot be read: {error}") from error
    finally:
        consumer.close()


def _read(
    consumer: Consumer, run: "_Run", on_progress: Callable[[Progress], None] | None, answer_seconds: float
) -> None:
    silent_seconds = 0.0
    while not run.done:
        first = consumer.poll(_POLL_SECONDS)
        if first is None:
            silent_seconds += _POLL_SECONDS
            if silent_seconds >= answer_seconds:
                raise LogUnreachableError(f"no record came for {silent_seconds:.0f} s; {run.waiting_for()}")
            continue
        if first.topic() is None:
            continue  # The client library says that a broker is away, and tries again by itself.
        silent_seconds = 0.0
        run.take(first)
        # A second call, because `consume` waits its whole time-out when there are fewer records.
        for message in consumer.consume(RECORDS_MAX, 0):
            if message.topic() is not None:
                run.take(message)
        if on_progress is not None:
            on_progress(run.progress())


class _Run:
    """The records of one replay, on their way into the fold."""

    def __init__(
        self,
        fold: Fold,
        readings: dict[Place, Reading],
        dead_letter: Callable[[DeadLetter], None] | None,
        batch_events: int,
        decode: Decode,
    ) -> None:
        self._fold = fold
        self._readings = readings
        self._dead_letter = dead_letter
        self._batch_events = batch_events
        self._decode = decode
        self._records_total = sum(r.records_left for r in readings.values())
        self._open = sum(not r.done for r in readings.values())
        self._records = self._dead = self._value_bytes = 0
        self._events = self._item_events = self._duplicates = self._late = 0

    @property
    def done(self) -> bool:
        """Whether every partition is at its target."""
        return self._open == 0

    def take(self, message: Message) -> None:
        """Take one record by the reader rule."""
        reading = self._readings[message.topic() or "", message.partition() or 0]
        if reading.done:
            return
        problem = message.error()
        if problem is not None:
            meet(problem, reading, message.offset() or 0)
        else:
            self._take_record(reading, message)
        if reading.done:
            self._open -= 1

    def _take_record(self, reading: Reading, message: Message) -> None:
        offset, value = message.offset() or 0, message.value()
        checksum = record_checksum(value or b"")
        if reading.to_confirm is not None:
            confirm(reading, offset, checksum)
        else:
            span = _copied_span(message) if reading.is_copy else Span(offset, offset + 1)
            if span is None:
                reading.notice = f"{reading.name}: the record at {offset} does not say where it comes from"
            elif reading.target is None or span.start < reading.target:
                self._fold_record(reading, message, span, checksum)
        reading.at = offset + 1

    def flush(self) -> None:
        """Fold what is staged."""
        applied = self._fold.flush()
        self._events += applied.events
        self._item_events += applied.item_events
        self._duplicates += applied.duplicates
        self._late += applied.late

    def progress(self) -> Progress:
        """How far it is."""
        return Progress(self._records, self._records_total, self._events)

    def waiting_for(self) -> str:
        """Which record is missing, for a message."""
        reading = next(r for r in self._readings.values() if not r.done)
        target = reading.end if reading.target is None else reading.target
        return f"{reading.name} was read to offset {reading.next_offset} of {target}. Is the broker up?"

    def result(self) -> ReplayResult:
        """What was done."""
        return ReplayResult(
            frontier=self._fold.state.frontier,
            records=self._records,
            events=self._events,
            item_events=self._item_events,
            duplicates=self._duplicates,
            late=self._late,
            dead=self._dead,
            value_bytes=self._value_bytes,
            resume={place: reading.at for place, reading in self._readings.items()},
            held={place: reading.held for place, reading in self._readings.items()},
            notices=[reading.notice for reading in self._readings.values() if reading.notice],
        )

    def _fold_record(self, reading: Reading, message: Message, span: Span, checksum: int) -> None:
        verdict = judge(reading.next_offset, span.start, span.end)
        if verdict is Verdict.DUPLICATE:
            return
        if verdict is Verdict.GAP:
            missing = (
                f"{reading.name}: the next record is offset {reading.next_offset}, but {span.start} came: "
                f"{span.start - reading.next_offset} records are missing"
            )
            if not reading.is_copy:
                raise LogGap(f"{missing}. {REMEDY}")
            reading.notice = missing
            return
        value = message.value()
        self._take_next(reading, message, span, checksum)
        reading.next_offset = span.end
        reading.notice = ""
        self._records += 1
        self._value_bytes += len(value or b"")
        if self._fold.pending_events >= self._batch_events:
            self.flush()

    def _take_next(self, reading: Reading, message: Message, span: Span, checksum: int) -> None:
        value, epoch = message.value(), _leader_epoch(message)
        if span.is_hole:
            self._fold.jump(*reading.place, span.start, span.end, checksum, epoch)
            return
        headers: Any = message.headers()
        try:
            self._fold.take(self._decode(value, headers), *reading.place, span.start, checksum, epoch)
        except FrameCorrupt as corrupt:
            if self._dead_letter is not None:
                origin = Position(*reading.place, span.start)
                self._dead_letter(DeadLetter(origin, str(corrupt), value or b"", header_pairs(headers)))
            self._dead += 1
            self._fold.skip(*reading.place, span.start, checksum, epoch)


def _leader_epoch(message: Message) -> int:
    epoch = message.leader_epoch()
    return -1 if epoch is None else int(epoch)


def _copied_span(message: Message) -> Span | None:
    headers: Any = message.headers()
    try:
        return span_of(message.offset() or 0, headers)
    except ValueError:
        return None
