"""From a snapshot (or zero) to the end of the logs, fast, through the same fold as live records.

A replay reads each partition in order from the state's frontier to an end noted at the start, folding many frames in
one go where they are small. Before it takes anything new from a partition it holds the last record that the state knows
against the log: a log that was cut and written again under the same name would otherwise be read on as if nothing had
happened. A record that should be there and is not stops the replay; only what is malformed as a pure function of its
bytes is stepped over, after it was handed to the dead log.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.dead_letter import DeadLetter, header_pairs
from streams.errors import FrameCorrupt, LogGap, LogTruncated
from streams.fold import Fold
from streams.frame import decode_frame
from streams.logs import consumer_settings, record_checksum
from streams.position import Frontier, Position, Verdict
from streams.state import PartitionPoint, State
from streams.truncation import LogUnreachableError, Place

BATCH_EVENTS: Final = 8_192
"""Frames are folded together until they hold this many events."""
RECORDS_MAX: Final = 1_000
"""Records taken from the client library at once."""
ANSWER_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.5
_NOT_THERE: Final = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001 - its public name
_AT_END: Final = KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name
_NOT_YET: Final = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)
_RETRY_SECONDS: Final = 0.1
_REMEDY: Final = (
    "Nothing was skipped. Load a snapshot that covers what is missing, fill the log from a peer that holds it, or "
    "seal this incarnation and open the next one (docs/operating/truncation.md)."
)


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


@dataclass(slots=True)
class _Reading:
    """One partition on its way to its target."""

    place: Place
    next_offset: int
    target: int
    to_confirm: PartitionPoint | None
    """The last record that the state knows, as long as the log has not shown it."""

    @property
    def done(self) -> bool:
        return self.next_offset >= self.target and self.to_confirm is None


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
) -> ReplayResult:
    """Fold `logs` from the state's frontier up to `until`, by default to where they end now. Blocks.

    Raises LogGap when a record that is wanted is not in the log any more, LogTruncated when the log ends before what
    was read (or before `until`), or shows another record in its place, UnknownFrameVersion, and LogUnreachableError
    when the broker gives no answer for `answer_seconds`. What was folded before stays folded, the frontier with it.
    """
    taking = fold if isinstance(fold, Fold) else Fold(fold)
    consumer = Consumer({**consumer_settings(bootstrap, "meridian-replay"), "enable.partition.eof": True})
    try:
        readings = _plan(consumer, taking, logs, until, answer_seconds)
        run = _Run(taking, readings, dead_letter, batch_events)
        open_places = [r for r in readings.values() if not r.done]
        consumer.assign([TopicPartition(*r.place, _first_offset(r)) for r in open_places])
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
        readings: dict[Place, _Reading],
        dead_letter: Callable[[DeadLetter], None] | None,
        batch_events: int,
    ) -> None:
        self._fold = fold
        self._readings = readings
        self._dead_letter = dead_letter
        self._batch_events = batch_events
        self._records_total = sum(max(0, r.target - r.next_offset) for r in readings.values())
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
        problem = message.error()
        if problem is not None:
            _meet(problem, reading, message.offset() or 0)
            return
        if reading.done:
            return
        offset, value = message.offset() or 0, message.value()
        checksum = record_checksum(value or b"")
        if reading.to_confirm is not None:
            _confirm(reading, offset, checksum)
        elif offset < reading.target:
            self._fold_record(reading, message, offset, value, checksum)
        if reading.done:
            self._open -= 1

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
        return f"{_name(reading)} was read to offset {reading.next_offset} of {reading.target}. Is the broker up?"

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
        )

    def _fold_record(
        self, reading: _Reading, message: Message, offset: int, value: bytes | None, checksum: int
    ) -> None:
        place = (*reading.place, offset, checksum, _leader_epoch(message))
        if offset > reading.next_offset:
            raise LogGap(
                f"{_name(reading)}: the next record is offset {reading.next_offset}, but {offset} came: "
                f"{offset - reading.next_offset} records are missing. {_REMEDY}"
            )
        try:
            headers: Any = message.headers()
            verdict = self._fold.take(decode_frame(value, headers), *place)
        except FrameCorrupt as corrupt:
            verdict = self._bury(str(corrupt), message, offset, value, place)
        if verdict is Verdict.ACCEPTED:
            reading.next_offset = offset + 1
            self._records += 1
            self._value_bytes += len(value or b"")
        if self._fold.pending_events >= self._batch_events:
            self.flush()

    def _bury(self, reason: str, message: Message, offset: int, value: bytes | None, place: Any) -> Verdict:
        if self._dead_letter is not None:
            origin = Position(place[0], place[1], offset)
            self._dead_letter(DeadLetter(origin, reason, value or b"", header_pairs(message.headers())))
        self._dead += 1
        return self._fold.skip(*place)


def _plan(
    consumer: Consumer, fold: Fold, logs: Sequence[str], until: Frontier | None, answer_seconds: float
) -> dict[Place, _Reading]:
    """What to read of every partition, after holding its ends against what the state knows."""
    readings = {}
    for log in logs:
        found = consumer.list_topics(log, timeout=answer_seconds).topics.get(log)
        if found is None or found.error is not None:
            raise LogUnreachableError(f"the broker has no log {log}: {found.error if found else 'unknown'}")
        for partition in sorted(found.partitions):
            place = (log, partition)
            low, end = _ends(consumer, place, answer_seconds)
            target = end if until is None else until[place]
            readings[place] = _reading(fold, place, low, end, target)
    return readings


def _ends(consumer: Consumer, place: Place, answer_seconds: float) -> tuple[int, int]:
    """Where a partition starts and ends. A leader that was only just elected may not know of it yet: ask again."""
    waited_seconds = 0.0
    while True:
        try:
            low, end = consumer.get_watermark_offsets(TopicPartition(*place), timeout=answer_seconds)
            return int(low), int(end)
        except KafkaException as error:
            if waited_seconds >= answer_seconds or error.args[0].code() not in _NOT_YET:
                raise
            consumer.poll(_RETRY_SECONDS)
            waited_seconds += _RETRY_SECONDS


def _reading(fold: Fold, place: Place, low: int, end: int, target: int) -> _Reading:
    point = fold.state.points.get(place)
    next_offset = fold.next_offset(*place)
    reading = _Reading(place, next_offset, target, point)
    if end < max(next_offset, target):
        known = f"{next_offset} was read" if next_offset >= target else f"{target} was asked for"
        raise LogTruncated(
            f"{_name(reading)} ends at offset {end}, but everything below {known}: "
            f"{max(next_offset, target) - end} records are gone. {_REMEDY}"
        )
    if low > next_offset:
        raise LogGap(
            f"{_name(reading)} starts at offset {low}, but the next record wanted is {next_offset}: "
            f"{low - next_offset} records are gone. {_REMEDY}"
        )
    if low == next_offset:
        # The record below the frontier was removed by retention; nothing is left to recognise the log by.
        reading.to_confirm = None
    return reading


def _first_offset(reading: _Reading) -> int:
    return reading.next_offset - (reading.to_confirm is not None)


def _confirm(reading: _Reading, offset: int, checksum: int) -> None:
    """The log must show the last record that was taken from it before anything after it is taken."""
    known = reading.to_confirm
    if known is None or offset != known.next_offset - 1 or checksum != known.last_checksum:
        raise LogTruncated(
            f"{_name(reading)}: the record at offset {reading.next_offset - 1} is not the one that was read there "
            f"(offset {offset} now has checksum {checksum:016x}): the log was cut and written again. {_REMEDY}"
        )
    reading.to_confirm = None


def _meet(problem: KafkaError, reading: _Reading, offset: int) -> None:
    """The end of a partition is no problem, unless records that must be there did not come before it."""
    if problem.code() in _NOT_THERE:
        raise LogGap(f"{_name(reading)} does not hold offset {reading.next_offset}: {problem.str()}. {_REMEDY}")
    if problem.code() != _AT_END:
        raise LogUnreachableError(f"{_name(reading)} cannot be read: {problem.str()}")
    if offset >= reading.target and not reading.done:
        raise LogGap(
            f"{_name(reading)} ends at offset {offset}, but has no record at {_first_offset(reading)}, which must be "
            f"taken before {reading.target}. {_REMEDY}"
        )


def _leader_epoch(message: Message) -> int:
    epoch = message.leader_epoch()
    return -1 if epoch is None else int(epoch)


def _name(reading: _Reading) -> str:
    return f"{reading.place[0]}/{reading.place[1]}"
