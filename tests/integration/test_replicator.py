"""The replicator on two real brokers: what is copied, and that it goes on after every kind of end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.runtime.kafka import KafkaBroker
from streams.logs import rankings_log
from tests.support.poll import wait_until
from tests.support.replicators import PARTITIONS, Pair, broker_of_site, new_pair, records_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def west(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """The broker that is copied into; the tests of this file share it."""
    with broker_of_site(tmp_path_factory.mktemp("west")) as broker:
        yield broker


@pytest.fixture
def pair(west: KafkaBroker, tmp_path: Path) -> Iterator[Pair]:
    """East, the test's own, is copied into west."""
    with broker_of_site(tmp_path / "east") as east:
        yield new_pair(west, east, tmp_path)


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
