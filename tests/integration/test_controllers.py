"""Two controllers, each with the few answers of a region: who leads, who may act, and what operators can make of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from services.common.clock import SystemClock
from services.common.deployment import Deployment
from services.coordination.base import ABSENT, Versioned
from services.coordination.keys import LEADER
from services.coordination.lease import LeaseStore
from services.coordination.lives import all_lives, open_life
from services.coordination.memory import MemoryStore
from services.coordination.region_record import raise_acknowledged_ends
from services.receipts.client import receipts
from tests.support.etcd import EtcdCluster
from tests.support.poll import wait_until_async
from tests.support.small_region import RunningController, SmallRegion, copied, deployment_of, running_controller

PATIENCE = 30.0


@dataclass
class Pair:
    """Two regions that run."""

    deployment: Deployment
    store: LeaseStore
    regions: dict[str, SmallRegion]
    controllers: dict[str, RunningController]
    session: aiohttp.ClientSession

    def url(self, region: str) -> str:
        return self.deployment.site(region).url("control")

    async def ask(self, region: str, path: str) -> tuple[int, Any]:
        async with self.session.get(self.url(region) + path) as answer:
            return answer.status, msgspec.json.decode(await answer.read())

    async def post(self, region: str, path: str, **body: object) -> tuple[int, Any]:
        async with self.session.post(self.url(region) + path, data=msgspec.json.encode(body)) as answer:
            return answer.status, msgspec.json.decode(await answer.read())

    async def serving(self, region: str | None = None) -> str:
        """Wait until a region (or this one) serves, and everybody knows."""
        found: list[str] = []

        async def knows() -> bool:
            leaders = [(await self.ask(name, "/v1/lease"))[1]["leader"] for name in self.alive()]
            found[:] = [leader["region"] for leader in leaders if leader is not None and leader["serving"]]
            return len(found) == len(self.alive()) and len(set(found)) == 1 and found[0] == (region or found[0])

        await wait_until_async(knows, PATIENCE, f"{region or 'a region'} to serve")
        return found[0]

    def alive(self) -> list[str]:
        return [name for name, each in self.controllers.items() if not each.killed]

    async def operation(self, region: str, operation_id: str) -> dict[str, Any]:
        """Wait until an operation has ended."""
        found: dict[str, Any] = {}

        async def ended() -> bool:
            found.update((await self.ask(region, f"/v1/operations/{operation_id}"))[1])
            return found.get("state") in {"done", "aborted"}

        await wait_until_async(ended, PATIENCE, f"operation {operation_id} to end")
        return found

    def shown_together(self) -> list[tuple[float, float]]:
        """Moments in which both gates were open, or in which a smaller epoch followed a larger one."""
        moments = sorted(moment for region in self.regions.values() for moment in region.shows_for)
        return [(earlier[0], later[0]) for earlier, later in itertools.pairwise(moments) if later[1] < earlier[1]]


@asynccontextmanager
async def pair(tmp_path: Path, store: LeaseStore, **settings: object) -> AsyncIterator[Pair]:
    """East and west."""
    deployment = deployment_of(tmp_path, "east", "west")
    async with AsyncExitStack() as stack:
        regions = {name: SmallRegion(name, deployment) for name in ("east", "west")}
        controllers = {
            name: await stack.enter_async_context(running_controller(deployment, name, store, **settings))
            for name in regions
        }
        for region in regions.values():
            await stack.enter_async_context(region.running())
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Pair(deployment, store, regions, controllers, session)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Pair]:
    """East and west over the fake store."""
    async with pair(tmp_path, MemoryStore(SystemClock()), operation_step_seconds=3.0) as found:
        yield found


class DistantStore(MemoryStore):
    """Answers some turns of the event loop later, as whoever is asked over a network."""

    async def list(self, prefix: str) -> list[Versioned]:
        """See KeyValueStore."""
        for _ in range(10):
            await asyncio.sleep(0)
        return await super().list(prefix)


def other(name: str) -> str:
    """The other one."""
    return "west" if name == "east" else "east"


async def test_one_leads_and_the_other_takes_over_when_it_is_killed(two: Pair) -> None:
    """With a receipt that lists what is known to be missing, and the steps of the takeover in it."""
    first = await two.serving()
    second = other(first)
    now_ms = SystemClock().unix_ms()
    two.regions[second].logs = [copied(first, held=90, end=100, last_contact_ms=now_ms, reachable=False)]
    await wait_until_async(
        lambda: two.controllers[second].controller.observer.data.lag.events == 10, PATIENCE, "the lag to be seen"
    )
    two.controllers[first].kill()
    await two.serving(second)

    async def written() -> bool:
        return bool(await receipts(two.session, two.url(second)))

    await wait_until_async(written, PATIENCE, "the receipt")
    (receipt,) = await receipts(two.session, two.url(second))
    assert (receipt.kind, receipt.incarnation, receipt.was_active) == ("failover", f"{first}-1", True)
    assert [(each.start, each.end, each.events) for each in receipt.ranges] == [(90, 100, 10)]
    times = receipt.timeline
    assert 0 < times.last_seen_ms <= times.lease_gone_ms <= times.acquired_ms <= times.serving_ms
    assert (await two.ask(second, "/leader"))[0] == 200
    assert two.shown_together() == []


async def test_a_switchover_moves_the_lease_and_loses_nothing(two: Pair) -> None:
    """The successor serves only after it has folded what the other one had acknowledged."""
    first = await two.serving()
    second = other(first)
    log = f"{first}-1.events"
    two.regions[first].acknowledged = {0: 50}
    two.regions[second].frontier = {(log, 0): 40}
    status, _ = await two.post(second, "/v1/switchover", operation_id="s1", to=second, by="anna", reason="a test")
    assert status == 202

    async def drained() -> bool:
        return bool((await two.ask(second, "/v1/operations/s1"))[1]["state"] == "drained")

    await wait_until_async(drained, PATIENCE, "the old region to have drained")
    assert (await two.ask(first, "/v1/lease"))[1]["active"] is False
    assert not two.regions[first].gate_is_open()
    two.regions[second].frontier = {(log, 0): 50}
    found = await two.operation(second, "s1")
    assert found["state"] == "done", found
    assert found["frontier"] == [[log, 0, 50]]
    await two.serving(second)
    assert two.shown_together() == []
    again = await two.post(second, "/v1/switchover", operation_id="s1", to=second, by="anna", reason="a test")
    assert again[0] == 200 and again[1]["state"] == "done"
    kinds = [entry["kind"] for entry in (await two.ask(first, "/v1/history"))[1]["entries"]]
    assert kinds.count("switchover") == 1


async def test_a_switchover_that_cannot_be_covered_is_handed_back(two: Pair) -> None:
    """The old region opens its gate again, under the same epoch."""
    first = await two.serving()
    second = other(first)
    epoch = (await two.ask(first, "/v1/lease"))[1]["epoch"]
    two.regions[first].acknowledged = {0: 50}
    await two.post(first, "/v1/switchover", operation_id="s2", to=second, by="anna", reason="a test")
    found = await two.operation(first, "s2")
    assert found["state"] == "aborted" and second in found["detail"]
    await two.serving(first)
    assert (await two.ask(first, "/v1/lease"))[1]["epoch"] == epoch


async def test_operators_are_refused_with_the_reason_and_the_next_step(two: Pair) -> None:
    """Unknown region, blocked region, no reason, pause beside an operation, two at once."""
    first = await two.serving()
    second = other(first)
    status, problem = await two.post(first, "/v1/switchover", operation_id="a", to="mars", by="anna", reason="x")
    assert status == 404 and "east, west" in problem["remedy"]
    status, problem = await two.post(first, "/v1/switchover", operation_id="a", to=first, by="anna", reason="x")
    assert status == 409 and problem["type"].endswith("already-active")
    status, problem = await two.post(first, "/v1/pause", operation_id="a", by="anna", reason="")
    assert status == 400
    two.regions[second].sick = "state: rebuilding"
    view = two.controllers[first].controller.mirror.view
    await wait_until_async(lambda: "rebuilding" in view().candidates[second].blocker, PATIENCE, "the blocker")
    status, problem = await two.post(first, "/v1/switchover", operation_id="b", to=second, by="anna", reason="x")
    assert status == 409 and "rebuilding" in problem["detail"]
    two.regions[second].sick = ""
    two.regions[second].champion_blocker = "version 2 is champion, version 1 serves: it is being loaded"
    await wait_until_async(lambda: "version 2" in view().candidates[second].blocker, PATIENCE, "the champion's blocker")
    status, problem = await two.post(first, "/v1/switchover", operation_id="b", to=second, by="anna", reason="x")
    assert status == 409 and "its champion is not proven: version 2 is champion" in problem["detail"]
    two.regions[second].champion_blocker = None
    assert (await two.post(first, "/v1/pause", operation_id="p", by="anna", reason="a test"))[0] == 200
    assert (await two.post(first, "/v1/pause", operation_id="q", by="bob", reason="too"))[0] == 409

    async def refused() -> bool:
        answer = await two.post(second, "/v1/switchover", operation_id="c", to=second, by="anna", reason="x")
        return bool(answer[1].get("type", "").endswith("paused"))

    await wait_until_async(refused, PATIENCE, "the pause to be known")
    assert (await two.post(first, "/v1/resume", operation_id="r", by="anna"))[0] == 200


async def test_two_operators_at_once_make_one_operation(two: Pair) -> None:
    """The store grants one of them; the other learns of it."""
    first = await two.serving()
    second = other(first)
    two.regions[first].acknowledged = {0: 50}
    await wait_until_async(
        lambda: second in two.controllers[first].controller.mirror.view().candidates, PATIENCE, "the candidate"
    )
    answers = await asyncio.gather(
        two.post(first, "/v1/switchover", operation_id="x", to=second, by="anna", reason="a"),
        two.post(second, "/v1/switchover", operation_id="y", to=second, by="bob", reason="b"),
    )
    assert sorted(status for status, _ in answers) == [202, 409]


async def test_a_pause_keeps_everything_as_it_is(two: Pair) -> None:
    """Nobody takes over from a region that died, until the pause ends."""
    first = await two.serving()
    second = other(first)
    await two.post(first, "/v1/pause", operation_id="p", by="anna", reason="a test")
    two.controllers[first].kill()

    async def gone() -> bool:
        return await two.store.get(LEADER) is None

    await wait_until_async(gone, PATIENCE, "the lease to end")
    await wait_until_async(
        lambda: "paused by anna" in two.controllers[second].controller.sentence, PATIENCE, "the sentence"
    )
    assert two.controllers[second].controller.election.held is None
    await two.post(second, "/v1/resume", operation_id="r", by="anna")
    await two.serving(second)


async def test_a_region_that_lacks_too_much_waits_for_an_operator(two: Pair) -> None:
    """The refusal names the loss, and accepting it brings the region up."""
    first = await two.serving()
    second = other(first)
    now_ms = SystemClock().unix_ms()
    two.regions[second].logs = [copied(first, held=0, end=9_000, last_contact_ms=now_ms)]
    await wait_until_async(
        lambda: two.controllers[second].controller.observer.data.lag.events == 9_000, PATIENCE, "the lag"
    )
    two.controllers[first].kill()

    async def waits() -> bool:
        status, problem = await two.post(second, "/v1/failover", operation_id="f", to=second, by="anna", reason="x")
        return status == 409 and problem.get("loss_events") == 9_000 and await two.store.get(LEADER) is None

    await wait_until_async(waits, PATIENCE, "the refusal with the loss")
    assert "9000 events" in (await two.ask(second, "/v1/explain"))[1]["promotion_blocker"]
    status, _ = await two.post(
        second, "/v1/failover", operation_id="f", to=second, by="anna", reason="x", accept_loss_events=9_000
    )
    assert status == 202
    await two.serving(second)
    found = await two.operation(second, "f")
    assert found["state"] == "done"

    async def written() -> bool:
        found = await receipts(two.session, two.url(second))
        return [each.accepted_loss_events for each in found] == [9_000]

    await wait_until_async(written, PATIENCE, "the receipt with what was accepted")


async def test_a_sick_region_resigns_when_another_can_take_over(tmp_path: Path) -> None:
    """And stands back afterwards, so that the two do not throw the lease at each other."""
    store = MemoryStore(SystemClock())
    async with pair(tmp_path, store, sick_seconds=0.3, term_seconds_min=0.5) as two:
        first = await two.serving()
        two.regions[first].sick = "broker: away"
        await two.serving(other(first))
        assert two.shown_together() == []
        two.regions[first].sick = ""
        explained = (await two.ask(first, "/v1/explain"))[1]
        assert any(each["name"] == "hold-down" and not each["holds"] for each in explained["predicates"])


async def test_a_rebuilt_region_does_not_act_before_its_state_was_looked_at(tmp_path: Path) -> None:
    """Also not in the first moment of a controller, when everything else answers already."""
    store = DistantStore(SystemClock())
    await open_life(store, "east", "kafka-before-the-wipe", 1)
    deployment = deployment_of(tmp_path, "east", "west")
    region = SmallRegion("east", deployment)
    async with region.running(), running_controller(deployment, "east", store) as east:
        await wait_until_async(lambda: "is not proven equal" in east.controller.sentence, PATIENCE, "the blocker")
        assert east.controller.performer.acquired is None
        assert await store.get(LEADER) is None


async def test_a_region_that_never_heard_the_others_goes_by_what_the_store_knows(tmp_path: Path) -> None:
    """The other one died before this one's replicator was started: it lacks what was acknowledged there."""
    store = DistantStore(SystemClock())
    await open_life(store, "west", "kafka", 1)
    await raise_acknowledged_ends(store, "west-1.events", {0: 9_000})
    deployment = deployment_of(tmp_path, "east", "west")
    region = SmallRegion("east", deployment)
    async with region.running(), running_controller(deployment, "east", store) as east:
        await wait_until_async(lambda: "9000 events" in east.controller.sentence, PATIENCE, "the blocker")
        assert east.controller.performer.acquired is None


async def test_over_etcd_a_kill_and_a_switchover_back(tmp_path: Path, fresh_etcd_cluster: EtcdCluster) -> None:
    """The real store: takeover, etcd's leader outside the active region, and back again."""
    store = fresh_etcd_cluster.store()
    try:
        async with pair(tmp_path, store, etcd_leader_seconds=0.5) as two:
            first = await two.serving()
            second = other(first)
            await two.post(first, "/v1/switchover", operation_id="s", to=second, by="anna", reason="a test")
            found = await two.operation(second, "s")
            assert found["state"] == "done", found
            await two.serving(second)

            async def moved() -> bool:
                return await asyncio.to_thread(fresh_etcd_cluster.leader) != second

            await wait_until_async(moved, PATIENCE, "etcd's leader to leave the active region")
            two.controllers[second].kill()
            await two.serving(first)
            assert two.shown_together() == []
            assert [life.incarnation for life in await all_lives(store)] == ["east-1", "west-1"]
            entry = await store.get(LEADER)
            assert entry is not None and entry.create_revision != ABSENT
    finally:
        await store.close()
