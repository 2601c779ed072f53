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

INBOX_UNMOVED_HOURS_MAX: Final = 72
"""What nobody moved out of an inbox is removed after so long: raw identifiers must not lie anywhere for ever."""
INBOX_RECEIPTS_HOURS: Final = 24

_INBOX_SETTINGS: Final = {
    **TOPIC_SETTINGS,
    "retention.ms": str(INBOX_UNMOVED_HOURS_MAX * 3_600_000),
    # What was removed leaves the disk with its segment: small ones, closed often.
    "segment.bytes": str(64 << 20),
    "segment.ms": str(10 * 60_000),
    "max.message.bytes": str(1 << 20),
}
_INBOX_RECEIPTS_SETTINGS: Final = {
    **TOPIC_SETTINGS,
    "retention.ms": str(INBOX_RECEIPTS_HOURS * 3_600_000),
    "segment.bytes": str(64 << 20),
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
    """Every log that an incarnation owns: what other regions copy."""
    return events_log(incarnation), rankings_log(incarnation), dead_log(incarnation)


def inbox_topic(incarnation: str) -> str:
    """Where apps publish single events by Kafka: a short-lived queue of this region alone, and no log."""
    return f"{incarnation}.inbox"


def inbox_receipts_topic(incarnation: str) -> str:
    """What became of the records of the inbox, by their offsets."""
    return f"{incarnation}.inbox-receipts"


def queues_of(incarnation: str) -> tuple[str, str]:
    """Topics that an incarnation has beside its logs. They are never copied, and made when the life begins.

    Not before: an app that looks for the newest inbox must find the one that is read.
    """
    return inbox_topic(incarnation), inbox_receipts_topic(incarnation)


def topic_settings(topic: str) -> dict[str, str]:
    """The settings with which a topic is made, by its name."""
    kind = topic.rpartition(".")[2]
    return {"inbox": _INBOX_SETTINGS, "inbox-receipts": _INBOX_RECEIPTS_SETTINGS}.get(kind, TOPIC_SETTINGS)


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
