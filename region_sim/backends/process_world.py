"""The process backend as the conductor sees it: clients, questions, evidence, and plays on a running deployment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import aiohttp

from region_sim.asking import Asking
from region_sim.backends.base import BackendName
from region_sim.backends.hands import Hands
from region_sim.backends.process import ProcessBackend
from region_sim.backends.process_times import control_times
from region_sim.collect import Collector
from region_sim.evidence import ControlTimes
from region_sim.faults.base import FaultPlay, Scene
from region_sim.faults.plays import play_of
from region_sim.faults.refusals import on_processes
from region_sim.history import HistoryWriter
from region_sim.load.replayed import ReplayedLoad
from region_sim.load.script import Script
from region_sim.load.synthetic import SyntheticLoad
from region_sim.spec import Drill, Fault
from region_sim.terms import TermWatch, Watching
from services.common.clock import Clock
from services.common.deployment import Deployment
from services.coordination.etcd import EtcdGatewayStore

RECEIPTS_SECONDS_MAX = 20.0


class Traffic(Protocol):
    """A load, whatever it is made of."""

    async def preload(self, seconds_max: float) -> str | None:
        """Publish what must be there; why it is not, or None."""

    def start(self) -> None:
        """Begin."""

    async def stop(self) -> None:
        """Make no more calls; return when each has its answer or has been given up."""

    async def settle(self, seconds_max: float) -> None:
        """Find out what became of what nobody answered."""


@dataclass(slots=True)
class _Opened:
    """What `open` made."""

    asking: Asking
    collector: Collector
    terms: TermWatch
    load: Traffic


class ProcessWorld:
    """See Backend. The same for whoever runs the processes: only its hands differ."""

    def __init__(
        self,
        deployment: Deployment,
        clock: Clock,
        results: Path,
        say: Callable[[str], None] = lambda _: None,
        *,
        name: BackendName = "process",
        hands: Hands | None = None,
        refusal: Callable[[Fault], str | None] = on_processes,
    ) -> None:
        """`results`: the run's directory, for a load that leaves files; `say` hears how far that is."""
        self.name: BackendName = name
        self.clock = clock
        self._refusal = refusal
        self._results = results
        self._say = say
        self._deployment = deployment
        self._hands: Hands = hands or ProcessBackend(deployment)
        self._stack = AsyncExitStack()
        self._open: _Opened | None = None

    @property
    def regions(self) -> Sequence[str]:
        """See Backend."""
        return [site.name for site in self._deployment.regions]

    @property
    def sites(self) -> Sequence[str]:
        """See Backend."""
        return [site.name for site in self._deployment.sites]

    async def open(self, drill: Drill, script: Script, history: HistoryWriter) -> None:
        """See Backend."""
        session = await self._stack.enter_async_context(aiohttp.ClientSession())
        store = EtcdGatewayStore(self._deployment.etcd_endpoints)
        self._stack.push_async_callback(store.close)
        terms = await self._stack.enter_async_context(Watching(TermWatch(store, self.clock)))
        asking = Asking(session, self._deployment)
        collector = Collector(asking, history, self.clock)
        load = self._traffic(drill, script, history)
        await self._stack.enter_async_context(load)
        self._open = _Opened(asking, collector, terms, load)

    def _traffic(self, drill: Drill, script: Script, history: HistoryWriter) -> SyntheticLoad | ReplayedLoad:
        gateways = {site.name: site.url("gateway") for site in self._deployment.regions}
        if drill.load.source == "synthetic":
            return SyntheticLoad(gateways, drill.load, script, history, self.clock)
        controls = [site.url("control") for site in self._deployment.regions]
        return ReplayedLoad(
            list(gateways.values()), controls, drill.load, history, self.clock, self._results, self._say
        )

    async def close(self) -> None:
        """See Backend."""
        self._open = None
        await self._stack.aclose()

    def times(self) -> ControlTimes | None:
        """See Backend."""
        return control_times(self._hands)

    async def preload(self, seconds_max: float) -> str | None:
        """See Backend."""
        return await self._opened.load.preload(seconds_max)

    def start_load(self) -> None:
        """See Backend."""
        self._opened.load.start()

    async def stop_load(self) -> None:
        """See Backend."""
        await self._opened.load.stop()

    async def settle_load(self, seconds_max: float) -> None:
        """See Backend."""
        await self._opened.load.settle(seconds_max)

    async def not_serving(self) -> str | None:
        """See Backend."""
        return await self._opened.asking.not_serving()

    async def not_caught_up(self) -> str | None:
        """See Backend."""
        return await self._opened.asking.not_caught_up()

    async def not_ready(self) -> str | None:
        """See Backend."""
        return await asyncio.to_thread(self._hands.sites_ready)

    async def active(self) -> str:
        """See Backend."""
        leader = await self._opened.asking.leader()
        return "" if leader is None else leader.region

    async def etcd_leader(self) -> str:
        """See Backend."""
        return await self._opened.asking.etcd_leader()

    async def incarnation(self, region: str) -> str:
        """See Backend."""
        return await self._opened.asking.incarnation(region)

    def refusal(self, fault: Fault) -> str | None:
        """See Backend."""
        return self._refusal(fault)

    def play(self, fault: Fault, target: str, etcd_leader: str, incarnation: str) -> FaultPlay:
        """See Backend."""
        scene = Scene(self._hands, self.clock, target, list(self.regions))
        return play_of(scene, fault, etcd_leader, incarnation)

    async def collect_forecast(self, active: str) -> None:
        """See Backend."""
        await self._opened.collector.forecast(active)

    async def collect_held_ends(self, region: str, incarnation: str) -> None:
        """See Backend."""
        for site in self._deployment.regions:
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
        opened = self._opened
        await opened.collector.logs()
        await opened.collector.receipts(RECEIPTS_SECONDS_MAX)
        await opened.collector.transitions()
        opened.collector.terms(opened.terms)

    @property
    def _opened(self) -> _Opened:
        if self._open is None:
            raise RuntimeError("the backend is not open")
        return self._open
