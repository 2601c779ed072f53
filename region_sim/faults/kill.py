"""SIGKILL: to a whole site, supervisor included, or to single processes of it."""

from __future__ import annotations

import asyncio
from signal import SIGKILL

from region_sim.errors import DrillBroken
from region_sim.faults.base import Scene
from region_sim.spec import Kill
from services.region.run_file import ProcessIdentity

START_SECONDS_MAX = 180.0


class KillPlay:
    """Kill, and start the site again; single processes are started by their supervisor."""

    def __init__(self, scene: Scene, fault: Kill, etcd_leader: str) -> None:
        self._scene = scene
        self._fault = fault
        self._etcd_leader = etcd_leader
        self._killed: list[ProcessIdentity] = []
        self.region_lost = not fault.processes and scene.target in scene.regions

    async def inject(self) -> str:
        """See FaultPlay."""
        backend, target = self._scene.backend, self._scene.target
        victims = backend.processes(target, self._fault.processes)
        if not victims:
            raise DrillBroken(f"nothing of {target} runs that could be killed: {self._fault.processes or 'all of it'}")
        if self._fault.also_etcd_leader and self._etcd_leader != target:
            victims += backend.processes(self._etcd_leader, ["etcd"])
        self._killed = victims
        backend.signal(victims, SIGKILL)
        also = f", and etcd of {self._etcd_leader}" if self._fault.also_etcd_leader else ""
        return f"SIGKILL to {len(victims)} processes of {target}{also}"

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        alive = self._scene.backend.alive(self._killed)
        return f"{alive} processes of {self._scene.target} live on" if alive else None

    async def heal(self) -> None:
        """See FaultPlay."""
        if not self._fault.processes:
            await asyncio.to_thread(self._scene.backend.start, self._scene.target, START_SECONDS_MAX)

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        running = self._scene.backend.processes(self._scene.target, self._fault.processes)
        return None if running else f"{self._scene.target} does not run yet"
