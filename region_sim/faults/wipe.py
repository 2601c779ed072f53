"""All data of a site is gone: its processes are killed and its directory is deleted."""

from __future__ import annotations

import asyncio

from region_sim.faults.base import Scene
from region_sim.faults.kill import KillPlay
from region_sim.faults.small_disk import is_small_disk
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
        return f"{done}; {self._scene.target}'s directory deleted"

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        directory = self._scene.backend.deployment.site_dir(self._scene.target)
        if (problem := await super().not_injected()) is not None or not directory.exists():
            return problem
        emptied = is_small_disk(directory) and not any(directory.iterdir())
        return None if emptied else f"{directory.name} is still there"
