"""The raw log, read from its first record up to a frontier, one partition after the other.

Reads with a consumer that belongs to no group and commits nothing. The only thing taken from the rest of the
project is the frame's format; what a frame means for state is not known here.
"""

from collections.abc import Iterator

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from services.ledger.errors import LogUnreadable
from streams.copies import origin_of

IDLE_SECONDS_MAX = 20.0
POLL_SECONDS = 0.5


class RawRecord(msgspec.Struct, frozen=True):
    """One Kafka record."""

    log: str
    partition: int
    offset: int
    """In the log in which it was first written: a copy says it in a header."""
    value: bytes | None
    headers: list[tuple[str, bytes]]


class RawLog:
    """An events log on a broker."""

    def __init__(self, bootstrap: str, log: str) -> None:
        self._bootstrap = bootstrap
        self.log = log

    def names(self) -> list[str]:
        """The names of all logs of this broker. Raises LogUnreadable."""
        consumer = self._consumer()
        try:
            return sorted(name for name in consumer.list_topics(timeout=10).topics if not name.startswith("__"))
        except KafkaException as error:
            raise self._unreadable(error) from error
        finally:
            consumer.close()

    def ends(self) -> dict[int, int]:
        """Where each partition ends now. Raises LogUnreadable."""
        consumer = self._consumer()
        try:
            topics = consumer.list_topics(self.log, timeout=10).topics
            partitions = topics[self.log].partitions
            if not partitions:
                raise LogUnreadable(f"{self.log} does not exist at {self._bootstrap}; name the log of this region")
            return {
                partition: consumer.get_watermark_offsets(TopicPartition(self.log, partition), timeout=10)[1]
                for partition in sorted(partitions)
            }
        except KafkaException as error:
            raise self._unreadable(error) from error
        finally:
            consumer.close()

    def read(self, until: dict[int, int]) -> Iterator[RawRecord]:
        """Every record below `until` (next offsets by partition). Raises LogUnreadable."""
        consumer = self._consumer()
        try:
            for partition, end in sorted(until.items()):
                if end > 0:
                    yield from self._read_partition(consumer, partition, end)
        except KafkaException as error:
            raise self._unreadable(error) from error
        finally:
            consumer.close()

    def _read_partition(self, consumer: Consumer, partition: int, end: int) -> Iterator[RawRecord]:
        consumer.assign([TopicPartition(self.log, partition, 0)])
        wanted = 0
        idle_seconds = 0.0
        while wanted < end:
            # `consume` waits its whole time-out when there is less than it may take: wait in `poll` instead.
            first = consumer.poll(POLL_SECONDS)
            if first is None:
                idle_seconds += POLL_SECONDS
                if idle_seconds >= IDLE_SECONDS_MAX:
                    raise LogUnreadable(f"{self.log}/{partition} gives nothing after {wanted} of {end} records")
                continue
            idle_seconds = 0.0
            for message in [first, *consumer.consume(1000, 0)]:
                error = message.error()
                if error is not None:
                    raise KafkaException(error)
                offset = message.offset()
                if offset is None or offset != wanted:
                    raise LogUnreadable(
                        f"{self.log}/{partition} goes on at {offset} instead of {wanted}: it has a hole, or "
                        "no longer starts at 0"
                    )
                if offset >= end:
                    return
                yield self._record(partition, offset, message)
                wanted = offset + 1

    def _record(self, partition: int, offset: int, message: Message) -> RawRecord:
        headers = _headers(message.headers())
        try:
            origin = origin_of(headers)
        except ValueError as error:
            raise LogUnreadable(f"{self.log}/{partition}/{offset} is not a copy that can be read: {error}") from error
        return RawRecord(self.log, partition, offset if origin is None else origin.offset, message.value(), headers)

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "ledger",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.queue.backoff.ms": 10,
                # A fetch that waits for more on the last partition would hold up the first one on the next.
                "fetch.wait.max.ms": 10,
                "check.crcs": True,
                "log_level": 2,
            }
        )

    def _unreadable(self, error: KafkaException) -> LogUnreadable:
        cause = error.args[0]
        reason = cause.str() if isinstance(cause, KafkaError) else str(error)
        return LogUnreadable(f"{self.log} at {self._bootstrap} cannot be read: {reason}; is the broker up?")


def _headers(headers: object) -> list[tuple[str, bytes]]:
    pairs = headers if isinstance(headers, list) else []
    return [(str(name), bytes(value)) for name, value in pairs if value is not None]
