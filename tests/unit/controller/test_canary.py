"""Canaries in a controller: what counts as arrived, what as lost, and how it is told."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from services.controller.answers import RegionLine, explain
from services.controller.canary import CanaryReading, in_short, in_words, judge
from services.controller.canary_sender import START_SECONDS_MAX, TELL_SECONDS, CanaryMetrics, CanaryPlan, CanarySender
from services.controller.model import CandidateStatus, Limits, Now, StoreView, View
from services.gateway.client import CanaryAnswer
from tests.support.poll import wait_until_async
from tests.support.turned_clock import TurnedClock

EPOCH = (1, 7)
ANSWERED = CanaryAnswer(
    canary_id="c1", region="east", reached="answer", step="answer", latency_ms=9.0, stages_ms={}, rung="model"
)
GATED = msgspec.structs.replace(ANSWERED, reached="gate", step="gate", stopped_by="west holds the lease")
LOST = msgspec.structs.replace(
    ANSWERED, reached="", step="log", latency_ms=None, rung=None, problem="the processor did not fold it in time"
)
READING = CanaryReading(at_ms=1_000, reached="answer", latency_ms=12.4, sent=50, lost=2, problem="")
CANDIDATE = CandidateStatus(
    region="east", instance="i", incarnation="east-1", at_ms=0, gateway_url="", control_url="", blocker="",
    serving_epoch=None, epoch_seen=EPOCH, lag_events=0, lag_seconds=0.0, canary=READING,
)  # fmt: skip


@pytest.mark.parametrize(
    ("found", "acted", "acts", "reached", "lost", "problem"),
    [
        (ANSWERED, EPOCH, EPOCH, "answer", False, ""),
        (GATED, None, None, "gate", False, ""),
        (GATED, EPOCH, EPOCH, "", True, "its gate stopped it: west holds the lease"),
        (GATED, None, EPOCH, "gate", False, ""),
        (GATED, EPOCH, None, "gate", False, ""),
        (GATED, EPOCH, (1, 9), "gate", False, ""),
        (ANSWERED, EPOCH, None, "answer", False, ""),
        (ANSWERED, None, None, "answer", False, "this region may not act"),
        (LOST, EPOCH, EPOCH, "", True, "did not fold it"),
        (LOST, None, EPOCH, "", True, "did not fold it"),
    ],
)
def test_a_canary_has_to_come_as_far_as_its_region_may_go(
    found: CanaryAnswer,
    acted: tuple[int, int] | None,
    acts: tuple[int, int] | None,
    reached: str,
    lost: bool,  # noqa: FBT001 - a row of the table
    problem: str,
) -> None:
    """The gate is a goal for a passive region only; where the term changed under way, either end is as good."""
    judged = judge(found, acted, acts)
    assert (judged.reached, judged.lost) == (reached, lost)
    assert problem in judged.problem
    assert bool(problem) == bool(judged.problem)


def test_a_lower_rung_arrives_and_says_so() -> None:
    """Users get answers; the operator learns that they are not the model's."""
    found = msgspec.structs.replace(GATED, rung="counters", reason="connection refused")
    judged = judge(found, None, None)
    assert (judged.reached, judged.lost) == ("gate", False)
    assert judged.problem == "scored by counters: connection refused"


class Gateway:
    """Answers as a test says."""

    def __init__(self, clock: TurnedClock) -> None:
        self._clock = clock
        self.asked_at: list[float] = []
        self.answer: CanaryAnswer | web.Response = ANSWERED
        self.tokens: list[str | None] = []

    async def canary(self, request: web.Request) -> web.Response:
        self.tokens.append(request.headers.get("Authorization"))
        self.asked_at.append(self._clock.monotonic())
        assert await request.json() == {"query": "lamp", "deadline_ms": 400}
        if isinstance(self.answer, web.Response):
            return self.answer
        return web.json_response(msgspec.to_builtins(self.answer))


@asynccontextmanager
async def sending(
    is_ready: Callable[[], bool] = lambda: True,
) -> AsyncIterator[tuple[CanarySender, Gateway, TurnedClock, CollectorRegistry]]:
    """A sender and the gateway that it asks."""
    clock, registry = TurnedClock(), CollectorRegistry()
    gateway = Gateway(clock)
    app = web.Application()
    app.router.add_post("/v1/canary", gateway.canary)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession() as session:
        plan = CanaryPlan(1.0, 400, "lamp", "a-token-of-the-gateway")
        metrics = CanaryMetrics(registry)
        yield CanarySender(session, url, clock, plan, metrics, lambda: EPOCH, is_ready), gateway, clock, registry
    await runner.cleanup()


async def test_what_was_sent_and_lost_is_counted() -> None:
    """Arrived, lost on the way, turned away, and a gateway that is gone; each reading says which."""
    async with sending() as (sender, gateway, _, registry):
        assert (await sender.send()).reached == "answer"
        assert gateway.tokens == ["Bearer a-token-of-the-gateway"]
        at = registry.get_sample_value("meridian_canary_last_success_timestamp_seconds")
        gateway.answer = LOST
        assert "did not fold it" in (await sender.send()).problem
        gateway.answer = web.json_response({"detail": "the gateway is not serving: starting"}, status=503)
        found = await sender.send()
        assert (found.reached, found.sent, found.lost) == ("", 3, 2)
        assert found.problem == "the gateway turned it away: the gateway is not serving: starting"
        assert registry.get_sample_value("meridian_canary_sent_total") == 3
        assert registry.get_sample_value("meridian_canary_lost_total") == 2
        assert registry.get_sample_value("meridian_canary_latency_seconds_count", {"reached": "answer"}) == 1
        assert registry.get_sample_value("meridian_canary_latency_seconds_count", {"reached": "gate"}) == 0
        assert registry.get_sample_value("meridian_canary_last_success_timestamp_seconds") == at


async def test_an_older_gateway_is_neither_a_loss_nor_a_success() -> None:
    """In the middle of an upgrade nothing is known; nor is it while the token is wrong."""
    async with sending() as (sender, gateway, _, _registry):
        for status, word in ((404, "older version"), (401, "MERIDIAN_CONTROLLER_GATEWAY_TOKEN")):
            gateway.answer = web.Response(status=status)
            found = await sender.send()
            assert (found.reached, found.sent, found.lost) == ("", 0, 0)
            assert word in found.problem
            assert in_short(found, found.at_ms) == "unknown"
        gateway.answer = LOST
        lost = await sender.send()
        assert in_short(lost, lost.at_ms) == "LOST"
        gateway.answer = web.Response(status=404)
        after = await sender.send()
        assert in_short(after, after.at_ms) == "unknown", "an earlier loss is not this one's"
        assert in_words(after).startswith("could not be sent; 1 of 1 lost")


async def test_others_canaries_are_no_loss_of_this_region() -> None:
    """Whoever sends many by hand wakes nobody; whether it serves is not known meanwhile."""
    async with sending() as (sender, gateway, _, _registry):
        problem = {"type": "urn:meridian:problem:canaries-full", "detail": "4 canaries are under way already"}
        gateway.answer = web.json_response(problem, status=429)
        found = await sender.send()
        assert (found.reached, found.sent, found.lost) == ("", 0, 0)
        assert found.problem == "canaries of others left no place for it: 4 canaries are under way already"


@pytest.mark.parametrize("status", [200, 503])
async def test_bytes_that_are_no_text_are_a_loss_and_end_no_controller(status: int) -> None:
    """Whatever listens at the gateway's port: the sender goes on."""
    async with sending() as (sender, gateway, _, _registry):
        gateway.answer = web.Response(body=b'{"detail": "\xff"}', status=status)
        assert (await sender.send()).lost == 1


async def test_a_gateway_that_is_gone_is_a_lost_canary() -> None:
    """Nobody listens: an app would not get an answer either."""
    async with aiohttp.ClientSession() as session:
        plan, metrics = CanaryPlan(1.0, 100, "", ""), CanaryMetrics(CollectorRegistry())
        sender = CanarySender(session, "http://127.0.0.1:9", TurnedClock(), plan, metrics, lambda: None)
        found = await sender.send()
    assert (found.reached, found.lost) == ("", 1)
    assert "the gateway cannot be asked" in found.problem


async def test_what_is_no_news_is_told_now_and_then() -> None:
    """Each telling is a write of the coordination store; a loss is told at once, and so is its end."""
    async with sending() as (sender, gateway, clock, _):
        first = await sender.send()
        assert sender.told == first
        await sender.send()
        assert sender.told == first
        assert sender.reading != first
        gateway.answer = LOST
        lost = await sender.send()
        assert sender.told == lost
        gateway.answer = ANSWERED
        again = await sender.send()
        assert sender.told == again
        clock.turn(TELL_SECONDS)
        await sender.send()
        assert sender.told == sender.reading != again


@pytest.mark.parametrize("starts", [True, False])
async def test_a_region_that_starts_loses_nothing_and_one_that_does_not_start_is_seen(*, starts: bool) -> None:
    """Not before its processes are ready; but whoever never gets ready is not passed over for ever."""
    asked, ready_after = itertools.count(), 3 if starts else 1_000_000
    async with sending(lambda: next(asked) >= ready_after) as (sender, gateway, clock, _):
        gateway.answer = ANSWERED if starts else LOST
        began = clock.monotonic()
        working = asyncio.ensure_future(sender.run())
        await wait_until_async(lambda: sender.reading is not None, what="the first canary")
        working.cancel()
        assert sender.reading is not None
        assert (sender.reading.lost == 0) == starts
        assert (gateway.asked_at[0] - began < START_SECONDS_MAX) == starts


def test_explain_has_a_line_for_it_that_blocks_nothing() -> None:
    """It is what would be seen, not a condition: the conditions are asked about one by one above it."""
    lost = msgspec.structs.replace(READING, reached="", latency_ms=None, problem="the processor did not fold it")
    now = Now(0.0, 2_000)
    said = {}
    for reading in (READING, lost):
        store = StoreView(candidates={"east": msgspec.structs.replace(CANDIDATE, canary=reading)})
        answer = explain(View("east", "i", ("east",), store=store), Limits(), now, "")
        said[reading.reached] = (answer.promotion_blocker, {each.name: each for each in answer.predicates}["canary"])
    assert said["answer"][1].holds
    assert not said[""][1].holds
    assert said["answer"][0] == said[""][0]
    assert said["answer"][1].value == "answered in 12 ms; 2 of 50 lost"
    assert "did not arrive" in in_words(lost)


def test_a_column_says_how_far_the_newest_came() -> None:
    """`-` where nothing is known; never a number for one that was lost."""
    lost = msgspec.structs.replace(READING, reached="", latency_ms=None, problem="the gateway is gone")
    assert [in_short(reading, 2_000) for reading in (None, READING, lost)] == ["-", "answer 12 ms", "LOST"]
    assert in_short(READING, 32_000) == "31 s ago", "what was then is not shown as what is"
    assert in_short(lost, 3_601_000) == "60 min ago"
    line = RegionLine(
        region="east", role="active", serving=True, incarnation="east-1", blocker="", lag_events=0, lag_seconds=0.0,
        gateway_url="", canary=READING,
    )  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(line), type=RegionLine) == line


def test_an_entry_of_an_older_controller_is_read_without_one() -> None:
    """During an upgrade both are there."""
    old = msgspec.to_builtins(CANDIDATE)
    del old["canary"]
    assert msgspec.json.decode(msgspec.json.encode(old), type=CandidateStatus).canary is None
