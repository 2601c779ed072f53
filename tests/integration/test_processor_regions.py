"""A processor of one region among two, on a real broker: copies are folded, and the gate follows the lease."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.runtime.kafka import KafkaBroker
from streams.asks import Ask, Ranking, decode_ranking
from streams.epochs import EpochMarker, decode_marker
from streams.frame import header
from streams.logs import TOPIC_SETTINGS, consumer_settings, events_log, partition_of, rankings_log
from tests.support.fake_controller import FakeController
from tests.support.frames import PARTITIONS, START_MS, FrameWriter, event_rows, item_rows, make_topics
from tests.support.poll import wait_until, wait_until_async
from tests.support.processor_process import ProcessorProcess
from tests.support.two_regions import Copier, RegionOfTwo

pytestmark = pytest.mark.integration


@contextmanager
def started(region: RegionOfTwo) -> Iterator[ProcessorProcess]:
    """Its processor, ready; machines that test are busy."""
    process = region.processor.start(wait=False)
    try:
        process.wait_ready(120)
        yield process
    finally:
        process.kill()


def next_offsets(process: ProcessorProcess, log: str) -> list[int]:
    """Of each partition, in order."""
    found = {(name, partition): n for name, partition, n in process.state().get("frontier", [])}
    return [found.get((log, partition), 0) for partition in range(PARTITIONS)]


def test_copies_are_folded_by_the_offset_of_their_origin(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Live and in a replay: a second copier's repeats, a gap that is filled later and a hole give one state."""
    region = RegionOfTwo(kafka.bootstrap, tmp_path, ("alfa", "bravo"))
    own, copier = FrameWriter(kafka.bootstrap, events_log(region.own)), Copier(kafka.bootstrap, region.copied)
    frames = [event_rows(10, seed=n) for n in range(12)]
    with started(region) as process:
        own.spread(event_rows(100, seed=99))
        own.flush()
        for origin in (0, 1, 1, 0, 1, 2, 5, 6):
            copier.frame(frames[origin], 0, origin)
        copier.flush()
        process.wait_events(130)
        wait_until(lambda: "offset 3, but 5 came" in verbose(process), 20, "the notice")
        for origin in (3, 4, 5, 6):
            copier.frame(frames[origin], 0, origin)
        copier.hole(0, 7, 10)
        copier.frame(frames[10], 0, 10)
        copier.flush()
        live = process.wait_events(180)
        assert next_offsets(process, copier.log)[0] == 11
        assert "came" not in verbose(process)
        process.kill()
        process.start()
        again = process.wait_events(180)
        assert (again["digest"], again["events"], again["frontier"]) == (live["digest"], 180, live["frontier"])
        copier.frame(frames[11], 0, 11)
        copier.flush()
        assert process.wait_events(190)["duplicates"] == 0
        lag = f'meridian_stream_lag_seconds{{log="{copier.log}"}}'
        assert lag in process.get("/metrics")[1]


def verbose(process: ProcessorProcess) -> str:
    """What it says of itself."""
    return process.get("/readyz?verbose")[1]


def rankings_of(bootstrap: str, incarnation: str) -> Callable[[], list[Any]]:
    """Return what reads on in a rankings log: (partition, marker or ranking) in order."""
    tail = Consumer(consumer_settings(bootstrap, f"{incarnation}.test"))
    tail.assign([TopicPartition(rankings_log(incarnation), p, 0) for p in range(PARTITIONS)])
    found: list[tuple[int, EpochMarker | Ranking]] = []

    def read() -> list[tuple[int, EpochMarker | Ranking]]:
        while (message := tail.poll(0.2)) is not None:
            if message.error() is None:
                headers: Any = message.headers()
                marker = decode_marker(message.value(), headers)
                found.append((message.partition() or 0, marker or decode_ranking(message.value() or b"")))
                assert header(headers, "meridian-epoch") is not None
        return found

    return read


def ask(writer: FrameWriter, name: str) -> Ask:
    """Write a frame with an ask that waits for three seconds."""
    deadline_ms = int(time.time() * 1000) + 3_000
    made = Ask(
        ask_id=name,
        reply_to="gateway",
        kind="search",
        deadline_unix_ms=deadline_ms,
        at_ms=START_MS,
        query="red",
        user=7,
    )
    writer.frame([], partition=partition_of(7, PARTITIONS), asks=[made])
    writer.flush()
    return made


async def test_the_gate_follows_the_lease_and_every_term_begins_with_markers(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    """Passive: nothing is shown. Active: a marker in each partition, then rankings that end with the lease."""
    async with FakeController("charlie") as controller:
        region = RegionOfTwo(kafka.bootstrap, tmp_path, ("charlie", "delta"), controller.port)
        writer = FrameWriter(kafka.bootstrap, events_log(region.own))
        peers = FrameWriter(kafka.bootstrap, rankings_log(region.copied))
        for origin in range(3):
            peers.raw(b"x", [], partition=1, key=origin)
        peers.flush()
        writer.spread(item_rows(20), frame_events=20)
        writer.flush()
        read = rankings_of(kafka.bootstrap, region.own)
        process = region.processor.start(wait=False)
        try:
            await asyncio.to_thread(process.wait_ready)
            ask(writer, "while passive")
            await wait_until_async(lambda: fenced(process) == 1, 30, "the ask to be fenced")
            assert gate(process) == (False, "nobody holds the lease", [-1, -1])
            controller.give((0, 7), remaining_ms=1_500)
            await wait_until_async(lambda: gate(process) == (True, "", [0, 7]), 30, "the gate to open")
            asked = ask(writer, "while active")
            await wait_until_async(lambda: any(name(each) == "while active" for _, each in read()), 30, "its ranking")
            controller.take(None, "west took over")
            await wait_until_async(lambda: not gate(process)[0], 30, "the gate to shut")
            ask(writer, "after it")
            await wait_until_async(lambda: fenced(process) == 2, 30, "the second ask to be fenced")
            assert process.metric("meridian_leader_epoch") == 7
            controller.give((0, 9))
            await wait_until_async(lambda: gate(process) == (True, "", [0, 9]), 30, "the gate to open again")
            records = await asyncio.to_thread(read)
        finally:
            process.kill()
        markers = [(partition, each.epoch) for partition, each in records if isinstance(each, EpochMarker)]
        assert sorted(markers) == sorted((p, e) for p in range(PARTITIONS) for e in ((0, 7), (0, 9)))
        (shown,) = [each for _, each in records if isinstance(each, Ranking)]
        assert (shown.ask_id, shown.epoch, shown.region) == ("while active", (0, 7), "charlie")
        assert shown.valid_until_ms < asked.deadline_unix_ms, "the lease ends before the asker's deadline"
        first = next(each for _, each in records if isinstance(each, EpochMarker) and each.epoch == (0, 7))
        assert (rankings_log(region.copied), 1, 3) in first.accepted
        second = next(each for _, each in records if isinstance(each, EpochMarker) and each.epoch == (0, 9))
        assert max(n for log, _, n in second.accepted if log == rankings_log(region.own)) == 2


def name(record: EpochMarker | Ranking) -> str:
    """The ask's, of a ranking."""
    return record.ask_id if isinstance(record, Ranking) else ""


def gate(process: ProcessorProcess) -> tuple[bool, str, list[int]]:
    """What it says about its gate."""
    found = json.loads(process.get("/v1/gate")[1])
    return found["open"], found["reason"], found["epoch"]


def fenced(process: ProcessorProcess) -> float:
    """Effects that were stopped."""
    return process.metric('meridian_fenced_total{where="processor"}')


def test_a_life_that_begins_while_it_runs_is_read_without_a_restart(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Its topics are made by others; the own log goes on, and nothing is taken twice."""
    region = RegionOfTwo(kafka.bootstrap, tmp_path, ("echo", "foxtrot"))
    own = FrameWriter(kafka.bootstrap, events_log(region.own))
    with started(region) as process:
        pid = process.pid
        own.spread(event_rows(100, seed=1))
        own.flush()
        process.wait_events(100)
        make_topics(kafka.bootstrap, "foxtrot-3")
        newest = Copier(kafka.bootstrap, "foxtrot-3")
        newest.spread(event_rows(60, seed=2))
        newest.flush()
        own.spread(event_rows(50, seed=3))
        own.flush()
        live = process.wait_events(210)
        assert (live["events"], live["duplicates"], process.pid) == (210, 0, pid)
        assert sum(next_offsets(process, newest.log)) == 6
        newest.frame(event_rows(5, seed=4), 0, 2)
        newest.flush()
        process.wait_events(215)


def test_a_copy_that_was_lost_is_waited_for_while_all_else_goes_on(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Its topic is made anew and filled again from the start; nothing is counted twice, nothing stops."""
    region = RegionOfTwo(kafka.bootstrap, tmp_path, ("kilo", "lima"))
    own, copier = FrameWriter(kafka.bootstrap, events_log(region.own)), Copier(kafka.bootstrap, region.copied)
    frames = [event_rows(10, seed=n) for n in range(8)]
    with started(region) as process:
        pid = process.pid
        own.spread(event_rows(100, seed=99))
        own.flush()
        for origin in range(6):
            copier.frame(frames[origin], 1, origin)
        copier.flush()
        before = process.wait_events(160)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        for gone in admin.delete_topics([copier.log]).values():
            gone.result(20)
        wait_until(lambda: copier.log not in admin.list_topics(timeout=10).topics, 20, "the topic to go")
        new = NewTopic(copier.log, num_partitions=PARTITIONS, replication_factor=1, config=TOPIC_SETTINGS)
        for made in admin.create_topics([new]).values():
            made.result(20)
        again = Copier(kafka.bootstrap, region.copied)
        again.frame(frames[0], 1, 0)
        again.flush()
        wait_until(lambda: "is being copied again" in verbose(process), 60, "the notice")
        own.spread(event_rows(50, seed=98))
        own.flush()
        process.wait_events(210, 90)
        for origin in range(1, 8):
            again.frame(frames[origin], 1, origin)
        again.flush()
        live = process.wait_events(230, 90)
        assert (live["events"], live["duplicates"], process.pid) == (230, before["duplicates"], pid)
        wait_until(lambda: "[~] copies" not in verbose(process), 60, "the notice to go")
        assert process.get("/readyz")[0] == 200
