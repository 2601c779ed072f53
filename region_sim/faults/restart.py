"""No fault at all: an operator ends a site in order, as for an upgrade, and starts it again.

Its processes are asked to end, dependents first, and have time to: what was acknowledged is on the disk, the lease is
let go once nobody may act under it. For the others the site is away all the same.
"""

from __future__ import annotations

import asyncio

from region_sim.errors import DrillBroken
from region_sim.faults.base import Scene
from region_sim.faults.kill import START_SECONDS_MAX
from services.region.run_file import ProcessIdentity


class RestartPlay:
    """`meridian down --site`, healed by `meridian up --site`."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._ended: list[ProcessIdentity] = []
        self.region_lost = scene.target in scene.regions

    async def inject(self) -> str:
        """See FaultPlay."""
        target, clock = self._scene.target, self._scene.clock
        running = self._scene.backend.processes(target, [])
        if not running:
            raise DrillBroken(f"nothing of {target} runs that could be ended")
        self._ended = running
        began = clock.monotonic()
        # It takes seconds, and blocks: the load must go on meanwhile.
        await asyncio.to_thread(self._scene.backend.stop, target)
        return f"{target} ended in order: {len(running)} processes, {clock.monotonic() - began:.1f} s"

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        alive = self._scene.backend.alive(self._ended)
        return f"{alive} processes of {self._scene.target} live on" if alive or not self._ended else None

    async def heal(self) -> None:
        """See FaultPlay."""
        await asyncio.to_thread(self._scene.backend.start, self._scene.target, START_SECONDS_MAX)

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        running = self._scene.backend.processes(self._scene.target, [])
        return None if running else f"{self._scene.target} does not run yet"
