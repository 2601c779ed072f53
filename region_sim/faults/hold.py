"""No fault at all: an operator says that nothing may move by itself, and later that it may again."""

from __future__ import annotations

import asyncio

from region_sim.faults.base import Scene

SECONDS_MAX = 60.0
HELD_SECONDS = "3600"
"""Longer than any drill: `resume` ends it."""


class HoldPlay:
    """`meridian pause`, healed by `meridian resume`. It is for all regions, whatever its target."""

    region_lost = False

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._said: dict[str, object] = {}
        self._resumed: dict[str, object] = {}

    async def inject(self) -> str:
        """See FaultPlay."""
        self._said = await self._operator(["pause", "--for", HELD_SECONDS])
        return f"pause by an operator: {self._said}"

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        return None if self._said else "the pause was not carried out"

    async def heal(self) -> None:
        """See FaultPlay."""
        self._resumed = await self._operator(["resume"])

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        return None if self._resumed else "the pause was not ended"

    async def _operator(self, verb: list[str]) -> dict[str, object]:
        return await asyncio.to_thread(self._scene.backend.operator, [*verb, "--reason", "drill"], SECONDS_MAX)
