"""Where a replay starts and ends in each partition, and what a partition must show before anything is taken from it.

A log that is written here and a copy differ. A log that is written here must show the last record that the state knows,
at the same offset, and must not end before it. A copy says by its headers where its records belong: the last record is
searched for, and a copy that does not hold it any more is being copied again, which is no reason to stop.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.errors import CopyReplaced, LogGap, LogTruncated
from streams.fold import Fold
from streams.locate import locate
from streams.position import Frontier
from streams.state import PartitionPoint
from streams.truncation import LogUnreachableError, Place

_NOT_THERE: Final = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001 - its public name
_AT_END: Final = KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name
_NOT_YET: Final = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)
_RETRY_SECONDS: Final = 0.1
REMEDY: Final = (
    "Nothing was skipped. Load a snapshot that covers what is missing, fill the log from a peer that holds it, or "
    "seal this incarnation and open the next one (docs/operating/truncation.md)."
)


@dataclass(slots=True)
class Reading:
    """One partition on its way to its target."""

    place: Place
    next_offset: int
    """The next offset of the origin log that is wanted."""
    target: int | None
    """Where to stop, as an offset of the origin log; None for wherever a copy ends."""
    at: int
    """The next offset of this region's log that is to be read."""
    end: int
    """Where this region's log ended when the replay began."""
    is_copy: bool
    to_confirm: PartitionPoint | None
    """The last record that the state knows, as long as the log has not shown it."""
    notice: str = ""
    """What is the matter with a copy."""
    short: bool = False
    """The copy does not hold what was read from it."""

    @property
    def done(self) -> bool:
        """Whether nothing more is to be taken."""
        if self.to_confirm is not None:
            return False
        if self.target is not None and self.next_offset >= self.target:
            return True
        return self.is_copy and self.at >= self.end

    @property
    def held(self) -> int:
        """Below which offset of the origin log this region's Kafka holds everything, as far as this replay saw."""
        return min(self.end, self.next_offset) if self.short else self.next_offset

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.place[0]}/{self.place[1]}"

    @property
    def records_left(self) -> int:
        """At most so many records are still to be read."""
        left = self.end - self.at
        return max(0, left if self.target is None else min(left, self.target - self.next_offset))

    @property
    def first_offset(self) -> int:
        """Where to begin to read here."""
        return self.at - (self.to_confirm is not None)


def plan(
    consumer: Consumer,
    fold: Fold,
    logs: Sequence[str],
    until: Frontier | None,
    answer_seconds: float,
    is_copy: Callable[[str], bool],
) -> dict[Place, Reading]:
    """What to read of every partition, after holding its ends against what the state knows."""
    readings = {}
    for log in logs:
        found = consumer.list_topics(log, timeout=answer_seconds).topics.get(log)
        if found is None or found.error is not None:
            raise LogUnreachableError(f"the broker has no log {log}: {found.error if found else 'unknown'}")
        for partition in sorted(found.partitions):
            place = (log, partition)
            low, end = ends(consumer, place, answer_seconds)
            if is_copy(log):
                target = None if until is None else until[place]
                readings[place] = _copy_reading(consumer, fold, place, low, end, target, answer_seconds)
            else:
                readings[place] = _own_reading(fold, place, low, end, end if until is None else until[place])
    return readings


def ends(consumer: Consumer, place: Place, answer_seconds: float) -> tuple[int, int]:
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


def _own_reading(fold: Fold, place: Place, low: int, end: int, target: int) -> Reading:
    next_offset = fold.next_offset(*place)
    reading = Reading(place, next_offset, target, next_offset, end, False, fold.state.points.get(place))
    if end < max(next_offset, target):
        known = f"{next_offset} was read" if next_offset >= target else f"{target} was asked for"
        raise LogTruncated(
            f"{reading.name} ends at offset {end}, but everything below {known}: "
            f"{max(next_offset, target) - end} records are gone. {REMEDY}"
        )
    if low > next_offset:
        raise LogGap(
            f"{reading.name} starts at offset {low}, but the next record wanted is {next_offset}: "
            f"{low - next_offset} records are gone. {REMEDY}"
        )
    if low == next_offset:
        # The record below the frontier was removed by retention; nothing is left to recognise the log by.
        reading.to_confirm = None
    return reading


def _copy_reading(
    consumer: Consumer, fold: Fold, place: Place, low: int, end: int, target: int | None, answer_seconds: float
) -> Reading:
    next_offset = fold.next_offset(*place)
    reading = Reading(place, next_offset, target, low, end, True, None)
    point = fold.state.points.get(place)
    if point is None or next_offset == 0:
        return reading
    last = locate(consumer, place, next_offset - 1, answer_seconds) if end > low else None
    if last is None:
        reading.at, reading.short = end, True
        reading.notice = f"{reading.name} does not hold offset {next_offset - 1}, which was read: it is copied again"
    elif last.checksum != point.last_checksum:
        raise CopyReplaced(
            f"{reading.name}: the copy of offset {next_offset - 1} has checksum {last.checksum:016x}, not the one of "
            f"the record that was read there. {REMEDY}"
        )
    else:
        reading.at = last.offset + 1
    return reading


def confirm(reading: Reading, offset: int, checksum: int) -> None:
    """The log must show the last record that was taken from it before anything after it is taken."""
    known = reading.to_confirm
    if known is None or offset != known.next_offset - 1 or checksum != known.last_checksum:
        raise LogTruncated(
            f"{reading.name}: the record at offset {reading.next_offset - 1} is not the one that was read there "
            f"(offset {offset} now has checksum {checksum:016x}): the log was cut and written again. {REMEDY}"
        )
    reading.to_confirm = None


def meet(problem: KafkaError, reading: Reading, offset: int) -> None:
    """The end of a partition is no problem, unless records that must be there did not come before it."""
    if problem.code() in _NOT_THERE:
        raise LogGap(f"{reading.name} does not hold offset {reading.next_offset}: {problem.str()}. {REMEDY}")
    if problem.code() != _AT_END:
        raise LogUnreachableError(f"{reading.name} cannot be read: {problem.str()}")
    if reading.is_copy:
        reading.at = max(reading.at, offset)
    elif offset >= (reading.target or 0) and not reading.done:
        raise LogGap(
            f"{reading.name} ends at offset {offset}, but has no record at "
            f"{reading.next_offset - (reading.to_confirm is not None)}, which must be taken before {reading.target}. "
            f"{REMEDY}"
        )
