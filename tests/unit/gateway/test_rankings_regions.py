"""Rankings among several regions: only the active one shows them, and checks that last of all."""

import asyncio
from typing import Any

import pytest

from services.common.clock import SystemClock
from services.controller.client import Leader
from streams.kinds import Kind
from tests.support.gateway_parts import JSON, STRUCTURED, TIME, GatewayParts, event
from tests.support.gateway_rights import GivenRights
from tests.support.poll import wait_until_async

SEARCH: dict[str, Any] = {"user": "u", "query": "q", "id": "s-1", "time": TIME, "deadline_ms": 5000}
WEST = Leader(region="west", epoch=(0, 7), gateway_url="http://west:8080", serving=True)


def active(epoch: tuple[int, int] = (0, 1), **changes: Any) -> GivenRights:
    """Rights of an active region."""
    rights = GivenRights()
    rights.give(epoch, **changes)
    return rights


async def test_a_passive_gateway_sends_on_and_writes_nothing() -> None:
    """307 with the way, for each kind of ranking; an app that was sent here once comes back later instead."""
    async with GatewayParts(rights=GivenRights(leader=WEST)) as gateway:
        for path in ("/v1/search", "/v1/recommendations", "/v1/similar"):
            async with gateway.client.post(f"{path}?a=1", json=SEARCH, allow_redirects=False) as response:
                assert response.status == 307
                assert response.headers["Location"] == f"http://west:8080{path}?a=1&hop=1"
                assert (await response.json())["region"] == "west"
        status, headers, problem = await gateway.post("/v1/search?hop=1", SEARCH)
        assert (status, headers["Retry-After"], problem["type"]) == (503, "1", "urn:meridian:problem:not-active")
        assert gateway.sink.records == {}


async def test_a_passive_gateway_takes_events() -> None:
    """Inputs are never fenced."""
    async with GatewayParts(rights=GivenRights()) as gateway:
        assert (await gateway.post("/v1/events", event(1), STRUCTURED))[0] == 200
        assert (await gateway.post("/v1/search", SEARCH))[0] == 503


async def test_a_silence_in_which_the_term_ended_makes_no_passive_region_sick() -> None:
    """Nobody asks there any more, so nobody would break it: the region could never take over again."""
    rights = active((0, 2))
    async with GatewayParts(rights=rights) as gateway:
        for number in range(3):
            status, _, _ = await gateway.post("/v1/search", {**SEARCH, "id": f"s-{number}", "deadline_ms": 200})
            assert status == 503
        now = asyncio.get_running_loop().time()
        assert "has not answered" in (gateway.core.processor_blocker(now) or "")
        rights.take(WEST)
        assert gateway.core.processor_blocker(now) is None
        gateway.core.watch.health("broker: away")
        assert "broker: away" in (gateway.core.processor_blocker(now) or "")


async def test_an_answer_says_who_made_it() -> None:
    """Epoch and region in the body and in headers, so that an app can refuse smaller ones."""
    async with GatewayParts(rights=active((1, 12))) as gateway:
        gateway.sink.on_ask = lambda ask: gateway.answer(ask, epoch=(1, 12))
        status, headers, body = await gateway.post("/v1/search", SEARCH)
        assert (status, body["epoch"], body["region"]) == (200, [1, 12], "east")
        assert (headers["Meridian-Epoch"], headers["Meridian-Region"]) == ("1:12", "east")


@pytest.mark.parametrize("epoch", [(0, 1), (0, 3), (1, 0)])
async def test_a_ranking_of_another_term_is_not_shown(epoch: tuple[int, int]) -> None:
    """Neither of an earlier one nor of one that this region does not hold."""
    async with GatewayParts(rights=active((0, 2))) as gateway:
        gateway.sink.on_ask = lambda ask: gateway.answer(ask, epoch=epoch)
        status, _, problem = await gateway.post("/v1/search", {**SEARCH, "deadline_ms": 100})
        assert status == 503
        assert problem["type"].rpartition(":")[2] in {"ranking-stale", "no-answer-in-time"}
        await asyncio.sleep(0)
        assert [row.kind for row in gateway.sink.rows()] == [Kind.SEARCH]
        assert gateway.figure("meridian_fenced_total", where="gateway") == 1


async def test_a_larger_epoch_seen_anywhere_stops_an_answer() -> None:
    """The own term looks valid still; the controller has heard of a later one."""
    rights = active((0, 2))
    async with GatewayParts(rights=rights) as gateway:
        rights.largest_epoch = (0, 5)
        gateway.sink.on_ask = lambda ask: gateway.answer(ask, epoch=(0, 2))
        assert (await gateway.post("/v1/search", {**SEARCH, "deadline_ms": 100}))[0] == 503
        assert gateway.figure("meridian_gateway_rankings_dropped_total", reason="stale_epoch") == 1


async def test_after_its_deadline_nothing_is_shown() -> None:
    """Whatever the term still looks like: a process that was stopped in between asks the clock first."""
    async with GatewayParts(rights=active((0, 2), deadline=SystemClock().boottime() - 0.001)) as gateway:
        gateway.sink.on_ask = lambda ask: gateway.answer(ask, epoch=(0, 2))
        status, _, problem = await gateway.post("/v1/search", SEARCH)
        assert (status, problem["type"]) == (503, "urn:meridian:problem:ranking-stale")
        assert "lease ran out" in problem["detail"]
        assert gateway.figure("meridian_gateway_rankings_dropped_total", reason="not_active") == 1


async def test_a_term_that_ended_between_answer_and_writing_shows_nothing() -> None:
    """The answer had arrived in time; it is the writing that counts."""
    rights = active((0, 2))
    async with GatewayParts(rights=rights) as gateway:

        def answer_and_lose(ask: Any) -> None:
            gateway.answer(ask, epoch=(0, 2))
            rights.take(WEST)

        gateway.sink.on_ask = answer_and_lose
        status, _, problem = await gateway.post("/v1/search", SEARCH)
        assert (status, problem["type"]) == (503, "urn:meridian:problem:ranking-stale")
        assert "west holds the lease" in problem["detail"]


async def test_who_waits_when_the_term_ends_is_told_at_once() -> None:
    """Not after the deadline; and it does not count as silence of the processor."""
    rights = active((0, 2))
    async with GatewayParts(rights=rights, silent_asks_max=1) as gateway:
        waiting = asyncio.create_task(gateway.post("/v1/search", {**SEARCH, "deadline_ms": 10_000}))
        await wait_until_async(lambda: gateway.sink.asked, what="the ask")
        rights.take()
        gateway.core.desk.abandon("region east gives no rankings any more")
        status, _, problem = await asyncio.wait_for(waiting, 5)
        assert (status, problem["retry_after_seconds"]) == (503, 0.25)
        assert "no rankings any more" in problem["detail"]
        assert gateway.core.watch.blocker(asyncio.get_running_loop().time()) is None
        assert gateway.core.desk.in_flight == 0


async def test_a_region_that_takes_over_holds_asks_until_its_processor_has_begun() -> None:
    """Nothing is asked of a shut gate; the markers open the way."""
    rights = active((0, 2), serving=False)
    async with GatewayParts(rights=rights) as gateway:
        gateway.sink.on_ask = lambda ask: gateway.answer(ask, epoch=(0, 2))
        status, _, problem = await gateway.post("/v1/search", {**SEARCH, "deadline_ms": 50})
        assert (status, problem["type"]) == (503, "urn:meridian:problem:taking-over")
        waiting = asyncio.create_task(gateway.post("/v1/search", SEARCH))
        for partition in range(4):
            await asyncio.sleep(0)
            assert gateway.sink.asked == []
            gateway.core.on_epoch((0, 2), partition)
        assert (await waiting)[0] == 200


async def test_who_is_active_and_where_everybody_is() -> None:
    """By the deployment's addresses until gateways have registered."""
    rights = GivenRights(leader=WEST, largest_epoch=(0, 7), age=0.25)
    async with GatewayParts(rights=rights) as gateway:
        answer = await regions(gateway)
        assert answer == {
            "region": "east",
            "active": "west",
            "epoch": [0, 7],
            "view_age_ms": 250,
            "regions": [
                {"region": "east", "gateways": ["http://east:8080"], "active": False, "inbox": None},
                {"region": "west", "gateways": ["http://west:8080"], "active": True, "inbox": None},
            ],
        }
        rights.give((0, 9))
        assert (await regions(gateway))["active"] == "east"
        rights.take(None)
        assert (await regions(gateway))["active"] is None


async def test_a_region_that_is_alone_says_so() -> None:
    """It is active, as far as anybody could be."""
    async with GatewayParts() as gateway:
        answer = await regions(gateway)
        assert (answer["active"], answer["view_age_ms"]) == ("east", None)


async def regions(gateway: GatewayParts) -> Any:
    """The answer of the route."""
    async with gateway.client.get("/v1/regions", headers=JSON) as response:
        assert response.status == 200
        return await response.json()
