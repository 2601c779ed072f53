"""The memory backend as the conductor sees it: apps, questions, evidence and plays in a simulated world."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Literal

from region_sim.backends.base import BackendName
from region_sim.evidence import ControlTimes
from region_sim.faults.base import FaultPlay, wait_until_none
from region_sim.faults.refusals import in_memory
from region_sim.history import HistoryWriter
from region_sim.load.base import App
from region_sim.load.open_loop import OpenLoop
from region_sim.load.script import Script
from region_sim.memory.clients import MemoryBareApp, MemoryLibraryApp, outside_session
from region_sim.memory.collecting import MemoryAsking, MemoryCollector
from region_sim.memory.network import OUTSIDE
from region_sim.memory.plays import Hands, play_of
from region_sim.memory.world import World
from region_sim.spec import Drill, Fault
from region_sim.terms import TermWatch
from services.common.clock import Clock
from services.coordination.keys import LEADER

RECEIPTS_SECONDS_MAX = 40.0
STATUS_SECONDS = 0.5


@dataclass(slots=True)
class _Opened:
    """What `open` made."""

    drill: Drill
    script: Script
    history: HistoryWriter
    asking: MemoryAsking
    collector: MemoryCollector
    apps: list[MemoryLibraryApp | MemoryBareApp]
    load: OpenLoop
    hands: Hands


class MemoryBackend:
    """See Backend."""

    name: BackendName = "memory"

    def __init__(self, world: World) -> None:
        self.clock: Clock = world.clock
        self._world = world
        self._stack = AsyncExitStack()
        self._leader_key = world.etcd.observe(LEADER)
        self._open: _Opened | None = None

    @property
    def regions(self) -> Sequence[str]:
        """See Backend."""
        return self._world.regions

    @property
    def sites(self) -> Sequence[str]:
        """See Backend."""
        return self._world.site_names

    async def open(self, drill: Drill, script: Script, history: HistoryWriter) -> None:
        """See Backend."""
        world = self._world
        asking = MemoryAsking(outside_session(world), world.deployment, world)
        apps = self._apps(drill, history)
        for app in apps:
            await self._stack.enter_async_context(app)
        self._open = _Opened(
            drill=drill,
            script=script,
            history=history,
            asking=asking,
            collector=MemoryCollector(asking, history, world),
            apps=apps,
            load=OpenLoop(history, self.clock, drill.load.calls_in_flight_max),
            hands=Hands(world, script, history, drill.load, is_alone=len(drill.faults) == 1),
        )

    async def close(self) -> None:
        """See Backend."""
        self._open = None
        await self._stack.aclose()

    def times(self) -> ControlTimes | None:
        """See Backend."""
        return self._world.times()

    async def preload(self, seconds_max: float) -> str | None:
        """See Backend."""
        opened = self._opened
        first = next(app for app in opened.apps if isinstance(app, MemoryLibraryApp))
        await first.publish_items(opened.script.catalogue())

        async def unanswered() -> str | None:
            await first.search(opened.script.search("preload", opened.history.written))
            return None if opened.history.answers else "no search is answered"

        return await wait_until_none(self.clock, unanswered, seconds_max, STATUS_SECONDS)

    def start_load(self) -> None:
        """See Backend."""
        opened = self._opened
        load = opened.drill.load
        for app in opened.apps:
            share = (load.bare_share if isinstance(app, MemoryBareApp) else 1 - load.bare_share) / len(self.regions)
            calls_per_second = load.events_per_second / load.events_per_call * share
            app_of_load: App = app
            opened.load.start(app_of_load, opened.script, load.searches_per_second * share, calls_per_second)

    async def stop_load(self) -> None:
        """See Backend."""
        await self._opened.load.stop()

    async def settle_load(self, seconds_max: float) -> None:
        """See Backend."""
        for app in self._opened.apps:
            await app.settle(seconds_max)

    async def not_serving(self) -> str | None:
        """See Backend."""
        return await self._opened.asking.not_serving()

    async def not_caught_up(self) -> str | None:
        """See Backend."""
        return await self._opened.asking.not_caught_up()

    async def not_ready(self) -> str | None:
        """See Backend."""
        return next((why for site in self._world.sites.values() if (why := site.not_ready()) is not None), None)

    async def active(self) -> str:
        """See Backend."""
        leader = await self._opened.asking.leader()
        return "" if leader is None else leader.region

    async def etcd_leader(self) -> str:
        """See Backend."""
        return self._world.etcd.leader

    async def incarnation(self, region: str) -> str:
        """See Backend."""
        return self._world.sites[region].incarnation

    def refusal(self, fault: Fault) -> str | None:
        """See Backend. A world that is made of models can be broken in nearly every way that a drill can say."""
        return in_memory(fault)

    def play(self, fault: Fault, target: str, etcd_leader: str, incarnation: str) -> FaultPlay:
        """See Backend."""
        return play_of(self._opened.hands, fault, target, etcd_leader, incarnation)

    async def collect_forecast(self, active: str) -> None:
        """See Backend."""
        await self._opened.collector.forecast(active)

    async def collect_held_ends(self, region: str, incarnation: str) -> None:
        """See Backend."""
        for site in self._world.deployment.regions:
            if site.name != region:
                await self._opened.collector.held_ends(site, incarnation)

    async def collect_predictions(self, when: Literal["before", "after"]) -> None:
        """See Backend."""
        await self._opened.collector.predictions(when)

    async def collect_states(self, seconds_max: float) -> str | None:
        """See Backend."""
        return await self._opened.collector.settled_states(seconds_max)

    async def collect_all(self) -> None:
        """See Backend."""
        collector = self._opened.collector
        await collector.logs()
        await collector.receipts(RECEIPTS_SECONDS_MAX)
        await collector.transitions()
        collector.terms(self._terms())
        collector.counts(dict(sorted(self._world.counts.items())))

    def _terms(self) -> TermWatch:
        """All terms there were, with the times at which they began and ended for anybody who could see everything."""
        world = self._world
        watch = TermWatch(world.etcd.store(OUTSIDE), world.clock)
        now_ms = world.clock.unix_ms()
        for at, change in self._leader_key.seen:
            if change.key == LEADER:
                watch.note(change.now, now_ms - round(1000 * (world.kernel.time() - at)))
        return watch

    def _apps(self, drill: Drill, history: HistoryWriter) -> list[MemoryLibraryApp | MemoryBareApp]:
        """For each region, one app with the library that begins there, and one bare client pinned to it."""
        world = self._world
        urls = {region: world.url(region, "gateway") for region in world.regions}
        apps: list[MemoryLibraryApp | MemoryBareApp] = []
        for region in world.regions:
            others = [urls[other] for other in world.regions if other != region]
            apps.append(MemoryLibraryApp(f"library-{region}", [urls[region], *others], drill.load, history, world))
            apps.append(MemoryBareApp(f"bare-{region}", urls[region], drill.load, history, world))
        return apps

    @property
    def _opened(self) -> _Opened:
        if self._open is None:
            raise RuntimeError("the backend is not open")
        return self._open
