"""What could not be read goes to the dead log, with the reason and where it came from.

Only what is malformed as a pure function of its bytes ends here, so that every region buries the same records. The
delivery is awaited before the frontier moves: a record is either in the state or in the dead log, never in neither.
A reader that was killed in between buries the record once more, so a dead log is read by origin position, and a
replay first looks which positions are there already.
"""

from collections.abc import Iterator
from typing import Any, Final, Protocol

import msgspec
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from streams.copies import HEADER_HOLE, HEADER_ORIGIN
from streams.delivery import DeliveryError, Headers
from streams.logs import consumer_settings, dead_log, producer_settings, record_key
from streams.position import Position

HEADER_REASON: Final = "meridian-reason"
HEADER_POSITION: Final = "meridian-position"
"""The letter's origin. Not the header of copies: a dead log is copied as well."""
REASON_BYTES_MAX: Final = 1_000
_OF_THE_COPY: Final = (HEADER_ORIGIN, HEADER_HOLE)
VALUE_BYTES_MAX: Final = 3 << 20
"""A dead letter must fit into a record together with its headers; longer values are cut, and say so."""
WAIT_SECONDS: Final = 30.0


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that could not be read."""

    origin: Position
    reason: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()

    def to_headers(self) -> list[tuple[str, bytes]]:
        """Kafka headers: the reason, the origin position as JSON, then the record's own headers."""
        reason = self.reason.encode()[:REASON_BYTES_MAX]
        if len(self.value) > VALUE_BYTES_MAX:
            reason += f" (the first {VALUE_BYTES_MAX} of {len(self.value)} bytes)".encode()
        return [
            (HEADER_REASON, reason),
            (HEADER_POSITION, msgspec.json.encode(self.origin)),
            *((n, value) for n, value in self.headers if len(value) <= REASON_BYTES_MAX and n not in _OF_THE_COPY),
        ]

    @property
    def kept_value(self) -> bytes:
        """The bytes that go into the dead log."""
        return self.value[:VALUE_BYTES_MAX]

    @property
    def key(self) -> bytes:
        """Letters from one partition stay in order."""
        return record_key(self.origin.partition)


class Delivers(Protocol):
    """The part of `streams.delivery.Delivery` that burying needs."""

    async def deliver(self, topic: str, value: bytes, *, key: bytes, headers: Headers) -> None:
        """Write and wait for the acknowledgement."""


def header_pairs(headers: Any) -> tuple[tuple[str, bytes], ...]:
    """A record's headers as pairs, whichever client library delivered them; absent values are left out."""
    if not headers:
        return ()
    pairs = headers.items() if hasattr(headers, "items") else headers
    return tuple((str(name), bytes(value)) for name, value in pairs if value is not None)


async def bury(delivery: Delivers, incarnation: str, letter: DeadLetter) -> None:
    """Write `letter` to the dead log and wait for the acknowledgement. Raises DeliveryError without one."""
    await delivery.deliver(
        dead_log(incarnation),
        letter.kept_value,
        key=letter.key,
        headers=letter.to_headers(),
    )


def read_dead_letters(bootstrap: str, incarnation: str) -> Iterator[DeadLetter]:
    """Every letter in the dead log as it ends now, oldest first in each partition. Blocks."""
    topic = dead_log(incarnation)
    settings = consumer_settings(bootstrap, f"{incarnation}.dead-reader")
    # One partition after the other: a fetch that waits on the last one would hold up the next.
    consumer = Consumer({**settings, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 10})
    try:
        found = consumer.list_topics(topic, timeout=WAIT_SECONDS).topics.get(topic)
        for partition in sorted(found.partitions) if found is not None else ():
            yield from _read_partition(consumer, topic, partition)
    finally:
        consumer.close()


def _read_partition(consumer: Consumer, topic: str, partition: int) -> Iterator[DeadLetter]:
    place = TopicPartition(topic, partition, 0)
    low, end = consumer.get_watermark_offsets(place, timeout=WAIT_SECONDS)
    if low >= end:
        return
    consumer.assign([TopicPartition(topic, partition, low)])
    position = low
    while position < end:
        message = consumer.poll(WAIT_SECONDS)
        if message is None:
            raise DeliveryError(f"the dead log {topic} did not answer within {WAIT_SECONDS:.0f} s; is the broker up?")
        if message.error():
            raise KafkaException(message.error())
        position = (message.offset() or 0) + 1
        letter = letter_of(header_pairs(message.headers()), message.value() or b"")
        if letter is not None:
            yield letter


def letter_of(headers: tuple[tuple[str, bytes], ...], value: bytes) -> DeadLetter | None:
    """The letter that a record of a dead log holds; None when it is none."""
    named = dict(headers)
    try:
        origin = msgspec.json.decode(named[HEADER_POSITION], type=Position)
    except (KeyError, msgspec.DecodeError):
        return None
    rest = tuple(pair for pair in headers if pair[0] not in (HEADER_POSITION, HEADER_REASON, *_OF_THE_COPY))
    return DeadLetter(
        origin=origin,
        reason=named.get(HEADER_REASON, b"").decode(),
        value=value,
        headers=rest,
    )


class ReplayUndertaker:
    """Buries what a replay could not read, unless an earlier life of the reader did so already. Blocks.

    The dead log is read only when the first such record turns up.
    """

    def __init__(self, bootstrap: str, incarnation: str) -> None:
        self._bootstrap = bootstrap
        self._incarnation = incarnation
        self._buried: set[Position] | None = None
        self.count = 0

    def bury(self, letter: DeadLetter) -> None:
        """Write `letter` and wait. Raises DeliveryError when the broker does not acknowledge it."""
        if self._buried is None:
            self._buried = {old.origin for old in read_dead_letters(self._bootstrap, self._incarnation)}
        self.count += 1
        if letter.origin in self._buried:
            return
        failures: list[str] = []
        producer = Producer(producer_settings(self._bootstrap))
        producer.produce(
            dead_log(self._incarnation),
            value=letter.kept_value,
            key=letter.key,
            headers=[*letter.to_headers()],
            on_delivery=lambda error, _message: failures.append(error.str()) if error else None,
        )
        if producer.flush(WAIT_SECONDS) or failures:
            raise DeliveryError(f"a dead letter was not acknowledged: {'; '.join(failures) or 'no answer in time'}")
        self._buried.add(letter.origin)
