"""The step between Kafka and its readers, on a real broker: which life is it, and is its log whole?"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from infra.runtime.kafka import KafkaBroker
from services.common.region_settings import RegionSettings
from services.coordination import FileStore
from services.coordination.region_record import KeyMismatch, raise_acknowledged_ends
from services.region.errors import RegionError
from services.region.prepare import prepare
from streams.errors import LogTruncated
from streams.logs import producer_settings, topics_of
from tests.support.poll import wait_until

pytestmark = pytest.mark.integration


def region_on(broker: KafkaBroker, data_dir: Path, name: str, partitions: int = 2) -> RegionSettings:
    """A region's settings over a broker of the test."""
    return RegionSettings(name=name, data_dir=data_dir, bootstrap=broker.bootstrap, partitions=partitions)


async def test_the_first_start_makes_both_lives_topics_and_a_key(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Topics of this incarnation and of the next exist, with settings that delete nothing."""
    region = region_on(kafka, tmp_path, "first", partitions=3)
    assert await prepare(region) == "first-1"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    topics = admin.list_topics(timeout=10).topics
    for name in (*topics_of("first-1"), *topics_of("first-2")):
        assert len(topics[name].partitions) == 3
    resource = ConfigResource(ResourceType.TOPIC, "first-1.events")
    found = admin.describe_configs([resource])[resource].result(10)
    assert found["retention.ms"].value == "-1"
    assert found["cleanup.policy"].value == "delete"
    assert found["message.timestamp.type"].value == "LogAppendTime"
    assert region.pseudonym_key_file.stat().st_mode & 0o077 == 0
    assert region.incarnation_file.read_text() == "first-1\n"


async def test_a_second_start_is_the_same_life(kafka: KafkaBroker, tmp_path: Path) -> None:
    """The same broker is the same incarnation, and the key is kept."""
    region = region_on(kafka, tmp_path, "second")
    assert await prepare(region) == "second-1"
    key = region.pseudonym_key_file.read_text()
    assert await prepare(region) == "second-1"
    assert region.pseudonym_key_file.read_text() == key


async def test_a_wiped_broker_is_the_next_life(fresh_broker: KafkaBroker, tmp_path: Path) -> None:
    """Another cluster id opens the next incarnation, whose log is empty and owes nothing."""
    region = region_on(fresh_broker, tmp_path / "region", "wiped")
    assert await prepare(region) == "wiped-1"
    await raise_acknowledged_ends(FileStore(region.coordination_file), "wiped-1.events", {0: 5})
    fresh_broker.stop()
    shutil.rmtree(fresh_broker.data_dir / "logs")
    fresh_broker.start()
    assert await prepare(region) == "wiped-2"


async def test_a_log_that_ends_before_what_was_acknowledged_is_refused(kafka: KafkaBroker, tmp_path: Path) -> None:
    """The message names partition, acknowledged end and found end, and what to do."""
    region = region_on(kafka, tmp_path, "cut")
    await prepare(region)
    await raise_acknowledged_ends(FileStore(region.coordination_file), "cut-1.events", {0: 0, 1: 7})
    with pytest.raises(LogTruncated, match=r"partition 1: acknowledged up to 7, ends at 0.*Restore"):
        await prepare(region)


async def test_a_log_whose_topic_is_gone_is_refused_and_not_made_anew(kafka: KafkaBroker, tmp_path: Path) -> None:
    """A deleted topic is the deepest cut of all."""
    region = region_on(kafka, tmp_path, "gone")
    await prepare(region)
    producer = Producer(producer_settings(kafka.bootstrap))
    producer.produce("gone-1.events", b"acknowledged", partition=0)
    assert producer.flush(20) == 0
    await raise_acknowledged_ends(FileStore(region.coordination_file), "gone-1.events", {0: 1})
    await prepare(region)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.delete_topics(["gone-1.events"])["gone-1.events"].result(10)
    wait_until(lambda: "gone-1.events" not in admin.list_topics(timeout=10).topics, 10, "the topic to be gone")
    with pytest.raises(LogTruncated, match="ends at 0"):
        await prepare(region)
    assert "gone-1.events" not in admin.list_topics(timeout=10).topics


async def test_a_lost_or_foreign_key_is_refused(kafka: KafkaBroker, tmp_path: Path) -> None:
    """With another key every user would be a stranger: neither a new one nor another one is taken."""
    region = region_on(kafka, tmp_path, "keyed")
    await prepare(region)
    region.pseudonym_key_file.unlink()
    with pytest.raises(KeyMismatch, match=r"is gone.*Put the file back"):
        await prepare(region)
    region.pseudonym_key_file.write_text("ab" * 32)
    with pytest.raises(KeyMismatch, match="were written with"):
        await prepare(region)
    region.pseudonym_key_file.write_text("not hex")
    with pytest.raises(RegionError, match="is not 64 hex digits"):
        await prepare(region)


async def test_another_partition_count_is_refused(kafka: KafkaBroker, tmp_path: Path) -> None:
    """A log's partition count never changes: users would move between partitions."""
    await prepare(region_on(kafka, tmp_path, "spread"))
    with pytest.raises(RegionError, match="has 2 partitions, the settings say 4"):
        await prepare(region_on(kafka, tmp_path, "spread", partitions=4))
