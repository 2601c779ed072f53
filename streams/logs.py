"""The names of logs, how events are spread over their partitions, and the Kafka settings that every client shares.

A log's name carries its incarnation and is never used again. Partition counts are the same everywhere, and the
partitioner is spelled out here (xxh3 over eight little-endian bytes) instead of being left to a client library,
because two producers that disagree would put one user's events out of order.
"""

from typing import Final

import xxhash

PARTITIONS_DEFAULT: Final = 8

TOPIC_SETTINGS: Final[dict[str, str]] = {
    "cleanup.policy": "delete",
    # Broker defaults would delete the log of past events within seconds of its being written.
    "retention.ms": "-1",
    "retention.bytes": "-1",
    # Event time lives in the events; the broker's time says when a record was appended.
    "message.timestamp.type": "LogAppendTime",
    "unclean.leader.election.enable": "false",
    "max.message.bytes": str(4 << 20),
}


def events_log(incarnation: str) -> str:
    """The log of what happened: the only input of the fold."""
    return f"{incarnation}.events"


def rankings_log(incarnation: str) -> str:
    """The log of effects: answers, never read by the fold."""
    return f"{incarnation}.rankings"


def dead_log(incarnation: str) -> str:
    """The log of what could not be read, with reason and origin position."""
    return f"{incarnation}.dead"


def topics_of(incarnation: str) -> tuple[str, str, str]:
    """Every topic that an incarnation owns."""
    return events_log(incarnation), rankings_log(incarnation), dead_log(incarnation)


def record_key(key: int) -> bytes:
    """The Kafka key of a frame: the partitioning number (a pseudonym, or an item's hash) as 8 bytes."""
    return key.to_bytes(8, "little")


def partition_of(key: int, partitions: int) -> int:
    """The partition of a user (by pseudonym, uint64) or of an item event (by item hash, uint64)."""
    return xxhash.xxh3_64_intdigest(record_key(key)) % partitions


def record_checksum(value: bytes) -> int:
    """Checksum (xxh3, uint64) of a record's value: what a log must show again after a reconnect."""
    return xxhash.xxh3_64_intdigest(value)


def producer_settings(bootstrap: str) -> dict[str, str | int | float | bool]:
    """Settings for librdkafka under which an acknowledged record survives a killed broker, once and in order."""
    return {
        "bootstrap.servers": bootstrap,
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",
        "linger.ms": 0,
        "message.max.bytes": 4 << 20,
        # The default back-offs keep a client away for up to 10 s from a broker that is back after 3.
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,
    }


def consumer_settings(bootstrap: str, group: str) -> dict[str, str | int | float | bool]:
    """Settings for librdkafka of a reader that keeps its own position and must never skip silently."""
    return {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # Data that is gone is an alarm, never a jump.
        "auto.offset.reset": "error",
        # The default (1000 ms) throttles big records.
        "fetch.queue.backoff.ms": 10,
        "fetch.message.max.bytes": 4 << 20,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,
    }
