"""Frames of a small shop, written straight into a log: what a gateway does, without the gateway."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Sequence

from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from streams.asks import Ask
from streams.frame import EventRow, encode_frame, frame_headers
from streams.kinds import Kind
from streams.logs import TOPIC_SETTINGS, partition_of, producer_settings, record_key, topics_of
from streams.position import Position

KEY_FINGERPRINT = "00112233445566aa"
START_MS = 1_700_000_000_000
PARTITIONS = 4
WORDS = ["red", "blue", "small", "large", "lamp", "chair", "phone", "cable", "mug", "bag"]


def make_topics(bootstrap: str, incarnation: str, partitions: int = PARTITIONS) -> None:
    """Make the topics of an incarnation, as a region does before its first start."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = [
        NewTopic(t, num_partitions=partitions, replication_factor=1, config=TOPIC_SETTINGS)
        for t in topics_of(incarnation)
    ]
    for made in admin.create_topics(new).values():
        made.result(timeout=20)


def item_name(number: int) -> str:
    """The nth item."""
    return f"item-{number:04d}"


def identity(*parts: object) -> bytes:
    """16 bytes that depend on all parts."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


def item_rows(count: int, time_ms: int = START_MS) -> list[EventRow]:
    """A catalogue: titles of three words, two categories, every fifth item out of stock."""
    rows = []
    for number in range(count):
        chance = random.Random(number)
        body = {
            "category": "home" if number % 2 else "tech",
            "price": 1.0 + number,
            "stock": 0 if number % 5 == 4 else 7,
            "title": " ".join(chance.sample(WORDS, 3)),
        }
        rows.append(
            EventRow(
                identity=identity("item", number, time_ms),
                time_ms=time_ms,
                user=0,
                session=0,
                kind=Kind.ITEM,
                item=item_name(number),
                body=json.dumps(body, separators=(",", ":"), sort_keys=True).encode(),
            )
        )
    return rows


def event_rows(count: int, seed: int, users: int = 50, items: int = 40) -> list[EventRow]:
    """Searches and clicks; the same seed gives the same events."""
    chance = random.Random(seed)
    rows = []
    for number in range(count):
        user = chance.randrange(1, users)
        query = " ".join(chance.sample(WORDS, 2))
        kind = Kind.CLICK if number % 2 else Kind.SEARCH
        rows.append(
            EventRow(
                identity=identity(seed, number),
                time_ms=START_MS + number * 1000,
                user=user,
                session=user * 10,
                kind=kind,
                query=query,
                item=item_name(chance.randrange(items)) if kind is Kind.CLICK else "",
            )
        )
    return rows


def by_user(rows: Iterable[EventRow], partitions: int = PARTITIONS) -> dict[int, list[EventRow]]:
    """Rows by the partition that their user (or item) belongs to."""
    spread: dict[int, list[EventRow]] = {}
    for row in rows:
        spread.setdefault(partition_of(row.user, partitions), []).append(row)
    return spread


class FrameWriter:
    """Writes frames and waits for each acknowledgement batch; knows every position that was acknowledged."""

    def __init__(self, bootstrap: str, log: str, partitions: int = PARTITIONS) -> None:
        self.log = log
        self.partitions = partitions
        self.acknowledged: list[Position] = []
        self.failed: list[str] = []
        self.producer = Producer({**producer_settings(bootstrap), "delivery.timeout.ms": 60_000})

    def raw(self, value: bytes | None, headers: list[tuple[str, bytes]], partition: int, key: int = 0) -> None:
        """Queue any record."""
        self.producer.produce(
            self.log,
            value=value,
            key=record_key(key),
            headers=[*headers],
            partition=partition,
            on_delivery=self._report,
        )
        self.producer.poll(0)

    def frame(self, rows: Sequence[EventRow], partition: int, asks: Sequence[Ask] = ()) -> None:
        """Queue one frame."""
        self.raw(encode_frame(rows), frame_headers(len(rows), KEY_FINGERPRINT, asks), partition)

    def spread(self, rows: Sequence[EventRow], frame_events: int = 25) -> None:
        """Queue rows by user, in frames."""
        for partition, mine in by_user(rows, self.partitions).items():
            for start in range(0, len(mine), frame_events):
                self.frame(mine[start : start + frame_events], partition)

    def flush(self, timeout_seconds: float = 60.0) -> list[Position]:
        """Wait for every acknowledgement; fails when one is missing."""
        left = self.producer.flush(timeout_seconds)
        assert left == 0, f"{left} records were not acknowledged in {timeout_seconds:g} s"
        assert not self.failed, self.failed
        return self.acknowledged

    def _report(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failed.append(error.str())
            return
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        self.acknowledged.append(Position(self.log, partition, offset))
