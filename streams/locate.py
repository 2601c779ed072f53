"""Finding a record of a copy by its header: look where it should be, then walk.

A copy's own offsets equal the origin's as a rule. Where they do not (a hole, or records that a second copier wrote
twice), the header of whatever is found says how far off the guess was. After a few such jumps the rest of the log is
read record by record; that is slow, and only happens when the record is not there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.copies import HEADER_ORIGIN, span_of
from streams.headers import Headers, header
from streams.logs import record_checksum
from streams.truncation import LogUnreachableError, Place

JUMPS_MAX: Final = 8
_NOTHING_MORE: Final = (
    KafkaError._PARTITION_EOF,  # noqa: SLF001 - its public name
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - its public name
    KafkaError.OFFSET_OUT_OF_RANGE,
)


@dataclass(frozen=True, slots=True)
class Located:
    """A record as it stands in this region's log."""

    offset: int
    """Its own offset here."""
    start: int
    end: int
    """It stands for the offsets `[start, end)` of the origin log."""
    checksum: int
    leader_epoch: int
    """Under which it was written here; -1 when the client library did not say."""
    copied: bool
    """Whether it says where it comes from; if not, this is the log in which it was first written."""


def locate(consumer: Consumer, place: Place, wanted: int, timeout_seconds: float) -> Located | None:
    """The record that stands for the origin offset `wanted`; None when this log does not hold it. Blocks.

    `consumer` must be set to report ends of partitions; its assignment is replaced. Raises LogUnreachableError.
    """
    try:
        low, end = consumer.get_watermark_offsets(TopicPartition(*place), timeout=timeout_seconds)
        guess = max(low, min(wanted, end - 1))
        lowest = guess
        for _ in range(JUMPS_MAX):
            if not low <= guess < end:
                break
            found = next(_read(consumer, place, guess, guess + 1, timeout_seconds), None)
            if found is None:
                break
            if found.start <= wanted < found.end:
                return found
            if not found.copied:
                return None
            lowest = min(lowest, found.offset)
            moved = max(low, min(guess + wanted - found.start, end - 1))
            if moved == guess:
                break
            guess = moved
        for found in _read(consumer, place, lowest if lowest < end else low, end, timeout_seconds):
            if found.start <= wanted < found.end:
                return found
    except KafkaException as error:
        raise LogUnreachableError(f"{place[0]}/{place[1]} cannot be searched for offset {wanted}: {error}") from error
    return None


def records_at(consumer: Consumer, offsets: Mapping[Place, int], timeout_seconds: float) -> dict[Place, Located]:
    """The records at these own offsets, of all partitions at once; what is not there is left out. Blocks.

    Raises LogUnreachableError.
    """
    found: dict[Place, Located] = {}
    open_places = set(offsets)
    try:
        consumer.assign([TopicPartition(*place, offset) for place, offset in offsets.items()])
        while open_places:
            message = consumer.poll(timeout_seconds)
            if message is None:
                raise LogUnreachableError(f"{len(open_places)} partitions did not show a record in time")
            place = (message.topic() or "", message.partition() or 0)
            if place not in open_places:
                continue
            shown = located(message) if message.error() is None else None
            if shown is not None:
                found[place] = shown
            open_places.discard(place)
        consumer.unassign()
    except KafkaException as error:
        raise LogUnreachableError(f"records cannot be read: {error}") from error
    return found


def located(message: Message) -> Located | None:
    """What a record says of itself; None when its headers are malformed."""
    offset, epoch, headers = message.offset() or 0, message.leader_epoch(), message_headers(message)
    try:
        span = span_of(offset, headers)
    except ValueError:
        return None
    return Located(
        offset=offset,
        start=span.start,
        end=span.end,
        checksum=record_checksum(message.value() or b""),
        leader_epoch=-1 if epoch is None else int(epoch),
        copied=header(headers, HEADER_ORIGIN) is not None,
    )


def message_headers(message: Message) -> Headers:
    """The headers of a message; the client library's own type promises less than it gives."""
    return cast("Headers", message.headers())


def _read(consumer: Consumer, place: Place, first: int, end: int, timeout_seconds: float) -> Iterator[Located]:
    """What can be read of `[first, end)`, in order."""
    if first >= end:
        return
    consumer.assign([TopicPartition(*place, first)])
    while True:
        message = consumer.poll(timeout_seconds)
        if message is None:
            raise LogUnreachableError(f"{place[0]}/{place[1]} did not show its offset {first} in time")
        problem = message.error()
        if problem is not None:
            if problem.code() in _NOTHING_MORE and message.topic() == place[0]:
                return
            if message.topic() is not None:
                raise LogUnreachableError(f"{place[0]}/{place[1]} does not show its offset {first}: {problem.str()}")
            continue
        if (message.topic(), message.partition()) != place:
            continue
        found = located(message)
        if found is not None:
            yield found
        if (message.offset() or 0) >= end - 1:
            return
