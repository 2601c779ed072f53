"""A site's cable is pulled: its interface is gone, and everybody is told.

Its processes see sockets close and names that resolve no more, the others likewise; with dropped packets (see
`partition`) nobody sees anything but silence.
"""

from __future__ import annotations

import asyncio

from infra.runtime.network import NetworkError
from region_sim.faults.base import Scene


class DisconnectPlay:
    """Take a site off the network between sites, and join it again."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.region_lost = scene.target in scene.regions

    async def inject(self) -> str:
        """See FaultPlay."""
        await asyncio.to_thread(self._scene.backend.unplug, self._scene.target)
        return f"{self._scene.target} taken off the network between sites"

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        address = await asyncio.to_thread(self._address)
        return f"{self._scene.target} still has {address} on the network between sites" if address else None

    async def heal(self) -> None:
        """See FaultPlay."""
        if await asyncio.to_thread(self._address) is None:
            await asyncio.to_thread(self._scene.backend.plug_in, self._scene.target)

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        address = await asyncio.to_thread(self._address)
        return None if address else f"{self._scene.target} has no address on the network between sites"

    def _address(self) -> str | None:
        try:
            return self._scene.backend.network.host(self._scene.target)
        except NetworkError:
            return None
