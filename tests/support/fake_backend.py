"""A world that keeps the contract of `Backend` and holds nothing: two regions, one active, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from region_sim.backends.base import BackendName
from region_sim.errors import DrillBroken
from region_sim.evidence import ControlTimes, HeldEnds, PredictionsSeen
from region_sim.faults.base import FaultPlay
from region_sim.history import HistoryWriter
from region_sim.load.script import Script
from region_sim.memory.clocks import MachineClock
from region_sim.memory.kernel import Kernel
from region_sim.spec import Drill, Fault, Kill, Switchover, kind_of

TAKEOVER_SECONDS = 3.0
READY_SECONDS = 4.0
SEARCH_SECONDS = 0.1


class FakePlay:
    """A fault that takes its site away, if it takes a whole one."""

    def __init__(self, world: FakeBackend, fault: Fault, target: str) -> None:
        self._world, self._fault, self.target = world, fault, target
        self.region_lost = isinstance(fault, Kill) and not fault.processes and target in world.regions

    async def inject(self) -> str:
        """See FaultPlay."""
        self._world.did.append(f"inject {kind_of(self._fault)} {self.target}")
        if self._world.inject_fails:
            raise DrillBroken("nothing runs that could be broken")
        if self.region_lost:
            self._world.lose(self.target)
        elif isinstance(self._fault, Switchover):
            self._world.active_now = next(region for region in self._world.regions if region != self.target)
        return "broken"

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        return "it lives on" if self._world.is_immune else None

    async def heal(self) -> None:
        """See FaultPlay."""
        self._world.did.append(f"heal {kind_of(self._fault)} {self.target}")
        if self.target in self._world.lost:
            self._world.lost.discard(self.target)
            self._world.ready_at = self._world.clock.monotonic() + READY_SECONDS

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        return None


class FakeBackend:
    """See Backend."""

    name: BackendName = "memory"

    def __init__(self, kernel: Kernel) -> None:
        self.clock = MachineClock(kernel)
        self.active_now = "east"
        self.lost: set[str] = set()
        self.ready_at = 0.0
        self.did: list[str] = []
        self.refuses: str | None = None
        self.inject_fails = False
        self.is_immune = False
        self.takes_over = True
        self.is_open = False
        self.absent = (0.0, 0.0)
        """From when to when nobody is active, in seconds since this world was made."""
        self._made_at = self.clock.monotonic()
        self._history: HistoryWriter | None = None
        self._load: asyncio.Task[None] | None = None
        self._takeover: asyncio.Task[None] | None = None

    regions: Sequence[str] = ("east", "west")
    sites: Sequence[str] = ("east", "west", "north")

    def lose(self, region: str) -> None:
        """The region is gone; the other one takes over after a while."""
        self.lost.add(region)
        if region == self.active_now and self.takes_over:
            self._takeover = asyncio.create_task(self._take_over(region))

    async def _take_over(self, region: str) -> None:
        await self.clock.sleep(TAKEOVER_SECONDS)
        self.active_now = next(other for other in self.regions if other != region)

    async def open(self, drill: Drill, script: Script, history: HistoryWriter) -> None:
        """See Backend."""
        self._history, self.is_open = history, True

    async def close(self) -> None:
        """See Backend."""
        self.is_open = False
        for task in (self._load, self._takeover):
            if task is not None:
                task.cancel()

    def times(self) -> ControlTimes | None:
        """See Backend."""
        return None

    async def preload(self, seconds_max: float) -> str | None:
        """See Backend."""
        return None

    def start_load(self) -> None:
        """See Backend."""
        self._load = asyncio.create_task(self._searches())

    async def _searches(self) -> None:
        assert self._history is not None
        while True:
            if self.active_now not in self.lost:
                self._history.add("ok", "search", "library-east", region=self.active_now, epoch=(0, 1))
            await self.clock.sleep(SEARCH_SECONDS)

    async def stop_load(self) -> None:
        """See Backend."""
        assert self._load is not None
        self._load.cancel()

    async def settle_load(self, seconds_max: float) -> None:
        """See Backend."""

    async def not_serving(self) -> str | None:
        """See Backend."""
        return None

    async def not_caught_up(self) -> str | None:
        """See Backend."""
        return None

    async def not_ready(self) -> str | None:
        """See Backend."""
        return None if self.clock.monotonic() >= self.ready_at else "a region starts"

    async def active(self) -> str:
        """See Backend."""
        since = self.clock.monotonic() - self._made_at
        return "" if self.absent[0] <= since < self.absent[1] else self.active_now

    async def etcd_leader(self) -> str:
        """See Backend."""
        return "north"

    async def incarnation(self, region: str) -> str:
        """See Backend."""
        return f"{region}-1"

    def refusal(self, fault: Fault) -> str | None:
        """See Backend."""
        return self.refuses

    def play(self, fault: Fault, target: str, etcd_leader: str, incarnation: str) -> FaultPlay:
        """See Backend."""
        return FakePlay(self, fault, target)

    async def collect_forecast(self, active: str) -> None:
        """See Backend."""
        self.did.append(f"forecast without {active}")

    async def collect_held_ends(self, region: str, incarnation: str) -> None:
        """See Backend."""
        self.did.append(f"held ends of {region}")
        assert self._history is not None
        piece = HeldEnds(region="west", log=f"{incarnation}.events", next_offsets={})
        self._history.add("info", "collect", "collector", region="west", evidence=piece)

    async def collect_predictions(self, when: Literal["before", "after"]) -> None:
        """See Backend."""
        self.did.append(f"predictions {when}")
        assert self._history is not None
        piece = PredictionsSeen(region="west", when=when, model="ranker/1", predictions=[])
        self._history.add("info", "collect", "collector", region="west", evidence=piece)

    async def collect_states(self, seconds_max: float) -> str | None:
        """See Backend."""
        self.did.append("states")
        return None

    async def collect_all(self) -> None:
        """See Backend."""
        self.did.append("all")
