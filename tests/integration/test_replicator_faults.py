"""What must never be skipped silently: cuts, gaps, other lives, other writers, lost copies; on two real brokers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from infra.runtime.kafka import KafkaBroker
from services.coordination.lives import LogCut
from streams.logs import events_log
from tests.support.frames import make_topics
from tests.support.poll import wait_until
from tests.support.replicators import (
    PARTITIONS,
    Pair,
    ReplicatorProcess,
    broker_of_site,
    new_pair,
    prefix_of,
    records_of,
)

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


def cut_segment(broker: KafkaBroker, log: str, keep: float) -> None:
    """Kill the broker, cut the last segment as a power loss does, start it again."""
    broker.kill()
    segment = next(broker.data_dir.glob(f"**/{log}-0/*.log"))
    with segment.open("r+b") as file:
        file.truncate(int(segment.stat().st_size * keep))
    broker.start()


def delete_topic(broker: KafkaBroker, log: str) -> None:
    """Delete a topic and wait until it is gone."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for answer in admin.delete_topics([log]).values():
        answer.result()
    wait_until(lambda: log not in admin.list_topics(timeout=10).topics, 30, f"{log} to be deleted")


def remake(broker: KafkaBroker, log: str) -> None:
    """Delete a topic and make it again under the same name."""
    delete_topic(broker, log)
    from confluent_kafka.admin import NewTopic

    from streams.logs import TOPIC_SETTINGS

    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for answer in admin.create_topics([NewTopic(log, PARTITIONS, 1, config=TOPIC_SETTINGS)]).values():
        answer.result()


def test_a_cut_that_was_written_over_is_an_alarm_and_nothing_of_it_is_taken(pair: Pair) -> None:
    """The origin's segment is cut while it is down, then more is acknowledged than was cut; a seal ends the alarm."""
    for start in range(0, 400, 10):
        pair.write(start, 10)
    with pair.replicator() as replicator:
        replicator.wait_held(pair.log, 400)
        copied = records_of(pair.west.bootstrap, pair.log)
        cut_segment(pair.east, pair.log, 0.6)
        found = len(records_of(pair.east.bootstrap, pair.log))
        assert 0 < found < 400
        pair.write(10_000, 600)
        alarm = replicator.wait_alarm(f"{pair.log}/0")
        assert "cut" in alarm or "gone" in alarm
        assert records_of(pair.west.bootstrap, pair.log) == copied
        pair.lives.seal(pair.incarnation, LogCut(pair.log, 0, found, 400))
        wait_until(lambda: not replicator.report().alarms, 30, "the alarm to end with the life")
        assert replicator.partition(pair.log).held == 400
        assert records_of(pair.west.bootstrap, pair.log) == copied


def test_a_cut_above_what_was_copied_is_noticed_by_the_end_that_was_seen(pair: Pair) -> None:
    """What was copied is still there, what was seen beyond it is not: nothing written in its place is taken."""
    for start in range(0, 300, 10):
        pair.write(start, 10, padding=200)
    with pair.replicator(bytes_per_second_max=4000) as replicator:
        wait_until(lambda: 0 < replicator.partition(pair.log).held < 150, 30, "a part to be copied")
        wait_until(lambda: replicator.partition(pair.log).origin_end == 300, 30, "the end to be seen")
        original = records_of(pair.east.bootstrap, pair.log)
        cut_segment(pair.east, pair.log, 0.8)
        found = len(records_of(pair.east.bootstrap, pair.log))
        assert 150 < found < 300
        pair.write(10_000, 400)
    with pair.replicator() as replicator:
        replicator.wait_alarm("the log was cut")
        assert replicator.partition(pair.log).held == found
        assert prefix_of(records_of(pair.west.bootstrap, pair.log)) == [value for _, _, value in original[:found]]
        pair.lives.seal(pair.incarnation, LogCut(pair.log, 0, found, 300))
        wait_until(lambda: not replicator.report().alarms, 30, "the alarm to end with the life")
        assert replicator.partition(pair.log).held == found


def test_a_topic_made_anew_under_the_same_name_is_an_alarm(pair: Pair) -> None:
    """Deleted and made again, with more records than before: nothing of it is taken."""
    pair.write(0, 50)
    with pair.replicator() as replicator:
        replicator.wait_held(pair.log, 50)
        remake(pair.east, pair.log)
        pair.write(1000, 200)
        replicator.wait_alarm(pair.log)
        values = prefix_of(records_of(pair.west.bootstrap, pair.log))
        assert len(values) == 50
        assert values[0] is not None
        assert values[0].startswith(b"record 0 ")


def test_a_retention_gap_is_an_alarm_until_an_operator_accepts_the_hole(pair: Pair) -> None:
    """Records removed before they were copied: stop, refuse wrong holes, accept the right one, go on after it."""
    pair.write(0, 20)
    with pair.replicator() as replicator:
        replicator.wait_held(pair.log, 20)
        replicator.kill()
        pair.write(20, 80)
        admin = AdminClient({"bootstrap.servers": pair.east.bootstrap})
        for answer in admin.delete_records([TopicPartition(pair.log, 0, 60)]).values():
            answer.result()
        replicator.start()
        replicator.wait_alarm("40 records were removed before they were copied")
        assert replicator.partition(pair.log).held == 20
        hole = {"log": pair.log, "partition": 0, "start": 20, "end": 60, "by": "ops", "reason": "retention"}
        assert replicator.accept_hole(**{**hole, "start": 10})[0] == 409
        assert replicator.accept_hole(**{**hole, "reason": " "})[0] == 409
        assert replicator.accept_hole(**{**hole, "end": 6000})[0] == 409
        status, text = replicator.accept_hole(**hole)
        assert status == 200, text
        replicator.wait_held(pair.log, 100)
        wait_until(lambda: not replicator.report().alarms, 30, "the alarm to end")
        assert [(s, e) for s, e, _ in records_of(pair.west.bootstrap, pair.log)][19:22] == [
            (19, 20),
            (20, 60),
            (60, 61),
        ]
        pair.write(100, 10)
        replicator.wait_held(pair.log, 110)
        assert not replicator.report().alarms


def test_another_cluster_under_the_same_address_is_not_copied_from(pair: Pair) -> None:
    """East is wiped: its new Kafka is another life, and its topics are not taken for the old ones."""
    pair.write(0, 40)
    with pair.replicator() as replicator:
        replicator.wait_held(pair.log, 40)
        pair.east.kill()
        shutil.rmtree(pair.east.data_dir / "logs")
        pair.east.start()
        make_topics(pair.east.bootstrap, pair.incarnation, PARTITIONS)
        pair.write(5000, 100)
        replicator.wait_alarm("it is another life")
        assert len(records_of(pair.west.bootstrap, pair.log)) == 40
        report = replicator.report().log(pair.log)
        assert report is not None
        assert not report.reachable
        pair.lives.open(pair.region, pair.east)
        wait_until(lambda: not replicator.report().alarms, 30, "the alarm to end when the old life is sealed")


def test_a_second_copier_is_an_alarm_and_readers_still_take_each_record_once(pair: Pair) -> None:
    """Two copiers write the same copy: both find their place again, and the prefix is whole."""
    pair.write(0, 100)
    with pair.replicator() as first, pair.second_replicator() as second:
        for start in range(100, 500, 50):
            pair.write(start, 50)
        wait_until(
            lambda: any("somebody else" in a for r in (first, second) for a in r.report().alarms), 60, "an alarm"
        )
        first.wait_held(pair.log, 500)
        second.kill()
        pair.write(500, 100)
        first.wait_held(pair.log, 600)
        records = records_of(pair.west.bootstrap, pair.log)
        assert len(records) > 600
        assert len(prefix_of(records)) == 600
        pair.assert_same()


@pytest.mark.parametrize("is_running", [True, False])
def test_a_lost_copy_is_filled_again(pair: Pair, *, is_running: bool) -> None:
    """The topic of the copy is made anew, while the replicator runs or not: everything is copied once more."""
    pair.write(0, 300)
    with pair.replicator() as replicator:
        replicator.wait_held(pair.log, 300)
        if not is_running:
            kept = pair.directory / "west" / "replicator" / f"{pair.log}.json"
            wait_until(lambda: kept.exists() and b'"last":[299,' in kept.read_bytes(), 30, "a checkpoint")
            replicator.kill()
        remake(pair.west, pair.log)
        if not is_running:
            replicator.start()
        replicator.wait_alarm("copy")
        pair.write(300, 10)
        replicator.wait_held(pair.log, 310)
        pair.assert_same()


def test_a_wiped_region_gets_its_own_past_back_from_its_peer(pair: Pair) -> None:
    """East comes back as its next life: the logs of the old one are filled from west's copies."""
    pair.write(0, 250)
    pair.write(0, 30, partition=1)
    with pair.replicator() as west:
        west.wait_held(pair.log, 250, 30)
        original = [value for _, _, value in records_of(pair.east.bootstrap, pair.log)]
        pair.east.kill()
        shutil.rmtree(pair.east.data_dir / "logs")
        pair.east.start()
        incarnation = pair.lives.open(pair.region, pair.east)
        assert incarnation != pair.incarnation
        make_topics(pair.east.bootstrap, incarnation, PARTITIONS)
        name = pair.deployment.site(pair.region)
        with ReplicatorProcess(pair.region, incarnation, pair.deployment, pair.lives, pair.directory / "again") as east:
            east.wait_held(pair.log, 250, 30)
            assert prefix_of(records_of(pair.east.bootstrap, pair.log)) == original
            found = east.report().log(pair.log)
            assert found is not None
            assert found.sealed
            assert name.name == pair.region
            wait_until(lambda: all(log.caught_up for log in east.report().logs), 30, "all to be caught up")
        pair.write(0, 20, log=events_log(incarnation))
        west.wait_held(events_log(incarnation), 20)
