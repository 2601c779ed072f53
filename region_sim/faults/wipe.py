"""All data of a site is gone: its processes are killed and its directory is deleted."""

from __future__ import annotations

import asyncio

from region_sim.faults.base import Scene
from region_sim.faults.kill import KillPlay
from region_sim.spec import Kill


class WipePlay(KillPlay):
    """Kill, delete, and start the site again on nothing."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene, Kill(target=scene.target), "")

    async def inject(self) -> str:
        """See FaultPlay."""
        done = await super().inject()
        # Deleting takes long and blocks: the load must go on meanwhile.
        await asyncio.to_thread(self._scene.backend.wipe, self._scene.target)
        return f"{done}; all files of {self._scene.target} deleted"

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        problem = await super().not_injected()
        return problem or await asyncio.to_thread(self._scene.backend.not_wiped, self._scene.target)
