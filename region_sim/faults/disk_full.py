"""Nothing more can be written to a site's directory: its own small disk is filled to the last byte."""

from __future__ import annotations

import asyncio

from region_sim.faults.base import Scene
from region_sim.faults.small_disk import empty, fill, is_small_disk, room

START_SECONDS_MAX = 180.0


class DiskFullPlay:
    """Fill the site's disk, and make room again. What ended for want of room is started as an operator would."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._place = scene.backend.deployment.site_dir(scene.target)
        self._filled = 0
        self.region_lost = scene.target in scene.regions

    async def inject(self) -> str:
        """See FaultPlay."""
        self._filled = await asyncio.to_thread(fill, self._place)
        return f"{self._filled >> 20} MiB written to the disk of {self._scene.target}, which is full"

    async def not_injected(self) -> str | None:
        """Room that the site itself made meanwhile is filled as well."""
        left = await asyncio.to_thread(room, self._place)
        if left:
            self._filled += await asyncio.to_thread(fill, self._place)
        return f"{left} bytes can still be written to the disk of {self._scene.target}" if left else None

    async def heal(self) -> None:
        """See FaultPlay."""
        if not is_small_disk(self._place):
            return
        await asyncio.to_thread(empty, self._place)
        if self._scene.backend.supervisor(self._scene.target) is None:
            await asyncio.to_thread(self._scene.backend.start, self._scene.target, START_SECONDS_MAX)

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        left = await asyncio.to_thread(room, self._place)
        return None if left else f"the disk of {self._scene.target} is still full"
