"""The lease as the gateway follows it: over HTTP, from a controller that says what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from services.common.clock import SystemClock
from services.common.deployment import Deployment, Site
from services.common.region_settings import RegionSettings
from services.controller.client import ANSWER_SECONDS, WAIT_MS, Leader
from services.coordination.settings import CoordinationSettings
from services.gateway.routing import VIEW_SECONDS_MAX, Alone
from services.gateway.surroundings import Surroundings
from tests.support.fake_controller import FakeController
from tests.support.gateway_parts import TIME, GatewayParts
from tests.support.poll import wait_until_async

WEST = Leader(region="west", epoch=(0, 9), gateway_url="http://west", serving=True)
SEARCH = {"user": "u", "query": "q", "id": "s-1", "time": TIME, "deadline_ms": 10_000}


@asynccontextmanager
async def followed(directory: Path) -> AsyncIterator[tuple[GatewayParts, FakeController]]:
    """A gateway over a log in memory whose rights come from a controller."""
    sites = [Site(name=name, kind="region", host="h", base_port=port) for name, port in (("east", 100), ("west", 200))]
    file = Deployment(deployment_id="d", network="loopback", sites=sites, directory=str(directory)).save()
    async with FakeController() as controller, AsyncExitStack() as stack:
        region = RegionSettings(deployment=file, control_port=controller.port)
        settings = CoordinationSettings(endpoints=("http://127.0.0.1:9",))
        found = await Surroundings.enter(stack, region, settings, SystemClock())
        assert found.addresses == {"east": "http://h:100", "west": "http://h:200"}
        async with GatewayParts(rights=found.rights) as gateway:
            tasks = [asyncio.create_task(step) for step in found.tasks(gateway.core)]
            yield gateway, controller
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_alone_nobody_is_followed(tmp_path: Path) -> None:
    """A file, an endless term, no task."""
    async with AsyncExitStack() as stack:
        region = RegionSettings(data_dir=tmp_path)
        found = await Surroundings.enter(stack, region, CoordinationSettings(), SystemClock())
        assert isinstance(found.rights, Alone)
        assert found.addresses == {"east": "http://127.0.0.1:8080"}
        async with GatewayParts() as gateway:
            assert found.tasks(gateway.core) == []
            assert found.open_tasks(gateway.core, lambda: None) == []


async def test_a_term_is_followed_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    """Passive, active, passive; whoever waits at the end is told at once."""
    async with followed(tmp_path) as (gateway, controller):
        rights = gateway.core.rights
        assert not rights.term().active
        controller.give((0, 7))
        await wait_until_async(lambda: rights.term().active, 30, "the term")
        assert rights.term().epoch == rights.largest_epoch == (0, 7)
        waiting = asyncio.create_task(gateway.post("/v1/search", SEARCH))
        await wait_until_async(lambda: gateway.sink.asked, 30, "the ask")
        controller.take(WEST)
        status, _, problem = await asyncio.wait_for(waiting, 30)
        assert (status, problem["type"]) == (503, "urn:meridian:problem:ranking-stale")
        assert rights.largest_epoch == (0, 9)
        assert (await gateway.post("/v1/search", SEARCH))[0] == 307


async def test_what_expired_under_a_shut_gate_is_no_silence_of_the_processor(tmp_path: Path) -> None:
    """A region that becomes active asks its processor at once, and not by trials."""
    async with followed(tmp_path) as (gateway, controller):
        loop = asyncio.get_running_loop()
        for _ in range(3):
            gateway.core.watch.expired(loop.time(), 500)
        assert gateway.core.watch.blocker(loop.time()) is not None
        controller.give((0, 7))
        await wait_until_async(lambda: gateway.core.rights.term().active, 30, "the term")
        assert gateway.core.watch.blocker(loop.time()) is None


async def test_who_waits_for_the_term_to_begin_hears_of_it(tmp_path: Path) -> None:
    """The controller says that the region serves."""
    async with followed(tmp_path) as (gateway, controller):
        gateway.sink.on_ask = lambda ask: gateway.answer(ask, epoch=(0, 7))
        controller.give((0, 7), serving=False)
        await wait_until_async(lambda: gateway.core.rights.term().active, 30, "the term")
        waiting = asyncio.create_task(gateway.post("/v1/search", SEARCH))
        await asyncio.sleep(0)
        controller.give((0, 7))
        assert (await asyncio.wait_for(waiting, 30))[0] == 200


def test_a_passive_view_stays_fresh_enough_to_send_on() -> None:
    """Before the next answer comes, a view that nothing changed is as old as two waits and an answer."""
    assert 2 * WAIT_MS / 1000 + ANSWER_SECONDS < VIEW_SECONDS_MAX


async def test_a_silent_controller_ends_the_term(tmp_path: Path) -> None:
    """By its deadline, whoever says nothing."""
    async with followed(tmp_path) as (gateway, controller):
        controller.give((0, 7), remaining_ms=700)
        await wait_until_async(lambda: gateway.core.rights.term().active, 30, "the term")
        await controller.__aexit__()
        await wait_until_async(lambda: not gateway.core.rights.term().active, 30, "the end of the term")
        assert (await gateway.post("/v1/search", SEARCH))[0] in {307, 503}
