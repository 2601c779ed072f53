"""No fault at all: an operator moves the activity to another region, through the command that operators have."""

from __future__ import annotations

import asyncio

from region_sim.faults.base import Scene
from region_sim.spec import Switchover

SECONDS_MAX = 60.0


class SwitchoverPlay:
    """`meridian switchover`; there is nothing to heal."""

    region_lost = False

    def __init__(self, scene: Scene, fault: Switchover) -> None:
        self._scene = scene
        self._to = fault.to or next(region for region in scene.regions if region != scene.target)
        self._answer: dict[str, object] = {}

    async def inject(self) -> str:
        """See FaultPlay."""
        arguments = ["switchover", self._to, "--reason", "drill"]
        self._answer = await asyncio.to_thread(self._scene.backend.operator, arguments, SECONDS_MAX)
        return f"switchover from {self._scene.target} to {self._to}: {self._answer}"

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        return None if self._answer else "the switchover was not carried out"

    async def heal(self) -> None:
        """Nothing."""

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        return None
