"""Faust, the intake and the fold on a real broker: what is taken once, what is buried, what stops the reader."""

from __future__ import annotations

import asyncio

import pytest

from infra.runtime.kafka import KafkaBroker
from streams.dead_letter import read_dead_letters
from streams.delivery import Delivery, DeliveryError
from streams.digest import digest
from streams.errors import LogGap, LogTruncated, UnknownFrameVersion
from streams.frame import encode_frame, frame_headers
from streams.logs import events_log
from tests.support.frames import KEY_FINGERPRINT, FrameWriter, event_rows, make_topics
from tests.support.poll import wait_until_async
from tests.support.stream_reader import reading

pytestmark = pytest.mark.integration


async def test_every_event_is_folded_once_whatever_the_group_says(kafka: KafkaBroker) -> None:
    """A second reader whose group starts at 0 over a state that is ahead drops everything as known."""
    incarnation = "delivery-1"
    make_topics(kafka.bootstrap, incarnation)
    writer = FrameWriter(kafka.bootstrap, events_log(incarnation))
    writer.spread(event_rows(500, seed=1))
    frames = len(writer.flush())
    async with reading(kafka.bootstrap, incarnation, "delivery-1.a") as reader:
        await wait_until_async(lambda: reader.state.tally.events >= 500, what="500 events")
        writer.spread(event_rows(300, seed=2))
        frames = len(writer.flush())
        await wait_until_async(lambda: reader.state.tally.events >= 800, what="800 events")
        assert len(reader.taken_records) == frames
    before = digest(reader.state)
    state = reader.state
    points = dict(state.points)
    state.points.clear()
    async with reading(kafka.bootstrap, incarnation, "delivery-1.b", state) as again:
        state.points.update(points)
        await wait_until_async(lambda: again.redelivered >= frames, what="all frames once more")
        assert not again.taken_records
        assert digest(state).explain(before) is None


async def test_a_corrupt_frame_is_buried_and_the_stream_goes_on(kafka: KafkaBroker) -> None:
    """The dead log names the reason and the position; the neighbours are folded; a restart does not trip over it."""
    incarnation = "delivery-2"
    make_topics(kafka.bootstrap, incarnation)
    writer = FrameWriter(kafka.bootstrap, events_log(incarnation))
    rows = event_rows(30, seed=3)
    writer.frame(rows[:10], partition=0)
    whole = encode_frame(rows[10:20])
    writer.raw(whole[:-200], frame_headers(10, KEY_FINGERPRINT), partition=0)
    writer.raw(b"not arrow at all", frame_headers(1, KEY_FINGERPRINT), partition=0)
    writer.raw(None, [], partition=0)
    writer.frame(rows[20:], partition=0)
    writer.flush()
    async with reading(kafka.bootstrap, incarnation, "delivery-2.a") as reader:
        await wait_until_async(lambda: reader.state.tally.events >= 20, what="both whole frames")
        assert reader.state.next_offset(events_log(incarnation), 0) == 5
        assert reader.state.tally.dead_frames == 3
    letters = await asyncio.to_thread(lambda: list(read_dead_letters(kafka.bootstrap, incarnation)))
    assert [letter.origin.offset for letter in letters] == [1, 2, 3]
    assert all(letter.reason for letter in letters)
    assert letters[1].value == b"not arrow at all"


async def test_an_unknown_version_stops_the_reader_before_it(kafka: KafkaBroker) -> None:
    """Nothing is skipped: the frontier stands at the frame that could not be read, and nothing is committed past it."""
    incarnation = "delivery-3"
    make_topics(kafka.bootstrap, incarnation)
    writer = FrameWriter(kafka.bootstrap, events_log(incarnation))
    rows = event_rows(30, seed=4)
    writer.frame(rows[:10], partition=0)
    writer.raw(encode_frame(rows[10:20]), [("meridian-frame", b"7")], partition=0)
    writer.frame(rows[20:], partition=0)
    writer.flush()
    async with reading(kafka.bootstrap, incarnation, "delivery-3.a") as reader:
        failure = await asyncio.wait_for(reader.failure, 20)
        assert isinstance(failure, UnknownFrameVersion)
        assert reader.state.next_offset(events_log(incarnation), 0) == 1
        assert reader.state.tally.events == 10


async def test_a_gap_stops_the_reader(kafka: KafkaBroker) -> None:
    """Records that the log no longer holds are not stepped over."""
    incarnation = "delivery-4"
    make_topics(kafka.bootstrap, incarnation)
    writer = FrameWriter(kafka.bootstrap, events_log(incarnation))
    for start in range(0, 60, 10):
        writer.frame(event_rows(60, seed=5)[start : start + 10], partition=0)
    writer.flush()
    await asyncio.to_thread(kafka_delete_before, kafka.bootstrap, events_log(incarnation), 0, 3)
    async with reading(kafka.bootstrap, incarnation, "delivery-4.a") as reader:
        failure = await asyncio.wait_for(reader.failure, 20)
        assert isinstance(failure, LogGap)
        assert "3 records are missing" in str(failure)
        assert reader.state.tally.events == 0


def kafka_delete_before(bootstrap: str, topic: str, partition: int, offset: int) -> None:
    """Remove the first records of a partition."""
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": bootstrap})
    for answer in admin.delete_records([TopicPartition(topic, partition, offset)]).values():
        answer.result()


async def test_a_broker_that_was_killed_and_lost_nothing_is_trusted_again(fresh_broker: KafkaBroker) -> None:
    """Another leader epoch, a silence, the same records: proved, and the stream goes on."""
    incarnation = "delivery-5"
    make_topics(fresh_broker.bootstrap, incarnation)
    writer = FrameWriter(fresh_broker.bootstrap, events_log(incarnation))
    writer.spread(event_rows(200, seed=6))
    writer.flush()
    async with reading(fresh_broker.bootstrap, incarnation, "delivery-5.a") as reader:
        await wait_until_async(lambda: reader.state.tally.events >= 200, what="200 events")
        await asyncio.to_thread(fresh_broker.kill)
        await asyncio.to_thread(fresh_broker.start)
        writer.spread(event_rows(200, seed=7))
        await asyncio.to_thread(writer.flush)
        await wait_until_async(lambda: reader.state.tally.events >= 400, timeout_seconds=40, what="400 events")
        assert reader.watch.proofs > 0
        assert not reader.cuts
        assert not reader.failure.done()


async def test_a_log_cut_below_the_frontier_stops_the_reader_however_much_follows(fresh_broker: KafkaBroker) -> None:
    """The segment is cut while the broker is down, then more is acknowledged than was cut: alarm, nothing taken."""
    incarnation = "delivery-6"
    log = events_log(incarnation)
    make_topics(fresh_broker.bootstrap, incarnation, partitions=1)
    writer = FrameWriter(fresh_broker.bootstrap, log, partitions=1)
    rows = event_rows(400, seed=8)
    for start in range(0, 200, 10):
        writer.frame(rows[start : start + 10], partition=0)
        writer.flush()
    async with reading(fresh_broker.bootstrap, incarnation, "delivery-6.a", partitions=1) as reader:
        await wait_until_async(lambda: reader.state.next_offset(log, 0) == 20, what="20 frames")
        before = digest(reader.state)
        await asyncio.to_thread(fresh_broker.kill)
        segment = next(fresh_broker.data_dir.glob(f"**/{log}-0/*.log"))
        with segment.open("r+b") as file:
            file.truncate(segment.stat().st_size * 3 // 4)
        await asyncio.to_thread(fresh_broker.start)
        fresh = FrameWriter(fresh_broker.bootstrap, log, partitions=1)
        for start in range(200, 400, 10):
            fresh.frame(rows[start : start + 10], partition=0)
        acknowledged = await asyncio.to_thread(fresh.flush)
        assert min(p.offset for p in acknowledged) < 20 <= max(p.offset for p in acknowledged)
        failure = await asyncio.wait_for(reader.failure, 30) if not reader.cuts else reader.cuts[0]
        assert isinstance(failure, LogTruncated)
        assert reader.state.next_offset(log, 0) == 20
        assert digest(reader.state).explain(before) is None


async def test_a_producer_that_gave_up_says_so(fresh_broker: KafkaBroker) -> None:
    """After its log was cut an idempotent producer refuses everything for ever: whoever owns it must be told."""
    log = "delivery-7.rankings"
    make_topics(fresh_broker.bootstrap, "delivery-7", partitions=1)
    fatal: list[DeliveryError] = []
    delivery = Delivery(
        fresh_broker.bootstrap, delivery_timeout_ms=20_000, queue_messages_max=1000, on_fatal=fatal.append
    )
    for n in range(40):
        await delivery.deliver(log, b"x" * 200 + str(n).encode(), key=b"k", headers=[])
    await asyncio.to_thread(fresh_broker.kill)
    segment = next(fresh_broker.data_dir.glob(f"**/{log}-0/*.log"))
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size // 2)
    await asyncio.to_thread(fresh_broker.start)
    with pytest.raises(DeliveryError):
        await asyncio.wait_for(delivery.deliver(log, b"after the cut", key=b"k", headers=[]), 40)
    await wait_until_async(lambda: bool(fatal), what="the producer's own word")
    assert "given up" in str(fatal[0])
    await delivery.close(1.0)
    assert len(fatal) == 1
