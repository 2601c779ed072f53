"""The broker that every other integration test stands on."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.runtime.kafka import KafkaBroker, free_ports, port_is_free
from streams.logs import TOPIC_SETTINGS, consumer_settings, producer_settings

pytestmark = pytest.mark.integration


def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    """Write `values` to partition 0 and wait for every acknowledgement."""
    producer = Producer(producer_settings(bootstrap))
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(30) == 0


def consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    """Read `count` values of partition 0 from the start."""
    consumer = Consumer(consumer_settings(bootstrap, "test-runtime"))
    consumer.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes] = []
    deadline = time.monotonic() + 30
    while len(values) < count and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            values.append(message.value())
    consumer.close()
    return values


def create(bootstrap: str, topic: str) -> None:
    """Create a topic as the region does."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1, config=TOPIC_SETTINGS)])[topic].result(20)


def test_acknowledged_records_survive_a_killed_broker(fresh_broker: KafkaBroker) -> None:
    """What was acknowledged before a kill -9 is there, once and in order, after the restart."""
    create(fresh_broker.bootstrap, "survives")
    values = [b"%d" % number for number in range(500)]
    produce(fresh_broker.bootstrap, "survives", values)
    identity = fresh_broker.cluster_id
    fresh_broker.kill()
    fresh_broker.start()
    assert consume(fresh_broker.bootstrap, "survives", 500) == values
    assert fresh_broker.cluster_id == identity


def test_a_producer_s_idea_of_time_is_not_the_log_s(kafka: KafkaBroker) -> None:
    """A record stamped years ago gets the broker's time: by its own, retention would delete it within seconds."""
    create(kafka.bootstrap, "years-old")
    stamped: list[tuple[int, int]] = []
    producer = Producer(producer_settings(kafka.bootstrap))
    producer.produce(
        "years-old",
        b"from 2011",
        partition=0,
        timestamp=1_300_000_000_000,
        on_delivery=lambda _, message: stamped.append(message.timestamp()),
    )
    assert producer.flush(30) == 0
    (kind, time_ms) = stamped[0]
    assert kind == TIMESTAMP_LOG_APPEND_TIME
    assert time_ms > 1_700_000_000_000


def test_topics_are_never_created_by_accident(kafka: KafkaBroker) -> None:
    """A misspelt topic is an error, not a new topic."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    Producer(producer_settings(kafka.bootstrap)).list_topics("misspelt", timeout=10)
    assert "misspelt" not in admin.list_topics(timeout=10).topics


def test_free_ports_are_distinct_and_free() -> None:
    """Ports handed out together differ and can be bound."""
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(port_is_free(port) for port in ports)
