"""A broker that stops, dies or comes back with less: what the gateway says, and that it never said too much."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from infra.runtime.kafka import KafkaBroker
from streams.logs import events_log
from tests.support.frames import make_topics
from tests.support.gateway_parts import event
from tests.support.gateway_process import GatewayProcess, raw_frames
from tests.support.poll import wait_until_async

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
STRUCTURED = "application/cloudevents+json"
Answer = tuple[int, dict[str, str], Any]


class Load:
    """Apps that publish small batches one after the other and remember every answer. They try nothing twice."""

    def __init__(self, gateway: GatewayProcess, apps: int = 8) -> None:
        self.gateway = gateway
        self.answers: list[Answer] = []
        self.accepted: dict[str, dict[str, Any]] = {}
        self._going = True
        self._tasks = [asyncio.create_task(self._publish(f"/apps/{app}")) for app in range(apps)]

    async def _publish(self, source: str) -> None:
        number = 0
        while self._going:
            batch = [event(number + n, id=f"{source}/{number + n}", source=source) for n in range(5)]
            number += 5
            try:
                answer = await self.gateway.post("/v1/events", batch)
            except aiohttp.ClientError:
                return
            self.answers.append(answer)
            for result in answer[2].get("results", []):
                if result["status"] == "accepted":
                    self.accepted[result["id"]] = result["coordinates"]
            await asyncio.sleep(0.005)

    def statuses(self) -> set[int]:
        """Every status so far."""
        return {status for status, _, _ in self.answers}

    async def grow(self, count: int) -> None:
        """Wait until so many more events were accepted."""
        target = len(self.accepted) + count
        await wait_until_async(lambda: len(self.accepted) >= target, 60, f"{count} more accepted events")

    async def end(self) -> None:
        """Let every app finish what it waits for."""
        self._going = False
        await asyncio.gather(*self._tasks)


async def test_a_broker_killed_under_load_loses_nothing_that_was_acknowledged(
    fresh_broker: KafkaBroker, tmp_path: Path
) -> None:
    """503 with Retry-After for what cannot be kept; when the broker is back, so is the service; all promises hold."""
    make_topics(fresh_broker.bootstrap, "gw-kill-1")
    settings = {"delivery_timeout_ms": 2000, "stall_seconds": 0.5}
    async with GatewayProcess(tmp_path, fresh_broker.bootstrap, "gw-kill-1", **settings) as gateway:
        load = Load(gateway)
        await load.grow(500)
        fresh_broker.kill()
        await wait_until_async(lambda: 503 in load.statuses(), 30, "a 503")
        seen = len(load.answers)
        await wait_until_async(lambda: unknown_events(load) > 0, 30, "an unknown outcome")
        await wait_until_async(lambda: len(load.answers) > seen + 20, 30, "refusals at once")
        ready, why = await gateway.ready()
        assert not ready, why
        await asyncio.to_thread(fresh_broker.start)
        await load.grow(500)
        await load.end()
        assert load.statuses() <= {200, 207, 503}
        assert all("Retry-After" in headers for status, headers, _ in load.answers if status in {207, 503})
        frames = await asyncio.to_thread(raw_frames, fresh_broker.bootstrap, events_log("gw-kill-1"))
        for name, where in load.accepted.items():
            row = frames[where["partition"], where["offset"]].row(where["index"])
            assert row.item == f"item-{name.rpartition('/')[2]}"
        await wait_until_async(lambda: is_ready_but_for_the_processor(gateway), 10, "readiness")


def unknown_events(load: Load) -> int:
    """Results that say that nobody knows."""
    results = [result for _, _, body in load.answers for result in body.get("results", [])]
    return sum(result["status"] == "unknown" for result in results)


async def is_ready_but_for_the_processor(gateway: GatewayProcess) -> bool:
    """Log and rankings are fine."""
    _, lines = await gateway.ready()
    return "[+] log ok" in lines and "[+] rankings ok" in lines


async def test_a_broker_that_hangs_fills_the_queue_and_then_429_is_said(
    fresh_broker: KafkaBroker, tmp_path: Path
) -> None:
    """Only so many events wait; the rest come back later. When the broker goes on, all that waited are accepted."""
    make_topics(fresh_broker.bootstrap, "gw-full-1")
    settings = {"events_waiting_max": 50, "batch_events_max": 20, "stall_seconds": 60, "delivery_timeout_ms": 60_000}
    async with GatewayProcess(tmp_path, fresh_broker.bootstrap, "gw-full-1", **settings) as gateway:
        assert (await gateway.post("/v1/events", event(1), STRUCTURED))[0] == 200
        assert fresh_broker.pid is not None
        os.kill(fresh_broker.pid, signal.SIGSTOP)
        try:
            batches = [[event(20 * k + n) for n in range(20)] for k in range(5)]
            waiting = [asyncio.create_task(gateway.post("/v1/events", batch)) for batch in batches]
            await wait_until_async(lambda: sum(task.done() for task in waiting) == 3, 20, "three refusals")
            for task in waiting:
                if task.done():
                    status, headers, problem = task.result()
                    assert (status, headers["Retry-After"]) == (429, "1")
                    assert problem["type"] == "urn:meridian:problem:events-full"
            assert await gateway.figure("meridian_gateway_refused_total") == 3
        finally:
            os.kill(fresh_broker.pid, signal.SIGCONT)
        answers = await asyncio.gather(*waiting)
        assert sorted(status for status, _, _ in answers) == [200, 200, 429, 429, 429]
        assert (await gateway.post("/v1/events", batches[0]))[0] == 200


async def fill(gateway: GatewayProcess, count: int) -> tuple[int, int]:
    """Publish events of one user, one frame each; returns their partition and the offset after the last."""
    for number in range(count):
        sent = event(number, data={"user": "one", "item": f"item-{number}"})
        status, _, body = await gateway.post("/v1/events", sent, STRUCTURED)
        assert status == 200
    where = body["results"][0]["coordinates"]
    return where["partition"], where["offset"] + 1


def cut(broker: KafkaBroker, log: str, partition: int, bytes_kept: Callable[[int], int]) -> None:
    """Cut the end off a partition of a broker that is down, as a power loss does, with what remembers its length."""
    directory = broker.data_dir / "logs" / f"{log}-{partition}"
    segment = directory / "00000000000000000000.log"
    os.truncate(segment, bytes_kept(segment.stat().st_size))
    for name in (*directory.glob("*.index"), *directory.glob("*.timeindex"), *directory.glob("*.snapshot")):
        name.unlink()
    for name in ("recovery-point-offset-checkpoint", "replication-offset-checkpoint"):
        (broker.data_dir / "logs" / name).unlink(missing_ok=True)
    (broker.data_dir / "logs" / ".kafka_cleanshutdown").unlink(missing_ok=True)


@pytest.mark.parametrize("part_kept", [0.5, 0.0], ids=["half", "nothing"])
async def test_a_log_that_was_cut_under_a_running_gateway_is_noticed(
    fresh_broker: KafkaBroker, tmp_path: Path, part_kept: float
) -> None:
    """Segment truncated while the broker is down, then more is published than was cut: alarm, stop, exit 66.

    A broker that kept half refuses the producer's next sequence number; one that kept nothing takes the record, at an
    offset that was acknowledged before.
    """
    make_topics(fresh_broker.bootstrap, "gw-cut-1")
    async with GatewayProcess(tmp_path, fresh_broker.bootstrap, "gw-cut-1") as gateway:
        partition, end = await fill(gateway, 30)
        await asyncio.to_thread(fresh_broker.kill)
        cut(fresh_broker, events_log("gw-cut-1"), partition, lambda size: int(size * part_kept))
        await asyncio.to_thread(fresh_broker.start)
        statuses = []
        for number in range(end):
            sent = event(100 + number, data={"user": "one", "item": "later"})
            try:
                statuses.append((await gateway.post("/v1/events", sent, STRUCTURED))[0])
            except aiohttp.ClientError:
                break
        assert await asyncio.to_thread(gateway.wait_end) == 66
        assert 200 not in statuses, "nothing is acknowledged behind a cut"
        assert f"gw-cut-1.events/{partition} was acknowledged up to offset {end}" in gateway.log_text()
        gateway.start(wait=False)
        assert await asyncio.to_thread(gateway.wait_end) == 66, "a restart does not talk itself out of it"


async def test_a_log_that_was_cut_while_the_gateway_was_down_is_noticed(
    fresh_broker: KafkaBroker, tmp_path: Path
) -> None:
    """At the start the log must reach what was acknowledged from it: exit 66, with what to do."""
    make_topics(fresh_broker.bootstrap, "gw-cut-2")
    async with GatewayProcess(tmp_path, fresh_broker.bootstrap, "gw-cut-2") as gateway:
        partition, end = await fill(gateway, 10)
        assert await asyncio.to_thread(gateway.stop) == 0
        await asyncio.to_thread(fresh_broker.stop)
        cut(fresh_broker, events_log("gw-cut-2"), partition, lambda size: size - 10)
        await asyncio.to_thread(fresh_broker.start)
        gateway.start(wait=False)
        assert await asyncio.to_thread(gateway.wait_end) == 66
        said = gateway.log_text()
        assert f"acknowledged up to offset {end}, but stands at {end - 1}" in said
        assert "Put back the missing segment files" in said
