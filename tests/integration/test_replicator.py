"""The replicator on two real brokers: what is copied, and that it goes on after every kind of end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Producer

from infra.runtime.kafka import KafkaBroker
from services.common.deployment import Deployment
from streams.logs import events_log, producer_settings, rankings_log
from tests.support.frames import make_topics
from tests.support.poll import wait_until
from tests.support.replicators import PARTITIONS, Lives, ReplicatorProcess, deployment_of, prefix_of, records_of

pytestmark = pytest.mark.integration


@dataclass
class Pair:
    """Two regions: east is copied into west."""

    east: KafkaBroker
    west: KafkaBroker
    deployment: Deployment
    lives: Lives
    directory: Path
    log: str
    own: str

    def replicator(self, name: str = "west", **settings: object) -> ReplicatorProcess:
        """The replicator of west."""
        return ReplicatorProcess("west", self.own, self.deployment, self.lives, self.directory / name, **settings)

    def write(self, first: int, count: int, partition: int = 0, log: str = "", padding: int = 20) -> None:
        """Acknowledged records at the origin, numbered."""
        producer = Producer(producer_settings(self.east.bootstrap))
        for number in range(first, first + count):
            value = f"record {number} ".encode() + b"x" * padding
            producer.produce(
                log or self.log, value, f"key {number}".encode(), partition, headers=[("n", b"%d" % number)]
            )
            producer.poll(0)
        assert producer.flush(60) == 0

    def assert_same(self, partition: int = 0, log: str = "") -> None:
        """What readers take from the copy is what the origin holds."""
        name = log or self.log
        original = [value for _, _, value in records_of(self.east.bootstrap, name, partition)]
        assert prefix_of(records_of(self.west.bootstrap, name, partition)) == original


@pytest.fixture
def pair(kafka: KafkaBroker, fresh_broker: KafkaBroker, tmp_path: Path) -> Pair:
    """East is the test's own broker; west is shared, so that its regions are named after the test."""
    east, west = fresh_broker, kafka
    lives = Lives(tmp_path / "lives.json")
    region = "e" + tmp_path.parent.name.replace("-", "") + tmp_path.name.replace("-", "").replace("_", "").lower()
    name = region[:28]
    incarnation, own = lives.open(name, east), lives.open("west", west)
    deployment = deployment_of(tmp_path, **{name: east, "west": west})
    make_topics(east.bootstrap, incarnation, PARTITIONS)
    return Pair(east, west, deployment, lives, tmp_path, events_log(incarnation), own)


def test_records_arrive_whole_in_order_and_under_the_same_name(pair: Pair) -> None:
    """Values, order and partitions of all logs; the copy says where each record stood; lag and contact are told."""
    pair.write(0, 500)
    pair.write(0, 30, partition=1)
    rankings = rankings_log(pair.log.rpartition(".")[0])
    pair.write(0, 10, log=rankings)
    with pair.replicator() as replicator:
        replicator.wait_held(pair.log, 500, 30)
        replicator.wait_held(rankings, 10)
        pair.write(500, 100)
        replicator.wait_held(pair.log, 600, 30)
        for partition in range(PARTITIONS):
            pair.assert_same(partition)
        assert [start for start, _, _ in records_of(pair.west.bootstrap, pair.log)] == list(range(600))
        found = replicator.report().log(pair.log)
        assert found is not None
        assert found.reachable
        assert found.last_contact_ms > 0
        wait_until(lambda: (found := replicator.report().log(pair.log)) and found.caught_up, 30, "it to be caught up")
        assert not replicator.report().alarms
        assert replicator.terminate() == 0


def test_a_copier_that_is_killed_again_and_again_neither_loses_nor_doubles(pair: Pair) -> None:
    """Kill -9 in the middle of copying, three times: every record once, in order."""
    with pair.replicator(bytes_per_second_max=200_000) as replicator:
        for round_number in range(3):
            pair.write(round_number * 3000, 3000, padding=100)
            wait_until(lambda n=round_number: replicator.partition(pair.log).held > n * 3000 + 500, 60, "half of it")
            replicator.kill()
            replicator.start()
    with pair.replicator() as replicator:
        replicator.wait_held(pair.log, 9000)
        records = records_of(pair.west.bootstrap, pair.log)
        assert [start for start, _, _ in records] == list(range(9000))
        pair.assert_same()
