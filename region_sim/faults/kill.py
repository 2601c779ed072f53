"""SIGKILL: to a whole site, supervisor included, or to single processes of it, once or each time they are back."""

from __future__ import annotations

import asyncio
import contextlib
from signal import SIGKILL

from region_sim.errors import DrillBroken
from region_sim.faults.base import Scene, wait_until_none
from region_sim.spec import Kill
from services.region.run_file import ProcessIdentity

START_SECONDS_MAX = 180.0
BACK_SECONDS_MAX = 60.0
POLL_SECONDS = 0.1


class KillPlay:
    """Kill, and start the site again; single processes are started by their supervisor."""

    def __init__(self, scene: Scene, fault: Kill, etcd_leader: str) -> None:
        self._scene = scene
        self._fault = fault
        self._etcd_leader = etcd_leader
        self._killed: list[ProcessIdentity] = []
        self._kills = 0
        self._loop: asyncio.Task[None] | None = None
        self.region_lost = not fault.processes and scene.target in scene.regions

    async def inject(self) -> str:
        """See FaultPlay."""
        target = self._scene.target
        victims = self._scene.backend.processes(target, self._fault.processes)
        if not victims:
            raise DrillBroken(f"nothing of {target} runs that could be killed: {self._fault.processes or 'all of it'}")
        if self._fault.also_etcd_leader and self._etcd_leader != target:
            victims += self._scene.backend.processes(self._etcd_leader, ["etcd"])
        await self._kill(victims)
        also = f", and etcd of {self._etcd_leader}" if self._fault.also_etcd_leader else ""
        said = f"SIGKILL to {len(victims)} processes of {target}{also}"
        if self._fault.times == 1:
            return said
        self._loop = asyncio.create_task(self._again_and_again())
        return f"{said}; {self._fault.times} times in all, {self._fault.every_seconds:g} s after each return"

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        alive = self._scene.backend.alive(self._killed)
        return f"{alive} processes of {self._scene.target} live on" if alive else None

    async def heal(self) -> None:
        """A crash loop that was given a time ends here, one without is waited for: it is killed as often as was said.

        Raises DrillBroken when what was killed never came back.
        """
        if self._loop is not None:
            await self._end_loop(self._loop)
        if not self._fault.processes:
            await asyncio.to_thread(self._scene.backend.start, self._scene.target, START_SECONDS_MAX)

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        running = self._scene.backend.processes(self._scene.target, self._fault.processes)
        return None if running else f"{self._scene.target} does not run yet"

    async def _kill(self, victims: list[ProcessIdentity]) -> None:
        self._killed = victims
        self._kills += 1
        if self._fault.processes:
            self._scene.backend.signal(victims, SIGKILL)
        else:
            await asyncio.to_thread(self._scene.backend.kill_site, self._scene.target, victims)

    async def _again_and_again(self) -> None:
        while self._kills < self._fault.times:
            problem = await wait_until_none(self._scene.clock, self._not_back, BACK_SECONDS_MAX, POLL_SECONDS)
            if problem is not None:
                raise DrillBroken(problem)
            await self._scene.clock.sleep(self._fault.every_seconds)
            await self._kill(self._scene.backend.processes(self._scene.target, self._fault.processes))

    async def _not_back(self) -> str | None:
        if self._scene.backend.processes(self._scene.target, self._fault.processes):
            return None
        names = ", ".join(self._fault.processes)
        return f"{names} of {self._scene.target} did not come back after kill {self._kills} of {self._fault.times}"

    async def _end_loop(self, loop: asyncio.Task[None]) -> None:
        if self._fault.for_seconds is not None:
            loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop
        if self._kills == 1:
            raise DrillBroken(f"{self._scene.target}: healed before the second of {self._fault.times} kills")
