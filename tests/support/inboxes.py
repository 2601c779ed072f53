"""An app that publishes to the inbox by Kafka, and what became of it, read without the gateway."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from services.gateway.inbox.letters import InboxReceipt
from services.gateway.pseudonym_key import read_pseudonyms
from services.region.broker import make_topics
from streams.events import EventReader
from streams.kafka_binding import read_record
from streams.logs import (
    consumer_settings,
    inbox_receipts_topic,
    inbox_topic,
    producer_settings,
    queues_of,
    topics_of,
)
from tests.support.gateway_parts import event
from tests.support.gateway_process import GatewayProcess
from tests.support.poll import wait_until

Record = tuple[bytes | None, dict[str, bytes]]
Place = tuple[int, int]
STRUCTURED = {"content-type": b"application/cloudevents+json"}
PARTITIONS = 4
NOW_MS = 1_900_000_000_000
STILL_LOOKS = 30
"""With the pause between two, three times as long as a worker takes to note its position again."""


def make_life(bootstrap: str, incarnation: str) -> None:
    """Make the topics of a life as the preparing step does."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    make_topics(admin, [*topics_of(incarnation), *queues_of(incarnation)], PARTITIONS)


def good_records(count: int, first: int = 0) -> list[Record]:
    """Clicks, in both modes by turns."""
    found: list[Record] = []
    for number in range(first, first + count):
        said = event(number)
        if number % 2:
            found.append((json.dumps(said).encode(), STRUCTURED))
            continue
        data = json.dumps(said.pop("data")).encode()
        found.append((data, {f"ce_{name}": str(value).encode() for name, value in said.items()}))
    return found


def publish(bootstrap: str, incarnation: str, records: Iterable[Record]) -> list[Place]:
    """Publish and wait; returns where each lies in the inbox, in the order of the records."""
    places: dict[int, Place] = {}
    producer = Producer(producer_settings(bootstrap))
    for number, (value, headers) in enumerate(records):

        def delivered(error: Any, message: Any, number: int = number) -> None:
            assert error is None, error
            places[number] = (message.partition(), message.offset())

        producer.produce(inbox_topic(incarnation), value, headers=dict(headers), on_delivery=delivered)
        producer.poll(0)
    assert producer.flush(60) == 0
    return [places[number] for number in range(len(places))]


def publish_in_transactions(
    bootstrap: str, incarnation: str, kept: Iterable[Record], aborted: Iterable[Record]
) -> None:
    """Publish some in a transaction that is committed, and some in one that is not; both leave marks behind."""
    producer = Producer({**producer_settings(bootstrap), "transactional.id": f"{incarnation}-app"})
    producer.init_transactions(30)
    for records, end in ((kept, producer.commit_transaction), (aborted, producer.abort_transaction)):
        producer.begin_transaction()
        for value, headers in records:
            producer.produce(inbox_topic(incarnation), value, headers=dict(headers))
        producer.flush(30)
        end(30)


def identities(gateway: GatewayProcess, records: Sequence[Record]) -> list[bytes]:
    """What the gateway must make of good records, under its key."""
    reader = EventReader(read_pseudonyms(Path(gateway.directory) / "pseudonym.key"))
    return [reader.read(read_record([*headers.items()], value), NOW_MS).row.identity for value, headers in records]


async def figure(gateway: GatewayProcess, outcome: str) -> float:
    """Records of the inbox with this outcome, as this start of the gateway counts them."""
    async with gateway.session.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    wanted = f'meridian_inbox_records_total{{outcome="{outcome}"}} '
    return next(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))


def watermarks(bootstrap: str, incarnation: str) -> list[Place]:
    """First and next offset of each partition of the inbox."""
    with _asking(bootstrap, incarnation) as consumer:
        return [_marks(consumer, incarnation, partition) for partition in range(PARTITIONS)]


def positions(bootstrap: str, incarnation: str) -> dict[int, int]:
    """The positions that were noted."""
    with _asking(bootstrap, incarnation) as consumer:
        return _noted(consumer, incarnation)


def until_drained(bootstrap: str, incarnation: str, timeout_seconds: float, what: str) -> None:
    """Wait until all that is in the inbox is moved, and that is noted. A broker may be away meanwhile."""
    with _asking(bootstrap, incarnation) as consumer:

        def is_drained() -> bool:
            try:
                noted = _noted(consumer, incarnation)
                ends = [_marks(consumer, incarnation, partition)[1] for partition in range(PARTITIONS)]
            except KafkaException:
                return False
            return sum(ends) > 0 and all(noted[p] == end for p, end in enumerate(ends) if end)

        wait_until(is_drained, timeout_seconds, what)


def until_still(bootstrap: str, incarnation: str) -> None:
    """Wait until the positions that are noted do not move any more."""
    seen: list[dict[int, int]] = []
    with _asking(bootstrap, incarnation) as consumer:

        def is_still() -> bool:
            seen.append(_noted(consumer, incarnation))
            return len(seen) > STILL_LOOKS and all(noted == seen[-1] for noted in seen[-STILL_LOOKS:])

        wait_until(is_still, 20, "positions that stand still")


@contextmanager
def _asking(bootstrap: str, incarnation: str) -> Iterator[Consumer]:
    consumer = Consumer(consumer_settings(bootstrap, f"{incarnation}.inbox-mover"))
    try:
        yield consumer
    finally:
        consumer.close()


def _marks(consumer: Consumer, incarnation: str, partition: int) -> Place:
    return consumer.get_watermark_offsets(TopicPartition(inbox_topic(incarnation), partition), timeout=10)


def _noted(consumer: Consumer, incarnation: str) -> dict[int, int]:
    places = [TopicPartition(inbox_topic(incarnation), partition) for partition in range(PARTITIONS)]
    return {place.partition: place.offset for place in consumer.committed(places, timeout=10)}


def receipts(bootstrap: str, incarnation: str) -> list[InboxReceipt]:
    """Every receipt of the inbox, as an app reads them."""
    topic = inbox_receipts_topic(incarnation)
    consumer = Consumer({**consumer_settings(bootstrap, "app"), "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    found: list[InboxReceipt] = []
    ended: set[int | None] = set()
    while len(ended) < PARTITIONS:
        for message in consumer.consume(1000, 0.1):
            if message.error() is not None:
                ended.add(message.partition())
            else:
                found.append(msgspec.json.decode(message.value() or b"", type=InboxReceipt))
    consumer.close()
    return found
