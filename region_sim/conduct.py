"""The course of a drill: load, fault, takeover, heal, quiet, evidence. Writes a history and judges nothing."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
import msgspec

from region_sim.asking import Asking
from region_sim.backends.process import ProcessBackend
from region_sim.collect import Collector
from region_sim.errors import DrillBroken
from region_sim.evidence import DrillPlan, FaultSeen
from region_sim.faults.base import FaultPlay, Scene, wait_until_none
from region_sim.faults.plays import play_of
from region_sim.history import HistoryWriter
from region_sim.load.bare import BareApp
from region_sim.load.base import App
from region_sim.load.library import LibraryApp
from region_sim.load.open_loop import OpenLoop
from region_sim.load.script import Script
from region_sim.spec import Drill, Switchover
from services.common.clock import Clock
from services.common.deployment import Deployment

CONDUCTOR = "conductor"
NEMESIS = "nemesis"
INJECT_SECONDS_MAX = 10.0
POLL_SECONDS = 0.05
STATUS_SECONDS = 0.5
SETTLE_APPS_SECONDS = 20.0
RECEIPTS_SECONDS_MAX = 20.0


@dataclass(frozen=True, slots=True)
class Struck:
    """The fault that was chosen, and what was known of its target before."""

    play: FaultPlay
    target: str
    was_active: bool
    incarnation: str


class Conductor:
    """One drill on one running deployment."""

    def __init__(
        self, drill: Drill, seed: int, run: str, deployment: Deployment, history: HistoryWriter, clock: Clock
    ) -> None:
        self._drill = drill
        self._seed = seed
        self._deployment = deployment
        self._history = history
        self._clock = clock
        self._backend = ProcessBackend(deployment)
        self._script = Script(seed, drill.load, run)
        self._regions = [site.name for site in deployment.regions]
        self._began = clock.monotonic()

    async def run(self) -> None:
        """Carry the drill out. Raises DrillBroken when it could not be."""
        plan = DrillPlan(
            drill=self._drill.name,
            backend="process",
            seed=self._seed,
            kind=type(self._drill.fault).__name__.lower(),
            regions=self._regions,
            parameters=msgspec.Raw(msgspec.json.encode(self._drill)),
        )
        self._history.add("info", "plan", CONDUCTOR, evidence=plan)
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            asking = Asking(session, self._deployment)
            collector = Collector(asking, self._history, self._clock)
            apps = self._apps()
            for app in apps:
                await stack.enter_async_context(app)
            await self._begin(asking, apps)
            load = self._load(apps)
            await self._sleep("warm-up", self._drill.phases.warm_up_seconds)
            await self._sleep("steady", self._drill.phases.steady_seconds)
            struck = await self._strike(asking)
            await self._hold(struck)
            await self._look_before_heal(collector, struck)
            await self._heal(asking, struck)
            await self._sleep("after", self._drill.phases.after_seconds)
            self._phase("load stops")
            await load.stop()
            for app in apps:
                await app.settle(SETTLE_APPS_SECONDS)
            await self._settle(collector)
            await collector.logs()
            await collector.receipts(RECEIPTS_SECONDS_MAX)

    def _apps(self) -> list[LibraryApp | BareApp]:
        """For each region, one app with the library that begins there, and one bare client pinned to it."""
        load, history, clock = self._drill.load, self._history, self._clock
        urls = {site.name: site.url("gateway") for site in self._deployment.regions}
        apps: list[LibraryApp | BareApp] = []
        for region in self._regions:
            others = [urls[other] for other in self._regions if other != region]
            apps.append(LibraryApp(f"library-{region}", [urls[region], *others], load, history, clock))
            apps.append(BareApp(f"bare-{region}", urls[region], load, history, clock))
        return apps

    async def _begin(self, asking: Asking, apps: list[LibraryApp | BareApp]) -> None:
        """Wait until a region serves, publish the catalogue, and wait until it is found."""
        limit = self._drill.phases.begin_seconds_max
        problem = await wait_until_none(self._clock, asking.not_serving, limit, STATUS_SECONDS)
        if problem is not None:
            raise DrillBroken(f"the drill cannot begin: {problem}")
        first = next(app for app in apps if isinstance(app, LibraryApp))
        await first.publish_items(self._script.catalogue())

        async def unanswered() -> str | None:
            await first.search(self._script.search("preload", self._history.written))
            return None if self._history.answers else "no search is answered"

        problem = await wait_until_none(self._clock, unanswered, limit, STATUS_SECONDS)
        if problem is not None:
            raise DrillBroken(f"the drill cannot begin: {problem}")

    def _load(self, apps: list[LibraryApp | BareApp]) -> OpenLoop:
        load = self._drill.load
        loop = OpenLoop(self._history, self._clock, load.calls_in_flight_max)
        for app in apps:
            share = (load.bare_share if isinstance(app, BareApp) else 1 - load.bare_share) / len(self._regions)
            calls_per_second = load.events_per_second / load.events_per_call * share
            app_of_load: App = app
            loop.start(app_of_load, self._script, load.searches_per_second * share, calls_per_second)
        return loop

    async def _strike(self, asking: Asking) -> Struck:
        """Choose the target, break it, and see that it is broken."""
        leader = await asking.leader()
        etcd_leader = await asking.etcd_leader()
        active = "" if leader is None else leader.region
        target = self._target(active, etcd_leader)
        incarnation = await asking.incarnation(target) if target in self._regions else ""
        scene = Scene(self._backend, self._clock, target, self._regions)
        play = play_of(scene, self._drill.fault, etcd_leader, incarnation)
        struck = Struck(play, target, target == active, incarnation)
        self._phase("fault")
        began = self._history.add("invoke", "fault", NEMESIS, region=target, note=self._drill.fault.target)
        details = await struck.play.inject()
        struck_ms = self._clock.unix_ms()
        problem = await wait_until_none(self._clock, struck.play.not_injected, INJECT_SECONDS_MAX, POLL_SECONDS)
        seen = FaultSeen(
            kind=type(self._drill.fault).__name__.lower(),
            target=target,
            was_active=struck.was_active,
            region_lost=struck.play.region_lost,
            incarnation=incarnation,
            verified=problem is None,
            details=details,
            struck_ms=struck_ms,
        )
        self._history.add(
            "ok" if problem is None else "fail",
            "fault",
            NEMESIS,
            call=began.index,
            region=target,
            error=problem or "",
            evidence=seen,
        )
        return struck

    def _target(self, active: str, etcd_leader: str) -> str:
        wanted = self._drill.fault.target
        if wanted == "active":
            found = active
        elif wanted == "passive":
            found = next((region for region in self._regions if region != active), "")
        elif wanted == "etcd-leader":
            found = etcd_leader
        else:
            found = wanted
        if not found:
            raise DrillBroken(f"nobody says which site is {wanted}: nothing was broken")
        return found

    async def _hold(self, struck: Struck) -> None:
        """Leave it broken: until somebody else answers where that is due, and for the drill's time."""
        began = self._clock.monotonic()
        if struck.was_active and (struck.play.region_lost or isinstance(self._drill.fault, Switchover)):
            before = {region: count for region, count in self._history.answers.items() if region != struck.target}

            async def nobody_else() -> str | None:
                now = {region: count for region, count in self._history.answers.items() if region != struck.target}
                return None if now != before else "no other region answers"

            limit = self._drill.phases.takeover_seconds_max
            problem = await wait_until_none(self._clock, nobody_else, limit, POLL_SECONDS)
            self._history.add("ok" if problem is None else "fail", "takeover", CONDUCTOR, error=problem or "")
        await self._clock.sleep(max(began + self._drill.phases.fault_seconds - self._clock.monotonic(), 0))

    async def _look_before_heal(self, collector: Collector, struck: Struck) -> None:
        if struck.play.region_lost and struck.incarnation:
            for site in self._deployment.regions:
                if site.name != struck.target:
                    await collector.held_ends(site, struck.incarnation)

    async def _heal(self, asking: Asking, struck: Struck) -> None:
        self._phase("heal")
        began = self._history.add("invoke", "heal", NEMESIS, region=struck.target)
        await struck.play.heal()

        async def not_healed() -> str | None:
            return (
                await struck.play.not_healed()
                or await asyncio.to_thread(self._backend.sites_ready)
                or await asking.not_serving()
                or await asking.not_caught_up()
            )

        problem = await wait_until_none(self._clock, not_healed, self._drill.phases.heal_seconds_max, STATUS_SECONDS)
        self._history.add(
            "ok" if problem is None else "fail",
            "heal",
            NEMESIS,
            call=began.index,
            region=struck.target,
            error=problem or "",
        )

    async def _settle(self, collector: Collector) -> None:
        """Without load: one frontier, and the receipts of what came back are closed."""
        began = self._history.add("invoke", "settle", CONDUCTOR)
        problem = await collector.settled_states(self._drill.phases.settle_seconds_max)
        self._history.add(
            "ok" if problem is None else "fail", "settle", CONDUCTOR, call=began.index, error=problem or ""
        )

    async def _sleep(self, phase: str, seconds: float) -> None:
        self._phase(phase)
        await self._clock.sleep(seconds)

    def _phase(self, name: str) -> None:
        """Begin a phase: a line in the history, and one for whoever watches."""
        self._history.add("info", "phase", CONDUCTOR, note=name)
        self._history.flush()
        answers = len(self._history.answers)
        print(f"{self._clock.monotonic() - self._began:6.1f} s  {name}, {answers} answers so far", flush=True)
