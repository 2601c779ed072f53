"""Reading the inbox: from the position that was noted, and back to its beginning whenever that is in doubt.

The position is a committed offset of a group without members: it lives and dies with the inbox, needs nobody's vote
and no session that has to run out after a kill. With it goes the leader epoch of the record before it, so that an inbox
that was cut (a power loss) and has grown again is found out instead of being read from the middle of what is new. Then,
and when the broker has forgotten the position, everything that is still there is read again: it is the same events.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from services.common.logging import get_logger
from services.gateway.errors import BrokerUnreachable
from services.gateway.inbox.messages import Gap
from services.gateway.inbox.runs import Runs
from services.gateway.kafka import LIBRARY_LOG_LEVEL
from streams.logs import consumer_settings, inbox_topic

ANSWER_SECONDS: Final = 5.0
_LOST_PLACE: Final = (
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - its public name
    KafkaError._LOG_TRUNCATION,  # noqa: SLF001 - as above
    KafkaError.OFFSET_OUT_OF_RANGE,
)
_NOBODY: Final = 0.0

log = get_logger(__name__)


class InboxReader:
    """One consumer of all partitions. Belongs to one thread. `runs` is told where each partition goes on."""

    def __init__(
        self,
        bootstrap: str,
        incarnation: str,
        runs: Runs,
        moved_before: Mapping[int, int],
        on_gap: Callable[[Gap], None],
    ) -> None:
        self._topic = inbox_topic(incarnation)
        self._runs = runs
        self._moved_before = dict(moved_before)
        self._on_gap = on_gap
        self._next: dict[int, int] = {}
        """By partition: the offset after the last record that was read."""
        self._noted: dict[int, int] = {}
        self._noting: dict[int, int] | None = None
        self._lost: set[int] = set()
        """Partitions that are not as they were, and are begun anew."""
        self._reached: dict[int, int] = {}
        """By partition: the end that was read up to, known beside records that nobody has taken yet."""
        self.trouble = ""
        """Why nothing can be read now."""
        quiet: dict[str, Any] = {"logger": logging.getLogger("librdkafka.consumer"), "log_level": LIBRARY_LOG_LEVEL}
        settings = consumer_settings(bootstrap, f"{incarnation}.inbox-mover")
        self._consumer = Consumer(
            {
                **settings,
                **quiet,
                "fetch.message.max.bytes": 1 << 20,
                "queued.max.messages.kbytes": 16 << 10,
                "enable.partition.eof": True,
                "on_commit": self._on_commit,
                "error_cb": self._on_error,
            }
        )
        self._admin = AdminClient({"bootstrap.servers": bootstrap, **quiet})

    def open(self) -> None:
        """Find out where to go on. Raises BrokerUnreachable."""
        try:
            found = self._consumer.list_topics(self._topic, timeout=ANSWER_SECONDS).topics[self._topic]
            if not found.partitions:
                raise BrokerUnreachable(f"the broker has no {self._topic} (yet); `meridian up` makes it")
            places = [TopicPartition(self._topic, partition) for partition in found.partitions]
            for noted in self._consumer.committed(places, timeout=ANSWER_SECONDS):
                self._begin(noted.partition, max(noted.offset, -1), epoch_of(noted.leader_epoch))
        except KafkaException as error:
            raise BrokerUnreachable(f"the broker does not say where to go on: {error.args[0].str()}") from error
        self._assign()

    def read(self, count_max: int, wait_seconds: float) -> list[Message]:
        """Records that came, at most so many; waits for the first of them. Raises BrokerUnreachable.

        They are the caller's from then on, and must have been taken when this is called again.
        """
        for partition, end in self._reached.items():
            self._runs.reach(partition, end)
            self._next[partition] = max(self._next[partition], end)
        self._reached.clear()
        self._mend()
        first = self._consumer.poll(wait_seconds)
        if first is None:
            return []
        messages = [first, *self._consumer.consume(count_max - 1, _NOBODY)] if count_max > 1 else [first]
        self.trouble = ""
        return [message for message in messages if self._is_record(message)]

    def note(self) -> None:
        """Commit the positions, if they moved; asks nobody to wait. What fails is committed with the next call."""
        positions = dict(self._runs.positions)
        if positions == self._noted or self._noting is not None:
            return
        self._noting = positions
        try:
            self._consumer.commit(offsets=self._places(positions), asynchronous=True)
        except KafkaException as error:
            self._noting = None
            log.warning("the inbox's position is noted later", reason=error.args[0].str())

    def close(self) -> None:
        """Commit once more, and wait for it."""
        try:
            if self._runs.positions:
                self._consumer.commit(offsets=self._places(self._runs.positions), asynchronous=False)
        except KafkaException as error:
            log.warning("the inbox's position was not noted: some is moved twice, and counts once", reason=str(error))
        self._consumer.close()

    def clean(self, before_ms: int) -> None:
        """Remove what was moved and is older. What is not moved stays, however old it is."""
        # A position that was taken back, because the inbox was cut, is not noted yet: beyond it nothing is moved.
        moved_until = {p: min(noted, self._runs.positions[p]) for p, noted in self._noted.items()}
        if not moved_until:
            return
        try:
            wanted = [TopicPartition(self._topic, partition, before_ms) for partition in moved_until]
            found = self._consumer.offsets_for_times(wanted, timeout=ANSWER_SECONDS)
            remove = []
            for place in found:
                if place.error is not None:
                    continue  # its offset is none: the next cleaning asks again
                moved = moved_until[place.partition]
                # No record is so young: all of them may go.
                until = moved if place.offset < 0 else min(moved, place.offset)
                if until > 0:
                    remove.append(TopicPartition(self._topic, place.partition, until))
            for done in self._admin.delete_records(remove, request_timeout=ANSWER_SECONDS).values() if remove else ():
                done.result()
        except KafkaException as error:
            log.warning("the inbox is cleaned later", reason=str(error))

    def _begin(self, partition: int, position: int, epoch: int) -> None:
        """Go on at `position` if that can be right; -1: not known. Raises KafkaException."""
        low, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=ANSWER_SECONDS)
        moved = max(position, self._moved_before.get(partition, 0))
        if low > moved:
            log.error("records of the inbox are gone and were not moved", partition=partition, start=moved, end=low)
            self._on_gap(Gap(partition, moved, low))
        if not low <= position <= high:
            if position > high:
                log.warning("the inbox was cut: all of it is read again", partition=partition, noted=position, end=high)
            position, epoch = low, -1
        self._runs.begin(partition, position, epoch)
        self._next[partition] = position

    def _is_record(self, message: Message) -> bool:
        """Whether it is one; of what is none, take note."""
        partition, offset, error = message.partition() or 0, message.offset() or 0, message.error()
        if error is None:
            self._next[partition] = offset + 1
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            self._reached[partition] = offset
        elif error.code() in _LOST_PLACE:
            self._lost.add(partition)
        else:
            self.trouble = error.str()
        return error is None

    def _mend(self) -> None:
        """Begin anew what was lost; tried again until the broker answers, before anything else is read."""
        lost = sorted(self._lost)
        try:
            for partition in lost:
                log.warning("the inbox is not as it was: all of it is read again", partition=partition)
                self._moved_before[partition] = self._runs.positions[partition]
                self._begin(partition, -1, -1)
        except KafkaException as error:
            raise BrokerUnreachable(f"the broker does not say where the inbox begins: {error.args[0].str()}") from error
        if lost:
            self._assign()
            self._lost.clear()

    def _assign(self) -> None:
        epochs = self._runs.epochs
        at_position = {p for p, offset in self._next.items() if offset == self._runs.positions[p]}
        self._consumer.assign(
            [
                _place(self._topic, partition, offset, epochs[partition] if partition in at_position else -1)
                for partition, offset in self._next.items()
            ]
        )

    def _places(self, positions: Mapping[int, int]) -> list[TopicPartition]:
        return [_place(self._topic, p, offset, self._runs.epochs[p]) for p, offset in positions.items()]

    def _on_commit(self, error: KafkaError | None, _: list[TopicPartition]) -> None:
        noting, self._noting = self._noting, None
        if error is None and noting is not None:
            self._noted = noting

    def _on_error(self, error: KafkaError) -> None:
        self.trouble = error.str()


def epoch_of(found: int | None) -> int:
    """The leader epoch as the library gives it; -1 when it does not know one."""
    return -1 if found is None else found


def _place(topic: str, partition: int, offset: int, epoch: int) -> TopicPartition:
    # Without an epoch the library takes what is there for what was there.
    if epoch < 0:
        return TopicPartition(topic, partition, offset)
    return TopicPartition(topic, partition, offset, leader_epoch=epoch)
