"""A region that comes back empty beside a peer, each on a broker of its own; the test is the replicator."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from infra.runtime.kafka import KafkaBroker
from services.processor.client import digests_at_one_frontier
from streams.logs import events_log
from tests.support.frames import PARTITIONS, FrameWriter, event_rows
from tests.support.poll import wait_until_async
from tests.support.processor_process import ProcessorProcess
from tests.support.two_regions import Copier, RegionOfTwo

pytestmark = pytest.mark.integration

FRAMES = [event_rows(25, seed=n) for n in range(40)]


def fill(copier: Copier, start: int, end: int) -> None:
    """Copy some of the frames that stand in the peer's log."""
    for number in range(start, end):
        copier.frame(FRAMES[number], number % PARTITIONS, number // PARTITIONS)
    copier.flush()


def phase(process: ProcessorProcess) -> str:
    """What it says of its start; empty while nobody listens."""
    try:
        return process.get("/readyz?verbose")[1]
    except OSError:
        return ""


@pytest.mark.parametrize("how", ["snapshot", "replay"])
async def test_an_empty_region_is_rebuilt_and_equal(
    kafka: KafkaBroker, fresh_broker: KafkaBroker, tmp_path: Path, how: str
) -> None:
    """It is not ready before its own copies hold what the peer knew; then both have one digest at one frontier."""
    names = ("golf", "hotel") if how == "snapshot" else ("india", "juliet")
    up = RegionOfTwo(kafka.bootstrap, tmp_path, names)
    writer = FrameWriter(kafka.bootstrap, events_log(up.own))
    for number, rows in enumerate(FRAMES):
        writer.frame(rows, number % PARTITIONS)
    writer.flush()
    with up.processor as survivor:
        survivor.wait_events(1_000)
        back = RegionOfTwo(fresh_broker.bootstrap, tmp_path, (names[1], names[0]), peer_port=survivor.port, rebuild=how)
        copier = Copier(fresh_broker.bootstrap, up.own)
        fill(copier, 0, 12)
        process = back.processor.start(wait=False)
        try:
            await wait_until_async(
                lambda: "30 % of the copies" in phase(process), 60, "the rebuild to say how far it is"
            )
            assert f'"how": "{how}"' in process.log_text()
            fill(copier, 12, 40)
            process.wait_ready()
            assert process.state()["events"] == 1_000
            own = FrameWriter(fresh_broker.bootstrap, events_log(back.own))
            own.frame(event_rows(10, seed=99), 2)
            own.flush()
            process.wait_events(1_010)
            copied_back = Copier(kafka.bootstrap, back.own)
            copied_back.frame(event_rows(10, seed=99), 2, 0)
            copied_back.flush()
            urls = {region: f"http://127.0.0.1:{p.port}" for region, p in (("up", survivor), ("back", process))}
            async with aiohttp.ClientSession() as session:
                found = await digests_at_one_frontier(session, urls, wait_ms=10_000)
            assert found["up"] == found["back"]
            assert (events_log(back.own), 2, 1) in found["up"].frontier
            assert survivor.wait_events(1_010)["digest"] == process.state()["digest"]
        finally:
            process.kill()
