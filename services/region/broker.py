"""What the preparing step asks of the region's Kafka: which cluster it is, where logs end, and topics."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Future
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from services.common.exit_codes import ExitCode
from services.region.errors import RegionError
from streams.logs import consumer_settings, topic_settings

ANSWER_TIMEOUT_SECONDS = 30.0
POLL_SECONDS = 0.1
_NOT_THERE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION)  # noqa: SLF001 - its public name
_NOT_LED_YET = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
)
"""What a broker that has just come back says of a partition that it leads in a moment."""


class BrokerSilent(RegionError):
    """Kafka did not answer; the step is tried again."""


def admin_of(bootstrap: str) -> AdminClient:
    """Return a client for the questions below."""
    return AdminClient({"bootstrap.servers": bootstrap, "reconnect.backoff.max.ms": 500})


def cluster_id_of(admin: AdminClient, bootstrap: str) -> str:
    """Return the id under which the broker's directory was formatted. Raises BrokerSilent."""
    try:
        description = admin.describe_cluster(request_timeout=ANSWER_TIMEOUT_SECONDS).result(ANSWER_TIMEOUT_SECONDS)
    except (KafkaException, TimeoutError) as error:
        raise BrokerSilent(f"Kafka at {bootstrap} does not answer: {error}", ExitCode.CRASH) from error
    return str(description.cluster_id)


def log_ends(bootstrap: str, places: Iterable[tuple[str, int]]) -> dict[str, dict[int, int]]:
    """Return the offset after the last record of each (log, partition); 0 where there is none. Raises BrokerSilent."""
    consumer = Consumer(consumer_settings(bootstrap, "meridian-prepare"))
    try:
        ends: dict[str, dict[int, int]] = {}
        for log_name, partition in places:
            ends.setdefault(log_name, {})[partition] = _end(consumer, log_name, partition)
        return ends
    finally:
        consumer.close()


def _end(consumer: Consumer, log_name: str, partition: int) -> int:
    deadline = time.monotonic() + ANSWER_TIMEOUT_SECONDS
    place = TopicPartition(log_name, partition)
    while True:
        try:
            return int(consumer.get_watermark_offsets(place, timeout=ANSWER_TIMEOUT_SECONDS)[1])
        except KafkaException as error:
            code = error.args[0].code()
            if code in _NOT_THERE:
                return 0
            if code not in _NOT_LED_YET or time.monotonic() > deadline:
                where = f"{log_name}/{partition}"
                raise BrokerSilent(f"Kafka does not say where {where} ends: {error}", ExitCode.CRASH) from error
        time.sleep(POLL_SECONDS)


def make_topics(admin: AdminClient, topics: Iterable[str], partitions: int) -> None:
    """Create what is missing; refuse a topic that is there with another partition count."""
    wanted = list(topics)
    _create(admin, [name for name in wanted if name not in _counts(admin)], partitions)
    deadline = time.monotonic() + ANSWER_TIMEOUT_SECONDS
    while missing := set(wanted) - (counts := _counts(admin)).keys():
        # The controller has made them; the broker learns of it a moment later.
        if time.monotonic() > deadline:
            raise BrokerSilent(f"Kafka does not show {', '.join(sorted(missing))} after creating them", ExitCode.CRASH)
        time.sleep(POLL_SECONDS)
    for name in wanted:
        if counts[name] != partitions:
            raise RegionError(
                f"{name} has {counts[name]} partitions, the settings say {partitions}. A log's "
                f"partition count never changes: set [region] partitions = {counts[name]}."
            )


def _counts(admin: AdminClient) -> dict[str, int]:
    """Return the partition count of every topic that the broker knows."""
    try:
        topics = admin.list_topics(timeout=ANSWER_TIMEOUT_SECONDS).topics
    except KafkaException as error:
        raise BrokerSilent(f"Kafka does not list its topics: {error}", ExitCode.CRASH) from error
    return {name: len(topic.partitions) for name, topic in topics.items()}


def _create(admin: AdminClient, names: list[str], partitions: int) -> None:
    if not names:
        return
    topics = [NewTopic(name, partitions, 1, config=topic_settings(name)) for name in names]
    results = admin.create_topics(topics, operation_timeout=ANSWER_TIMEOUT_SECONDS)
    for name, result in cast("dict[str, Future[None]]", results).items():
        try:
            result.result(ANSWER_TIMEOUT_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise BrokerSilent(f"Kafka did not create {name}: {error}", ExitCode.CRASH) from error
