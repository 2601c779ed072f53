"""Canaries through a gateway: each says truly how far it came, shows nothing, and takes nobody's place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from services.common.problem import Problem
from services.common.settings import Secret
from services.gateway.canary import CANARIES_A_SECOND_MAX, Canaries, keys_of
from services.processor.client import CanaryTrail
from streams.asks import Ask
from streams.logs import partition_of
from tests.support.gateway_parts import GatewayParts, answer_to
from tests.support.gateway_rights import GivenRights
from tests.support.poll import wait_until_async

FOLDED = CanaryTrail(canary_id="", stages_ms={"log": 1.0})
GATED = CanaryTrail(
    canary_id="", stages_ms={"log": 1, "features": 2, "score": 3}, outcome="gate", rung="model", detail="west holds it"
)
PUBLISHED = CanaryTrail(canary_id="", stages_ms={"log": 1, "features": 2, "score": 3}, outcome="answered", rung="model")
QUICK: dict[str, Any] = {"deadline_ms": 400}


class Processor:
    """What the region's processor does with canaries, and says of them."""

    def __init__(self, gateway: GatewayParts) -> None:
        self.gateway = gateway
        self.trail: CanaryTrail | Exception | None = PUBLISHED
        """None: it does not answer."""
        self.answers = True
        self.changes: dict[str, Any] = {}
        gateway.core.canaries.trail_of = self.trail_of
        gateway.sink.on_ask = self.on_ask

    def on_ask(self, ask: Ask) -> None:
        if self.answers:
            ranking = answer_to(ask, **self.changes)
            self.gateway.core.on_ranking(ranking, ranking.epoch)

    async def trail_of(self, _canary_id: str, _seconds: float) -> CanaryTrail:
        if self.trail is None:
            await asyncio.Event().wait()
        if isinstance(self.trail, Exception):
            raise self.trail
        assert self.trail is not None
        return self.trail


@asynccontextmanager
async def region(rights: GivenRights | None = None, **settings: Any) -> AsyncIterator[tuple[GatewayParts, Processor]]:
    """A gateway and its processor."""
    async with GatewayParts(rights=rights, **settings) as gateway:
        yield gateway, Processor(gateway)


async def flown(gateway: GatewayParts, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer to one canary."""
    status, _, answer = await gateway.post("/v1/canary", body or {})
    assert status == 200, answer
    assert "items" not in answer
    return dict(answer)


async def test_in_an_active_region_it_comes_back_as_an_answer() -> None:
    """All the way; the stage times of gateway and processor are there, and the frame holds no event."""
    async with region() as (gateway, _):
        answer = await flown(gateway)
        assert (answer["reached"], answer["step"], answer["rung"], answer["problem"]) == (
            "answer",
            "answer",
            "model",
            "",
        )
        assert set(answer["stages_ms"]) == {"acknowledged", "log", "features", "score"}
        assert 0 < answer["latency_ms"] < 500
        (ask,) = gateway.sink.asked
        assert ask.canary
        assert ask.user == 0
        assert gateway.sink.rows() == [], "no search event, and no served event"
        assert gateway.figure("meridian_gateway_rankings_served_total", rung="model") == 0


async def test_a_closed_gate_is_where_a_passive_region_ends() -> None:
    """No redirect: this region is what is asked about."""
    async with region(GivenRights()) as (gateway, processor):
        processor.answers, processor.trail = False, GATED
        answer = await flown(gateway)
        assert (answer["reached"], answer["step"], answer["rung"]) == ("gate", "gate", "model")
        assert (answer["stopped_by"], answer["problem"]) == ("west holds it", "")
        assert answer["latency_ms"] > 0


@pytest.mark.parametrize(
    ("trail", "step", "word"),
    [
        (None, "log", "it does not answer"),
        (CanaryTrail(canary_id=""), "log", "did not fold it in time"),
        (FOLDED, "fold", "read no features"),
        (CanaryTrail(canary_id="", stages_ms={"log": 1, "features": 1}), "features", "nobody scored it"),
        (CanaryTrail(canary_id="", stages_ms={"log": 1}, outcome="expired"), "fold", "came too late"),
        (PUBLISHED, "published", "did not come back from the rankings log"),
        (aiohttp.ClientConnectionError(), "log", "it cannot be reached: ClientConnectionError"),
    ],
)
async def test_what_is_lost_says_where(trail: CanaryTrail | Exception | None, step: str, word: str) -> None:
    """The last step that is known, and one sentence."""
    async with region() as (gateway, processor):
        processor.answers, processor.trail = False, trail
        answer = await flown(gateway, QUICK)
        assert (answer["reached"], answer["step"], answer["latency_ms"]) == ("", step, None)
        assert word in answer["problem"]


async def test_a_log_that_does_not_acknowledge_is_where_it_is_lost() -> None:
    """Held, failed, or stalled: never an answer."""
    async with region(stall_seconds=0.2) as (gateway, processor):
        gateway.sink.hold, processor.answers, processor.trail = True, False, None
        answer = await flown(gateway, QUICK)
        assert (answer["reached"], answer["step"]) == ("", "")
        assert "the log did not acknowledge it in time" in answer["problem"]
        await wait_until_async(lambda: gateway.core.log_blocker() is not None, what="the stall")
        assert "has not acknowledged anything" in (await flown(gateway, QUICK))["problem"]
        gateway.sink.release()
        gateway.sink.fail = "the broker is gone"
        assert "the broker is gone" in (await flown(gateway, QUICK))["problem"]


async def test_a_region_that_is_taking_over_says_so() -> None:
    """It waits as a user would, and no longer."""
    rights = GivenRights()
    rights.give((1, 5), serving=False)
    async with region(rights) as (gateway, _):
        answer = await flown(gateway, QUICK)
        assert (answer["reached"], answer["canary_id"]) == ("", "")
        assert "taking over" in answer["problem"]
        assert gateway.sink.asked == []


async def test_the_last_check_is_made() -> None:
    """An answer of an earlier term is none; in a region that may not act any more the gateway is the gate."""
    rights = GivenRights()
    rights.give((1, 5))
    async with region(rights) as (gateway, processor):
        processor.changes = {"epoch": (1, 4)}
        answer = await flown(gateway)
        assert (answer["reached"], answer["step"]) == ("", "published")
        assert "in an earlier term" in answer["problem"]
        processor.changes = {"epoch": (1, 5)}
        assert (await flown(gateway))["reached"] == "answer"
        rights.take()
        answer = await flown(gateway)
        assert (answer["reached"], answer["stopped_by"]) == (
            "gate",
            "may not be shown by this region: west holds the lease",
        )
        assert gateway.figure("meridian_fenced_total", where="gateway") == 0, "nobody tried to show it"


async def test_silence_is_not_held_against_the_processor() -> None:
    """A passive region answers nobody; after any number of lost canaries a user's ask goes out at once."""
    async with region() as (gateway, processor):
        processor.answers, processor.trail = False, FOLDED
        for _ in range(5):
            await flown(gateway, {"deadline_ms": 210})
        assert gateway.core.watch.blocker(asyncio.get_running_loop().time()) is None
        processor.answers = True
        status, _, _ = await gateway.post("/v1/search", {"user": "u", "query": "q"})
        assert status == 200


async def test_a_canary_takes_no_place_and_is_turned_away_as_a_user_would_be() -> None:
    """With one place for users, a canary that hangs leaves it free; with a user in it, a canary is lost and says so."""
    async with region(asks_waiting_max=1) as (gateway, processor):
        processor.answers, processor.trail = False, None
        hanging = asyncio.ensure_future(flown(gateway, {"deadline_ms": 400}))
        await wait_until_async(lambda: gateway.sink.asked, what="the canary's ask")
        assert gateway.core.desk.in_flight == 0
        asking = asyncio.ensure_future(gateway.post("/v1/search", {"user": "u", "query": "q", "deadline_ms": 400}))
        await wait_until_async(lambda: len(gateway.sink.asked) == 2, what="the user's ask")
        assert "wait for a ranking already" in (await flown(gateway, QUICK))["problem"]
        await asyncio.gather(hanging, asking)


async def test_a_load_of_canaries_is_refused() -> None:
    """They stand outside the users' bounds, so they have one of their own; also for those that wait for a takeover."""
    rights = GivenRights()
    rights.give((1, 5), serving=False)
    async with region(rights) as (gateway, processor):
        processor.answers, processor.trail = False, None
        refusals = []
        tries = [asyncio.ensure_future(gateway.post("/v1/canary", {"deadline_ms": 5_000})) for _ in range(6)]
        for each in asyncio.as_completed(tries):
            refusals.append(await each)
            if len(refusals) == 2:
                rights.give((1, 5))
                processor.answers = True
                gateway.core.opening.notice()
        for status, headers, problem in refusals[:2]:
            assert (status, problem["type"]) == (429, "urn:meridian:problem:canaries-full")
            assert "Retry-After" in headers
        assert [status for status, _, _ in refusals[2:]] == [200] * 4
        assert len(gateway.sink.asked) == 4


def test_canaries_begin_at_a_bounded_rate() -> None:
    """However quick they are: each is a record for ever."""
    canaries = Canaries("east-gateway-1")
    for number in range(CANARIES_A_SECOND_MAX):
        with canaries.under_way(5.0 + number / 100):
            pass
    with pytest.raises(Problem, match="began within a second"), canaries.under_way(5.99):
        pass
    with canaries.under_way(6.0):
        pass


async def test_only_who_has_a_token_may_send_one() -> None:
    """It writes a record, like everything else under /v1/ that does."""
    async with region(api_tokens=Secret("a token that is long enough")) as (gateway, _):
        status, _, problem = await gateway.post("/v1/canary", {})
        assert (status, problem["type"]) == (401, "urn:meridian:problem:unauthorized")
        assert gateway.sink.asked == []


def test_canaries_take_the_partitions_in_turn() -> None:
    """One partition that hangs is seen within as many canaries as there are partitions."""
    for partitions in (1, 4, 8):
        assert [partition_of(key, partitions) for key in keys_of(partitions)] == list(range(partitions))
