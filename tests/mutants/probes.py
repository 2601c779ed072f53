"""For each mutant, the smallest question to which the shipped code and the mutant give different answers.

A patch can apply and change nothing, when what it touches is no longer what decides. `python -m tests.mutants.probes`
with names prints the answers of the tree that it is run in; the test beside this file asks the tree as it is and a
planted copy.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from services.client.epochs import EpochFloor
from services.common.region_settings import RegionSettings
from services.controller.blockers import right_to_act
from services.controller.client import NO_EPOCH, Term
from services.controller.model import Now
from services.coordination import MemoryStore
from services.coordination.lives import open_life
from services.processor.gate import LeasedGate
from services.processor.terms import TermKeeper
from services.receipts.core import missing_ranges
from services.region import life as region_life
from services.region import premises
from services.replicator.flow import Flow
from services.replicator.positions import CopyState
from streams.asks import Epoch
from tests.support.election_model import Region, World
from tests.support.turned_clock import TurnedClock


async def _working() -> tuple[World, Region]:
    """A world that has worked for 3 s, and the region that leads in it."""
    world = World(("east", "west"))
    for _ in range(30):
        for region in world.regions:
            await world.look(region)
            await region.cycle()
            region.ask_lease()
            region.look_at_gate()
            await region.election.renew()
        world.turn(0.1)
    return world, next(region for region in world.regions if region.acts())


async def deadline_from_reply() -> object:
    """How much later than its question a keep-alive's answer may come without making a term longer."""
    world, holder = await _working()
    asked_at = world.clock.boottime()
    holder.link.late_seconds = 1.5
    await holder.election.renew()
    held = holder.election.held
    offset = holder.clock.boottime() - world.clock.boottime()
    return None if held is None else round(held.deadline - offset - asked_at, 3)


async def wall_clock() -> object:
    """Whether a term goes on when the wall clock was set back by a minute."""
    _, holder = await _working()
    holder.clock.step_wall(-60.0)
    return holder.election.held is not None


async def lock_by_name() -> object:
    """What a controller that was started again does about the key of the one before it."""
    world, holder = await _working()
    holder.restart()
    await world.look(holder)
    return (await holder.cycle()).sentence.partition(":")[0]


async def no_self_fence() -> object:
    """Whether a region may act that has not reached the store for longer than its lease."""
    _, holder = await _working()
    holder.clock.turn(20.0)
    view = holder.view()
    return right_to_act(view, Now(holder.clock.boottime(), holder.clock.unix_ms())) is None


async def no_sink_fence() -> object:
    """Whether an answer is accepted under an epoch that lies behind."""
    floor = EpochFloor()
    floor.accept((0, 2))
    return floor.accept((0, 1))


async def replicator_skips_gap() -> object:
    """Whether a copy goes on after a record that was not acknowledged."""
    flow = Flow(("east-1.events", 0), CopyState(), source="east", from_origin=True)
    for offset in range(2):
        sent = flow.take(offset, 0, [], 7)
        assert sent is not None
        flow.sent(sent, 1)
    flow.delivered("timed out", -1)
    flow.delivered(None, 0)
    return flow.ended is None, flow.state.next_offset


async def no_same_life_check() -> object:
    """How many cuts are found in a log that ends at 80 and was acknowledged up to 100."""

    async def ask_peers(*_: object) -> dict[str, dict[str, dict[int, int]]]:
        return {"west": {"east-1.events": {0: 100}}}

    found: Any = region_life
    found.ask_peers = ask_peers
    premises.log_ends = lambda *_: {"east-1.events": {0: 80}}
    store, clock = MemoryStore(), TurnedClock()
    life = await open_life(store, "east", "cluster", 1)
    with tempfile.TemporaryDirectory() as directory:
        region = RegionSettings(name="east", data_dir=Path(directory))
        return len(await region_life.find_cuts(premises.SitePremises(region), store, life, clock))


async def fold_counts_duplicate() -> object:
    """How many events are counted of one that came twice."""
    from streams.fold import Fold
    from streams.kinds import Kind
    from streams.state import Parameters, State
    from tests.support.streams_of_events import LOG, START_MS, frame_of, row

    fold = Fold(State(Parameters()))
    said = frame_of([row(Kind.VIEW, START_MS, user=1, item="a")])
    for offset in range(2):
        fold.apply(said, LOG, 0, offset, offset, 0)
    return fold.state.tally.events


async def fold_depends_on_order() -> object:
    """Whether two orders of two events give one state."""
    from streams.digest import digest
    from streams.fold import Fold
    from streams.kinds import Kind
    from streams.state import Parameters, State
    from tests.support.streams_of_events import LOG, START_MS, frame_of, row

    view = row(Kind.VIEW, START_MS, user=1, item="a")
    click = row(Kind.CLICK, START_MS + 1, user=1, item="a", query="lamp")
    found = set()
    for order in ([view, click], [click, view]):
        fold = Fold(State(Parameters()))
        fold.apply(frame_of(order), LOG, 0, 0, 7, 0)
        found.add(digest(fold.state))
    return len(found)


async def receipt_omits_range() -> object:
    """How many ranges are missing where two partitions lack something."""
    return len(missing_ranges("east-1.events", {0: 5, 1: 5}, {0: 9, 1: 9}, {}))


class _Lease:
    """A lease that holds, and markers that are counted."""

    def __init__(self) -> None:
        self.written = 0

    def term(self) -> Term:
        return Term(active=True, epoch=(0, 7), deadline=1e9, reason="")

    async def write(self, epoch: Epoch) -> None:
        self.written += 1


async def promotion_without_marker() -> object:
    """How often markers were written by the time that the gate is open."""
    lease, clock = _Lease(), TurnedClock()
    gate = LeasedGate(lease.term, lambda: NO_EPOCH, clock)
    keeper = TermKeeper(gate, lease, lease, asyncio.Event(), clock)
    task = asyncio.create_task(keeper.run())
    async with asyncio.timeout(5):
        while not gate.is_open:  # noqa: ASYNC110 - a few turns of the loop
            await asyncio.sleep(0)
    task.cancel()
    return lease.written


PROBES: Final[dict[str, Callable[[], Awaitable[object]]]] = {
    probe.__name__.replace("_", "-"): probe
    for probe in (
        deadline_from_reply,
        wall_clock,
        lock_by_name,
        no_self_fence,
        no_sink_fence,
        replicator_skips_gap,
        no_same_life_check,
        fold_counts_duplicate,
        fold_depends_on_order,
        receipt_omits_range,
        promotion_without_marker,
    )
}


async def answers(names: list[str]) -> dict[str, str]:
    """The answers of this tree."""
    return {name: repr(await PROBES[name]()) for name in names}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(answers(sys.argv[1:]))))
