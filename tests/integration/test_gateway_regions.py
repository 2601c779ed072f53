"""The gateway as a process among several regions: real Kafka, real etcd, a controller that says what the test says."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from confluent_kafka import Producer

from infra.runtime.kafka import KafkaBroker
from services.common.deployment import Deployment, Site
from services.controller.client import Leader
from services.coordination.etcd import EtcdGatewayStore
from services.coordination.lives import Life, LogCut, all_lives, open_life, seal_life
from services.coordination.region_record import acknowledged_ends
from services.coordination.registry import registered
from services.gateway.client import KIND, GatewayEntry, HeldRequest, report_held
from streams.broker_probe import BrokerProbe
from streams.epochs import EpochMarker, encode_marker
from streams.logs import events_log, producer_settings, rankings_log
from tests.integration.test_gateway_faults import cut, fill
from tests.support.etcd import EtcdCluster
from tests.support.fake_controller import FakeController
from tests.support.frames import PARTITIONS, make_topics
from tests.support.gateway_parts import event
from tests.support.gateway_process import GatewayProcess
from tests.support.poll import wait_until_async
from tests.support.small_processor import SmallProcessor

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
STRUCTURED = "application/cloudevents+json"
SEARCH: dict[str, Any] = {"user": "u", "query": "q", "deadline_ms": 10_000}
WEST = Leader(region="west", epoch=(0, 9), gateway_url="http://127.0.0.1:9", serving=True)


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdCluster]:
    """One member: what is tested here is the gateway, not the cluster."""
    cluster = EtcdCluster(tmp_path / "etcd", ("north",))
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.kill()


class Region:
    """The gateway of one region and what stands around it."""

    def __init__(self, gateway: GatewayProcess, controller: FakeController, processor: SmallProcessor) -> None:
        self.gateway = gateway
        self.controller = controller
        self.processor = processor

    async def search(self, **changes: Any) -> tuple[int, dict[str, str], Any]:
        """Ask for a ranking."""
        return await self.gateway.ask("/v1/search", {**SEARCH, **changes})


@asynccontextmanager
async def region_of(
    directory: Path, broker: KafkaBroker, etcd: EtcdCluster, life: str, *, start: bool = True, **settings: object
) -> AsyncIterator[Region]:
    """A region `east` beside `west`, in a life whose name is the test's own."""
    make_topics(broker.bootstrap, life)
    store = etcd.store()
    await open_life(store, life.rpartition("-")[0], "cluster", 1)
    await store.close()
    sites = [
        Site(name=name, kind="region", host="127.0.0.1", base_port=port) for name, port in (("east", 9), ("west", 19))
    ]
    (directory / "region").mkdir(parents=True, exist_ok=True)
    deployment = Deployment(deployment_id="d", network="loopback", sites=sites, directory=str(directory))
    async with FakeController() as controller, SmallProcessor(broker.bootstrap, life) as processor:
        environment = {
            "MERIDIAN_REGION_DEPLOYMENT": str(deployment.save()),
            "MERIDIAN_REGION_CONTROL_PORT": str(controller.port),
            "MERIDIAN_COORDINATION_ENDPOINTS": ",".join(etcd.endpoints),
        }
        gateway = GatewayProcess(
            directory / "region",
            broker.bootstrap,
            life,
            processor_port=processor.port,
            environment=environment,
            view_interval_seconds=0.1,
            **settings,
        )
        if start:
            async with gateway:
                yield Region(gateway, controller, processor)
        else:
            yield Region(gateway, controller, processor)


async def gives_rankings(region: Region) -> bool:
    """Whether a search is answered."""
    return (await region.search())[0] == 200


async def test_rankings_follow_the_lease_and_events_never_ask(
    kafka: KafkaBroker, etcd: EtcdCluster, tmp_path: Path
) -> None:
    """Nobody active: 503. Another region: 307. The own: answers of the own epoch only. Events: 200 all the while."""
    async with region_of(tmp_path, kafka, etcd, "gwlease-1") as region:
        gateway, controller, processor = region.gateway, region.controller, region.processor
        await wait_until_async(lambda: controller.asked > 1, 30, "the gateway to follow the lease")
        status, headers, problem = await region.search()
        assert (status, headers["Retry-After"], problem["type"]) == (503, "1", "urn:meridian:problem:not-active")
        controller.take(WEST)
        await wait_until_async(lambda: redirected(region), 30, "the way to west")
        assert (await gateway.post("/v1/events", event(1), STRUCTURED))[0] == 200
        assert processor.asked == []
        processor.changes = {"epoch": (0, 11)}
        controller.give((0, 11))
        await wait_until_async(lambda: gives_rankings(region), 30, "rankings")
        status, headers, body = await region.search()
        assert (status, headers["Meridian-Epoch"], body["epoch"]) == (200, "0:11", [0, 11])
        processor.changes = {"epoch": (0, 12)}
        assert (await region.search())[0] == 503
        assert await gateway.figure("meridian_fenced_total") == 1
        controller.take(WEST)
        await wait_until_async(lambda: redirected(region), 30, "the way to west")
        assert (await gateway.post("/v1/events", event(2), STRUCTURED))[0] == 200


async def redirected(region: Region) -> bool:
    """Whether a search is sent on to west."""
    status, headers, _ = await region.search()
    return status == 307 and headers["Location"] == "http://127.0.0.1:9/v1/search?hop=1"


async def test_a_gateway_that_was_stopped_for_longer_than_its_lease_shows_nothing(
    kafka: KafkaBroker, etcd: EtcdCluster, tmp_path: Path
) -> None:
    """SIGSTOP, the answer arrives, the lease runs out elsewhere, SIGCONT: 503, though the answer is valid still."""
    async with region_of(tmp_path, kafka, etcd, "gwstop-1") as region:
        region.processor.changes = {"epoch": (0, 11)}
        region.controller.give((0, 11), remaining_ms=1_000)
        await wait_until_async(lambda: gives_rankings(region), 30, "rankings")
        region.processor.silent = True
        known = len(region.processor.asked)
        waiting = asyncio.create_task(region.search())
        await wait_until_async(lambda: len(region.processor.asked) > known, 30, "the ask")
        os.kill(region.gateway.pid, signal.SIGSTOP)
        try:
            producer = Producer(producer_settings(kafka.bootstrap))
            region.processor._answer(producer, region.processor.asked[-1])
            assert await asyncio.to_thread(producer.flush, 20) == 0
            over = time.monotonic() + 1.1
            await wait_until_async(lambda: time.monotonic() > over, 10, "the lease to run out")
            # What it asks when it goes on is answered late: only its own clock can tell it in time.
            region.controller.give((0, 11), remaining_ms=0)
        finally:
            os.kill(region.gateway.pid, signal.SIGCONT)
        status, _, problem = await waiting
        assert (status, problem["type"]) == (503, "urn:meridian:problem:ranking-stale")
        assert "lease ran out" in problem["detail"]


async def test_the_markers_of_a_term_open_the_way(kafka: KafkaBroker, etcd: EtcdCluster, tmp_path: Path) -> None:
    """The controller does not say yet that the region serves; the rankings log does."""
    async with region_of(tmp_path, kafka, etcd, "gwmark-1") as region:
        region.processor.changes = {"epoch": (0, 11)}
        region.controller.give((0, 11), serving=False)
        await wait_until_async(lambda: taking_over(region), 30, "the region to take over")
        assert region.processor.asked == []
        waiting = asyncio.create_task(region.search())
        producer = Producer(producer_settings(kafka.bootstrap))
        marker = EpochMarker("east", "gwmark-1", (0, 11), 1, [])
        for partition in range(PARTITIONS):
            value, headers = encode_marker(marker)
            assert not waiting.done()
            producer.produce(rankings_log("gwmark-1"), value, partition=partition, headers=list(headers))
        assert await asyncio.to_thread(producer.flush, 20) == 0
        assert (await waiting)[0] == 200


async def taking_over(region: Region) -> bool:
    """Whether a search is refused because the processor has not begun."""
    status, _, problem = await region.search(deadline_ms=100)
    return status == 503 and problem["type"].endswith("taking-over")


async def test_without_etcd_events_and_rankings_go_on_and_a_start_waits(
    kafka: KafkaBroker, etcd: EtcdCluster, tmp_path: Path
) -> None:
    """The store is needed to start, not to serve; what could not be recorded meanwhile is recorded afterwards."""
    async with region_of(tmp_path, kafka, etcd, "gwetcd-1") as region:
        gateway, member = region.gateway, etcd.members["north"]
        region.processor.changes = {"epoch": (0, 11)}
        region.controller.give((0, 11))
        await wait_until_async(lambda: gives_rankings(region), 30, "rankings")
        member.kill()
        for number in range(20):
            status, _, body = await gateway.post("/v1/events", event(number), STRUCTURED)
            assert status == 200
        where = body["results"][0]["coordinates"]
        assert (await region.search())[0] == 200
        await wait_until_async(lambda: not_recorded(gateway), 30, "a failed attempt to record")
        gateway.kill()
        gateway.start(wait=False)
        await wait_until_async(lambda: '"event": "waiting"' in gateway.log_text(), 30, "the gateway to wait")
        status, _, problem = await gateway.post("/v1/events", event(1), STRUCTURED)
        assert (status, problem["type"]) == (503, "urn:meridian:problem:not-serving")
        member.start()
        await wait_until_async(lambda: gateway.log_text().count('"event": "open"') == 2, 60, "the gateway to open")
        assert (await gateway.post("/v1/events", event(1), STRUCTURED))[0] == 200
        store = etcd.store()
        try:
            await wait_until_async(lambda: registration_of(store, gateway), 30, "the registration")
            await wait_until_async(lambda: records(store, where), 30, "what was acknowledged without a store")
        finally:
            await store.close()


async def records(store: EtcdGatewayStore, where: dict[str, Any]) -> bool:
    """Whether the recorded end lies behind an event."""
    return (await acknowledged_ends(store, where["log"])).get(where["partition"], 0) > where["offset"]


async def not_recorded(gateway: GatewayProcess) -> bool:
    """Whether recording failed at least once."""
    return await gateway.figure("meridian_gateway_acknowledged_ends_not_recorded_total") > 0


async def registration_of(store: EtcdGatewayStore, gateway: GatewayProcess) -> bool:
    """Whether the gateway is in the registry, and told to apps."""
    url = f"http://127.0.0.1:{gateway.port}"
    found = [msgspec.json.decode(entry.value, type=GatewayEntry).url for entry in await registered(store, "east", KIND)]
    async with gateway.session.get("/v1/regions") as response:
        told = {entry["region"]: entry["gateways"] for entry in (await response.json())["regions"]}
    return url in found and told == {"east": [url], "west": ["http://127.0.0.1:19"]}


async def test_remote_needs_a_peer_that_holds_it(kafka: KafkaBroker, etcd: EtcdCluster, tmp_path: Path) -> None:
    """No peer: refused. One that lags: 504, and the event is here. One that holds it: accepted."""
    remote = {"Meridian-Ack": "remote"}
    async with region_of(tmp_path, kafka, etcd, "gwremote-1", ack_timeout_ms=300) as region:
        gateway = region.gateway
        assert (await gateway.post("/v1/events", event(1), STRUCTURED, remote))[0] == 503
        log = events_log("gwremote-1")
        url = f"http://127.0.0.1:{gateway.port}"
        async with aiohttp.ClientSession() as session:
            held = HeldRequest(region="west", incarnation="west-1", log=log, held={})
            assert (await report_held(session, url, held)).partitions[0].acknowledged_end == 0
            status, _, body = await gateway.post("/v1/events", event(1), STRUCTURED, remote)
            assert (status, body["stored"]) == (504, "local")
            where = body["results"][0]["coordinates"]
            answer = await report_held(session, url, held)
            assert answer.partitions[where["partition"]].acknowledged_end == where["offset"] + 1
            assert answer.partitions[where["partition"]].events_after_held == 1
            held = HeldRequest(region="west", incarnation="west-1", log=log, held=dict.fromkeys(range(PARTITIONS), 9))
            await report_held(session, url, held)
            assert (await gateway.post("/v1/events", event(1), STRUCTURED, remote))[0] == 200


async def life_of(etcd: EtcdCluster, incarnation: str) -> Life:
    """A life as it stands in etcd."""
    store = etcd.store()
    try:
        return next(life for life in await all_lives(store) if life.incarnation == incarnation)
    finally:
        await store.close()


def end_of(broker: KafkaBroker, log: str, partition: int) -> int:
    """The next offset of a partition; a client that gave up wrote nothing behind the cut, and then it is 0."""
    return BrokerProbe(broker.bootstrap, "gwcut-ends", 10.0).ends([(log, partition)])[log, partition].next_offset


async def test_a_cut_seals_the_life(fresh_broker: KafkaBroker, etcd: EtcdCluster, tmp_path: Path) -> None:
    """Segment cut while the broker is down: exit 66, and etcd says which life is over and what of it is genuine."""
    async with region_of(tmp_path, fresh_broker, etcd, "gwcut-1") as region:
        gateway = region.gateway
        partition, end = await fill(gateway, 10)
        await asyncio.to_thread(fresh_broker.kill)
        cut(fresh_broker, events_log("gwcut-1"), partition, lambda _: 0)
        await asyncio.to_thread(fresh_broker.start)
        sent = event(100, data={"user": "one", "item": "later"})
        with suppress(aiohttp.ClientError):
            assert (await gateway.post("/v1/events", sent, STRUCTURED))[0] != 200
        assert await asyncio.to_thread(gateway.wait_end, 60) == 66
        life = await life_of(etcd, "gwcut-1")
        assert life.sealed
        (found,) = life.cuts
        if wrote_on := end_of(fresh_broker, found.log, partition):
            assert found.leader_epoch > 0, f"{wrote_on} records stand behind the cut, under an epoch that is not named"
        assert found == LogCut(events_log("gwcut-1"), partition, 0, end, found.leader_epoch)
        gateway.start(wait=False)
        assert await asyncio.to_thread(gateway.wait_end, 60) == 66
        assert "the life gwcut-1 is over" in gateway.log_text()


async def test_a_life_that_somebody_else_sealed_is_written_no_more(
    kafka: KafkaBroker, etcd: EtcdCluster, tmp_path: Path
) -> None:
    """The processor may have noticed first: exit 66."""
    async with region_of(tmp_path, kafka, etcd, "gwseal-1") as region:
        assert (await region.gateway.post("/v1/events", event(1), STRUCTURED))[0] == 200
        store = etcd.store()
        await seal_life(store, "gwseal-1", "the processor noticed a cut", 5)
        await store.close()
        assert await asyncio.to_thread(region.gateway.wait_end, 60) == 66
        assert "the processor noticed a cut" in region.gateway.log_text()
