"""No fault at all: an operator moves the activity to another region, through the command that operators have.

A region that has just come back cannot take over yet, and says so. The operator waits, as that answer tells, and asks
again; a region that never can is a switchover that was not carried out.
"""

from __future__ import annotations

import asyncio

from region_sim.errors import DrillBroken
from region_sim.faults.base import Scene
from region_sim.spec import Switchover

SECONDS_MAX = 60.0
WAIT_SECONDS_MAX = 60.0
ASK_AGAIN_SECONDS = 1.0
NOT_YET = "cannot take over"
"""What the controllers answer while the region is not ready, and nothing was begun."""


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
        deadline = self._scene.clock.monotonic() + WAIT_SECONDS_MAX
        while True:
            try:
                self._answer = await asyncio.to_thread(self._scene.backend.operator, arguments, SECONDS_MAX)
                break
            except DrillBroken as error:
                if NOT_YET not in str(error) or self._scene.clock.monotonic() >= deadline:
                    raise
            await self._scene.clock.sleep(ASK_AGAIN_SECONDS)
        return f"switchover from {self._scene.target} to {self._to}: {self._answer}"

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        return None if self._answer else "the switchover was not carried out"

    async def heal(self) -> None:
        """Nothing."""

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        return None
