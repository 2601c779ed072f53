"""Reading the own copies, to find out where they are: after a start, and after anything that was not as expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from services.replicator.errors import KafkaSilent
from services.replicator.kafka import KafkaSide
from services.replicator.positions import CopyState, Place, shows
from streams.copies import hole_end, origin_of
from streams.headers import Headers
from streams.logs import record_checksum

_POLL_SECONDS = 0.2
_RECORDS_MAX = 2000
_AT_END = KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name


class Walk:
    """One partition of a copy on its way from a known record to its end."""

    def __init__(self, place: Place, known: CopyState | None, end: int, low: int) -> None:
        self.place = place
        self.state = known or CopyState()
        self.end = end
        self.lost = ""
        """What the copy no longer shows, when it had to be read from its beginning; empty otherwise."""
        self.problem = ""
        """Why it is no copy that can be gone on with; empty when it is."""
        self._low = low
        self._begun = False
        """Whether the record that the reading begins with was seen: what comes before it was fetched earlier."""
        self._to_show = self.state.last
        if self._to_show is not None and (end <= self._to_show.copy_offset or low > self._to_show.copy_offset):
            self.restart(f"it ends at {end} and had a record at {self._to_show.copy_offset}")

    @property
    def start_offset(self) -> int:
        """Where the reading begins."""
        return max(self.state.walk_from, self._low)

    @property
    def done(self) -> bool:
        """Whether everything up to the end was read."""
        return bool(self.problem) or (self._to_show is None and self.state.copy_end >= self.end)

    def restart(self, lost: str) -> None:
        """Read the copy from its beginning: what was known of it is not so any more."""
        self.state, self._to_show, self.lost = CopyState(), None, lost
        self.state.copy_end = self._low
        self._begun = False

    def at_end(self, offset: int) -> None:
        """The log has no record at `offset` or beyond; offsets that no reader sees may lie before it."""
        if self._begun and self._to_show is None and offset >= self.end:
            self.end = self.state.copy_end

    def take(self, message: Message) -> bool:
        """Take the next record; False when the reading has to begin again, at the beginning."""
        offset, headers = message.offset() or 0, cast("Headers", message.headers())
        if not self._begun and offset != self.start_offset:
            return True
        self._begun = True
        try:
            origin, hole = origin_of(headers), hole_end(headers)
        except ValueError as error:
            self.problem = f"{self.place[0]}/{self.place[1]}/{offset} of the own copy cannot be placed: {error}"
            return True
        if origin is None:
            self.problem = (
                f"{self.place[0]}/{self.place[1]}/{offset} is no copied record: somebody else writes to this log"
            )
            return True
        checksum = record_checksum(message.value() or b"")
        if self._to_show is not None:
            if offset != self._to_show.copy_offset or not shows(self._to_show, origin.offset, checksum):
                self.restart(f"its record at {self._to_show.copy_offset} is another one than was written there")
                return False
            self._to_show = None
            self.state.copy_end = offset + 1
            return True
        end = origin.offset + 1 if hole is None else hole
        self.state.read(offset, origin.offset, end, checksum, origin.leader_epoch, is_hole=hole is not None)
        return True


def walk(kafka: KafkaSide, known: Mapping[Place, CopyState | None], answer_seconds: float) -> dict[Place, Walk]:
    """Walk each copy from what is known of it to where it ends now. Blocks. Raises KafkaSilent.

    A partition that does not exist is left out.
    """
    ends, lows = kafka.ends(known), kafka.lows(known)
    walks = {
        place: Walk(place, state, ends[place].next_offset, lows.get(place, 0))
        for place, state in known.items()
        if place in ends
    }
    open_walks = {place: found for place, found in walks.items() if not found.done}
    if not open_walks:
        return walks
    consumer = kafka.consumer(4096)
    silent_seconds = 0.0
    try:
        consumer.assign([TopicPartition(*place, found.start_offset) for place, found in open_walks.items()])
        while open_walks:
            first = consumer.poll(_POLL_SECONDS)
            silent_seconds = silent_seconds + _POLL_SECONDS if first is None else 0.0
            if silent_seconds >= answer_seconds:
                raise KafkaSilent(f"Kafka at {kafka.bootstrap} does not show {', '.join(map(str, open_walks))}")
            for message in [] if first is None else [first, *consumer.consume(_RECORDS_MAX, 0)]:
                _take(consumer, open_walks, message)
    except KafkaException as error:
        raise KafkaSilent(f"the own copies cannot be read: {error}") from error
    finally:
        consumer.close()
    return walks


def _take(consumer: object, open_walks: dict[Place, Walk], message: Message) -> None:
    place = (message.topic() or "", message.partition() or 0)
    found = open_walks.get(place)
    if found is None:
        return
    problem = message.error()
    if problem is not None:
        if problem.code() == _AT_END:
            found.at_end(message.offset() or 0)
        elif not problem.retriable():
            raise KafkaSilent(f"{place[0]}/{place[1]} of the own copies cannot be read: {problem.str()}")
    elif not found.take(message):
        _assign_again(consumer, found)
    if found.done:
        del open_walks[place]


def _assign_again(consumer: object, found: Walk) -> None:
    where = TopicPartition(*found.place, found.start_offset)
    consumer.incremental_unassign([where])  # type: ignore[attr-defined]
    consumer.incremental_assign([where])  # type: ignore[attr-defined]
