"""Whatever happens, in whatever order: one region acts at a time, a pause is a pause, and every step has its cause."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.controller.model import Campaign, DataPlane, Operation, Pause, ReopenGate
from services.coordination.base import ABSENT, CasConflict
from services.coordination.keys import OPERATION_OPEN, PAUSE
from tests.support.election_model import World

NAMES = ("east", "west", "south")
STEP = st.one_of(
    st.tuples(st.just("turn"), st.sampled_from([0.02, 0.1, 0.4, 1.0, 2.5, 6.0])),
    st.tuples(
        st.sampled_from(["look", "cycle", "cycle", "renew", "renew", "ask", "ask", "gate", "usual", "usual", "usual"]),
        st.sampled_from(range(3)),
    ),
    st.tuples(st.sampled_from(["cut", "heal", "lose", "late", "restart", "sick", "well"]), st.sampled_from(range(3))),
    st.tuples(st.sampled_from(["switchover", "failover"]), st.sampled_from(range(3))),
    st.tuples(st.sampled_from(["pause", "resume", "jump"]), st.sampled_from(range(3))),
)


async def operate(world: World, kind: str, number: int) -> None:
    """An operator asks; the surface refuses what makes no sense, so this asks only for what does."""
    target = world.regions[number]
    leader = target.store_view.leader
    source = leader.record.region if leader else ""
    if source == target.name or (not source and kind == "switchover"):
        return
    operation = Operation(
        operation_id=f"{kind}-{world.clock.boottime()}-{len(world.holders)}",
        kind="switchover" if kind == "switchover" else "failover",
        source=source,
        target=target.name,
        by="anna",
        reason="a test",
        created_ms=0,
    )
    try:
        await world.store.compare_and_put(OPERATION_OPEN, msgspec.json.encode(operation), ABSENT)
    except CasConflict:
        return


async def pause(world: World, number: int) -> None:
    """Pause for a while, by the clock of one region."""
    until_ms = world.regions[number].clock.unix_ms() + 20_000
    raw = msgspec.json.encode(Pause(by="anna", reason="a test", created_ms=0, until_ms=until_ms))
    try:
        await world.store.compare_and_put(PAUSE, raw, ABSENT)
    except CasConflict:
        return


async def resume(world: World) -> None:
    """End the pause."""
    if (found := await world.store.get(PAUSE)) is not None:
        await world.store.compare_and_delete(PAUSE, found.revision)


async def cycle(world: World, number: int) -> None:
    """One decision, held to what decisions promise."""
    region = world.regions[number]
    view = region.view()
    decision = await region.cycle()
    assert decision.sentence
    assert all(transition.cause for transition in decision.transitions)
    paused = view.store.pause is not None and region.clock.unix_ms() < view.store.pause.until_ms
    if paused:
        assert all(isinstance(transition, ReopenGate) for transition in decision.transitions)
    if region.data.sick is not None:
        campaigns = [each for each in decision.transitions if isinstance(each, Campaign)]
        mine = view.store.leader is not None and view.store.leader.record.instance == region.instance
        assert not campaigns or mine


async def usual(world: World, number: int) -> None:
    """What a healthy region does all the time."""
    region = world.regions[number]
    await world.look(region)
    await cycle(world, number)
    region.ask_lease()
    region.look_at_gate()
    await region.election.renew()


async def apply(world: World, what: str, number: int) -> None:
    """One step."""
    region = world.regions[number]
    steps: dict[str, Callable[[], Awaitable[object] | None]] = {
        "look": lambda: world.look(region),
        "cycle": lambda: cycle(world, number),
        "renew": region.election.renew,
        "ask": region.ask_lease,
        "gate": region.look_at_gate,
        "usual": lambda: usual(world, number),
        "cut": lambda: setattr(region.link, "cut", True),
        "heal": lambda: setattr(region.link, "cut", False),
        "lose": lambda: setattr(region.link, "lose", region.link.lose + 1),
        "late": lambda: setattr(region.link, "late_seconds", 1.5),
        "restart": region.restart,
        "sick": lambda: setattr(region, "data", with_health(region.data, "processor: a test", region.clock.boottime())),
        "well": lambda: setattr(region, "data", with_health(region.data, None, None)),
        "switchover": lambda: operate(world, what, number),
        "failover": lambda: operate(world, what, number),
        "pause": lambda: pause(world, number),
        "resume": lambda: resume(world),
        "jump": lambda: region.clock.step_wall(5.0),
    }
    outcome = steps[what]()
    if outcome is not None:
        await outcome


def with_health(data: DataPlane, sick: str | None, since: float | None) -> DataPlane:
    """The same data plane, sick or well."""
    return replace(data, sick=sick, sick_since=since)


async def run(steps: list[tuple[str, float]]) -> World:
    """Play the steps after a quiet second, checking after each."""
    world = World(NAMES)
    await healthy(world, 1.0)
    for what, argument in steps:
        if what == "turn":
            world.turn(argument)
        else:
            await apply(world, what, int(argument))
        world.check()
    return world


async def healthy(world: World, seconds: float) -> None:
    """Let all regions work for a while."""
    for _ in range(int(seconds / 0.1)):
        for number in range(len(world.regions)):
            await usual(world, number)
            world.check()
        world.turn(0.1)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEP, min_size=10, max_size=120))
def test_one_region_acts_at_a_time(steps: list[tuple[str, float]]) -> None:
    """Through cuts, lost answers, restarts, stale views, two operators, jumps of clocks and pauses of anything."""
    asyncio.run(run(steps))


def test_an_answer_that_comes_late_promises_no_more_time() -> None:
    """The store counts a lease from when it was asked. So must its holder, which hears of it 1.5 s later."""

    async def late() -> None:
        world = World(NAMES)
        await healthy(world, 3.0)
        holder = next(region for region in world.regions if region.acts())
        holder.link.late_seconds = 1.5
        await holder.election.renew()
        holder.link.cut = True
        took_over = False
        for _ in range(40):
            for number, region in enumerate(world.regions):
                if region is holder:
                    holder.ask_lease()
                else:
                    await usual(world, number)
                world.check()
            took_over = took_over or any(region.acts() for region in world.regions if region is not holder)
            world.turn(0.1)
        assert took_over

    asyncio.run(late())


@pytest.mark.parametrize("kind", ["switchover", "failover"])
@pytest.mark.parametrize("pause_seconds", [0.05, 0.5, 1.0, 1.7])
def test_a_handover_waits_for_what_was_promised(kind: str, pause_seconds: float) -> None:
    """The source's processor is stopped for a while, in the middle of its promise, and never asks."""

    async def check() -> None:
        world = World(NAMES)
        await healthy(world, 2.0)
        source = next(region for region in world.regions if region.acts())
        number = world.regions.index(source)
        await operate(world, kind, (number + 1) % 3)
        stopped_until = world.clock.boottime() + pause_seconds
        for _ in range(300):
            for other in range(3):
                if other == number and world.clock.boottime() < stopped_until:
                    await world.look(source)
                    await cycle(world, number)
                    await source.election.renew()
                else:
                    await usual(world, other)
                world.check()
            world.turn(0.02)
        assert world.regions[(number + 1) % 3].acts()

    asyncio.run(check())


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(STEP, max_size=60))
def test_when_all_is_well_again_exactly_one_acts(steps: list[tuple[str, float]]) -> None:
    """After any history: heal, resume, and within a bound somebody serves and no operation is left open."""

    async def check() -> None:
        world = await run(steps)
        for region in world.regions:
            region.link.cut, region.link.lose = False, 0
            region.data = with_health(region.data, None, None)
        await resume(world)
        await healthy(world, 45.0)
        assert sum(region.acts() for region in world.regions) == 1
        assert await world.store.get(OPERATION_OPEN) is None

    asyncio.run(check())


def test_what_must_happen_does_happen() -> None:
    """The model would prove nothing if nobody ever led, was killed, or handed over in it."""

    async def check() -> None:
        world = World(NAMES)
        await healthy(world, 3.0)
        first = next(region for region in world.regions if region.acts())
        first.link.cut = True
        await healthy(world, 6.0)
        second = next(region for region in world.regions if region.acts())
        assert second is not first
        first.link.cut = False
        await healthy(world, 1.0)
        await operate(world, "switchover", world.regions.index(first))
        await healthy(world, 3.0)
        assert first.acts() and not second.acts()
        assert len(world.holders) == 3

    asyncio.run(check())
