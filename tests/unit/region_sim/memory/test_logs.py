"""The modelled Kafka: what it keeps, what it loses, and how a shipped reader can tell."""

from __future__ import annotations

import asyncio
import random

import pytest

from region_sim.memory.clocks import MachineClock
from region_sim.memory.kernel import Kernel
from region_sim.memory.logs import Broker, DiskFull, LogRecord, Loss, OutOfOrder, OutOfRange, UnknownTopic
from streams.frame import EventRow, decode_frame, encode_frame, frame_headers
from streams.kinds import Kind
from streams.truncation import LogEnd, Mark, cut_blocker

PLACE = ("east-1.events", 0)


class World:
    """A broker with a log of two partitions."""

    def __init__(self, seed: int = 1) -> None:
        self.kernel = Kernel()
        self.clock = MachineClock(self.kernel)
        self.broker = Broker("east", self.clock, random.Random(seed))
        self.broker.make_topic("east-1.events", 2)

    def append(self, *values: bytes, partition: int = 0) -> list[int]:
        """Append values."""
        return [self.broker.append("east-1.events", partition, value) for value in values]

    def values(self, start: int = 0, partition: int = 0) -> list[bytes | None]:
        """What is there."""
        return [record.value for record in self.broker.read("east-1.events", partition, start)]

    async def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)


@pytest.fixture
def world() -> World:
    """A fresh one."""
    return World()


def test_records_come_back_as_they_were_written(world: World) -> None:
    """Bytes, headers in their order, the time of the site's wall clock, one offset after the other."""
    headers = [("meridian-frame", b"\1"), ("x", b""), ("x", b"\0\xff")]
    world.clock.step_wall(60)
    assert world.broker.append("east-1.events", 1, b"\0value", headers, b"key") == 0
    assert world.broker.append("east-1.events", 1, None) == 1
    first, second = world.broker.read("east-1.events", 1, 0)
    assert first == LogRecord(0, 0, world.clock.unix_ms(), b"key", b"\0value", headers)
    assert (second.offset, second.value, second.key, second.headers) == (1, None, None, [])
    assert world.broker.read("east-1.events", 0, 0) == []
    assert [record.offset for record in world.broker.read("east-1.events", 1, 0, max=1)] == [0]
    assert world.broker.read("east-1.events", 1, 2) == []


def test_a_shipped_frame_survives(world: World) -> None:
    """Producers and consumers exchange the real bytes."""
    row = EventRow(bytes(range(16)), 1_700_000_000_000, 7, 8, Kind.CLICK, "query", "item")
    world.broker.append("east-1.events", 0, encode_frame([row]), frame_headers(1, "0" * 16))
    (record,) = world.broker.read("east-1.events", 0, 0)
    assert decode_frame(record.value, record.headers).user.tolist() == [7]


def test_topics_have_ids_and_places_that_are_not_there_are_left_out(world: World) -> None:
    """Asked twice for, a log is made once."""
    ids = world.broker.topic_ids(["east-1.events", "none"])
    world.broker.make_topic("east-1.events", 7)
    world.broker.make_topic("other", 1)
    assert world.broker.partition_counts() == {"east-1.events": 2, "other": 1}
    assert world.broker.topic_ids(["east-1.events"]) == ids
    assert world.broker.topic_ids(["other"]) != ids
    assert world.broker.ends([PLACE, ("none", 0), ("other", 1)]) == {PLACE: LogEnd(0, 0)}
    assert world.broker.lows([("none", 0)]) == {}
    for ask in (lambda: world.broker.append("none", 0, b""), lambda: world.broker.read("other", 1, 0)):
        with pytest.raises(UnknownTopic):
            ask()


def test_what_was_acknowledged_a_moment_ago_can_be_lost(world: World) -> None:
    """All of the last second at most; the same cluster, shorter, and what comes next takes the same offsets."""

    async def main() -> None:
        world.append(b"old 0", b"old 1")
        world.append(b"old", partition=1)
        await world.pass_time(1.2)
        world.append(b"new 2", b"new 3")
        cluster, topics = world.broker.cluster_id, world.broker.topic_ids(["east-1.events"])
        assert world.broker.lose_unflushed() == [Loss("east-1.events", 0, 2, 4)]
        world.broker.restart()
        assert (world.broker.cluster_id, world.broker.topic_ids(["east-1.events"])) == (cluster, topics)
        assert world.values() == [b"old 0", b"old 1"]
        assert world.append(b"other 2") == [2]
        (replaced,) = world.broker.read("east-1.events", 0, 2)
        assert (replaced.leader_epoch, replaced.value) == (1, b"other 2")
        assert cut_blocker(PLACE, Mark(4, 0, 0), world.broker.ends([PLACE])[PLACE]) is not None

    world.kernel.run(main())


def test_what_reached_the_disk_is_not_lost(world: World) -> None:
    """By time, or because somebody flushed; and a loss of one log leaves the others alone."""

    async def main() -> None:
        world.append(b"0")
        await world.pass_time(5)
        assert world.broker.lose_unflushed() == []
        world.append(b"1")
        world.broker.flush()
        world.append(b"2")
        world.broker.make_topic("other", 1)
        world.broker.append("other", 0, b"")
        assert world.broker.lose_unflushed("other") == [Loss("other", 0, 0, 1)]
        assert world.values() == [b"0", b"1", b"2"]
        assert world.broker.lose_unflushed() == [Loss("east-1.events", 0, 2, 3)]
        assert world.values() == [b"0", b"1"]

    world.kernel.run(main())


def test_the_newest_records_can_be_cut_off(world: World) -> None:
    """No more than there are."""
    world.append(b"0", b"1", b"2")
    assert world.broker.cut("east-1.events", 0, 2) == Loss("east-1.events", 0, 1, 3)
    assert world.values() == [b"0"]
    assert world.broker.cut("east-1.events", 0, 10) == Loss("east-1.events", 0, 0, 1)
    assert world.broker.ends([PLACE]) == {PLACE: LogEnd(0, 0)}


def test_a_reader_of_a_log_that_was_cut_is_told_where_it_ends(world: World) -> None:
    """As a broker answers: out of range."""
    world.append(b"0", b"1", b"2")
    reader = world.broker.reader("east-1.events", 0, 0)
    assert len(reader.take()) == 3
    world.broker.cut("east-1.events", 0, 1)
    with pytest.raises(OutOfRange) as caught:
        reader.take()
    assert (caught.value.low, caught.value.end, reader.offset) == (0, 2, 3)


def test_files_that_were_deleted_leave_an_empty_partition(world: World) -> None:
    """Under the same topic, while the other partition keeps all."""
    world.append(b"0", b"1")
    world.append(b"0", partition=1)
    ids = world.broker.topic_ids(["east-1.events"])
    assert world.broker.empty("east-1.events", 0) == Loss("east-1.events", 0, 0, 2)
    world.broker.restart()
    assert world.values() == []
    assert world.values(partition=1) == [b"0"]
    assert world.broker.topic_ids(["east-1.events"]) == ids
    assert world.append(b"again") == [0]
    assert world.broker.read("east-1.events", 0, 0)[0].leader_epoch == 1


def test_leader_epochs_tell_where_each_life_of_the_broker_ended(world: World) -> None:
    """As OffsetsForLeaderEpoch answers, also after a cut."""
    world.append(b"0", b"1", b"2")
    world.broker.restart()
    world.append(b"3")
    world.broker.restart()
    world.broker.restart()
    world.append(b"4", b"5")
    assert [record.leader_epoch for record in world.broker.read("east-1.events", 0, 0)] == [0, 0, 0, 1, 3, 3]
    ends = [world.broker.end_of_epoch("east-1.events", 0, epoch) for epoch in range(-1, 5)]
    assert ends == [LogEnd(-1, -1), LogEnd(3, 0), LogEnd(4, 1), LogEnd(4, 1), LogEnd(6, 3), LogEnd(6, 3)]
    world.broker.cut("east-1.events", 0, 4)
    assert world.broker.end_of_epoch("east-1.events", 0, 3) == LogEnd(2, 0)
    assert world.broker.ends([PLACE]) == {PLACE: LogEnd(2, 3)}


def test_retention_raises_the_low_watermark(world: World) -> None:
    """Offsets stay what they are; what lies before is out of range."""
    world.append(b"0", b"1", b"2")
    world.broker.delete_before("east-1.events", 0, 2)
    assert world.broker.lows([PLACE]) == {PLACE: 2}
    assert world.values(2) == [b"2"]
    with pytest.raises(OutOfRange):
        world.values(1)
    world.broker.delete_before("east-1.events", 0, 99)
    assert world.append(b"3") == [3]
    assert world.broker.cut("east-1.events", 0, 99) == Loss("east-1.events", 0, 3, 4)


def test_a_wiped_site_has_another_cluster(world: World) -> None:
    """And topics of the same name are others."""
    world.append(b"0")
    cluster, ids = world.broker.cluster_id, world.broker.topic_ids(["east-1.events"])
    world.broker.wipe()
    assert world.broker.cluster_id != cluster
    assert world.broker.partition_counts() == {}
    world.broker.make_topic("east-1.events", 2)
    assert world.broker.topic_ids(["east-1.events"]) != ids


def test_a_full_disk_takes_nothing_and_shows_everything(world: World) -> None:
    """Until there is room again."""
    world.append(b"0")
    world.broker.disk_full = True
    with pytest.raises(DiskFull):
        world.append(b"1")
    with pytest.raises(DiskFull):
        world.broker.make_topic("new", 1)
    world.broker.make_topic("east-1.events", 2)
    assert world.values() == [b"0"]
    world.broker.disk_full = False
    assert world.append(b"1") == [1]


def test_an_idempotent_producer_writes_once_and_in_order(world: World) -> None:
    """A record that is sent again is not written again; one whose predecessor is missing is refused."""

    def send(number: int, producer: int = 5) -> int:
        return world.broker.append("east-1.events", 0, b"%d" % number, producer=(producer, number))

    assert [send(0), send(1), send(1), send(0, producer=6)] == [0, 1, 1, 2]
    with pytest.raises(OutOfOrder):
        send(3)
    assert send(2) == 3
    world.broker.cut("east-1.events", 0, 1)
    with pytest.raises(OutOfOrder):
        send(3)
    assert world.values() == [b"0", b"1", b"0"]


def test_a_reader_wakes_when_there_is_something(world: World) -> None:
    """At once, or not at all before its patience ends; nothing of another partition is taken for its own."""

    async def main() -> None:
        reader = world.broker.reader("east-1.events", 0, 0)
        world.kernel.call_later(1, world.append, b"0")
        world.kernel.call_later(0.5, world.broker.append, "east-1.events", 1, b"other")
        began = world.kernel.time()
        assert [record.value for record in await reader.poll(10)] == [b"0"]
        assert world.kernel.time() - began == pytest.approx(1)
        assert await reader.poll(2) == []
        assert world.kernel.time() - began == pytest.approx(3)
        waiting = asyncio.create_task(reader.poll(100))
        await asyncio.sleep(1)
        world.broker.wipe()
        with pytest.raises(UnknownTopic):
            await waiting
        given_up = asyncio.create_task(world.broker.changed.wait(100))
        await asyncio.sleep(1)
        given_up.cancel()
        await asyncio.sleep(1)
        assert not world.broker.changed._waiters

    world.kernel.run(main())


def test_who_reads_one_kind_of_log_is_not_woken_for_another(world: World) -> None:
    """But for whatever else happens to logs."""

    async def waited(seconds: float) -> bool:
        return await world.broker.changed_of("rankings").wait(seconds)

    async def main() -> None:
        world.broker.make_topic("east-1.rankings", 1)
        world.kernel.call_later(0.5, world.append, b"0")
        assert not await waited(1.0)
        world.kernel.call_later(0.5, world.broker.append, "east-1.rankings", 0, b"0")
        assert await waited(1.0)
        for happens in (world.broker.restart, world.broker.wipe):
            world.kernel.call_later(0.5, happens)
            assert await waited(1.0)

    world.kernel.run(main())


def test_one_seed_gives_the_same_ids() -> None:
    """And another one others."""
    first, same, other = World(1), World(1), World(2)
    assert first.broker.cluster_id == same.broker.cluster_id != other.broker.cluster_id
    assert first.broker.topic_ids(["east-1.events"]) == same.broker.topic_ids(["east-1.events"])
