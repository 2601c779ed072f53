"""The network drops what sites send to each other. Clients outside reach every site all the time."""

from __future__ import annotations

import asyncio

from infra.runtime.network import NetworkError, RegionNetwork
from region_sim.errors import DrillBroken
from region_sim.faults.base import Scene
from region_sim.spec import Partition


class PartitionPlay:
    """Cut links, and let them heal."""

    def __init__(self, scene: Scene, fault: Partition) -> None:
        self._scene = scene
        self._fault = fault
        self._network = scene.backend.network
        # One direction is enough: no answer comes back. With `peer` the witness still hears both regions.
        self.region_lost = scene.target in scene.regions and fault.shape != "peer"

    async def inject(self) -> str:
        """See FaultPlay."""
        try:
            await asyncio.to_thread(self._cut, self._network)
        except NetworkError as error:
            raise DrillBroken(f"the network could not be cut: {error}") from error
        return f"{self._fault.shape} partition of {self._scene.target}"

    def _cut(self, network: RegionNetwork) -> None:
        target = self._scene.target
        others = [site.name for site in self._scene.backend.deployment.sites if site.name != target]
        if self._fault.shape == "full":
            network.isolate(target)
        elif self._fault.shape == "peer":
            for other in others:
                if other in self._scene.regions:
                    network.cut(target, other)
        else:
            for other in others:
                pair = (target, other) if self._fault.shape == "outgoing" else (other, target)
                network.drop(*pair)

    async def not_injected(self) -> str | None:
        """A TCP connection from the target to another site must not come about."""
        target = self._scene.backend.deployment.site(self._scene.target)
        other = next(s for s in self._scene.backend.deployment.sites if s.name != target.name and s.kind == "region")
        sender, receiver = (other, target) if self._fault.shape == "incoming" else (target, other)
        reaches = await self._reaches(sender.name, receiver.host, receiver.port("etcd_peer"))
        return f"{sender.name} still reaches {receiver.name}" if reaches else None

    async def heal(self) -> None:
        """See FaultPlay."""
        try:
            await asyncio.to_thread(self._network.heal)
        except NetworkError as error:
            raise DrillBroken(f"the network could not be healed: {error}") from error

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        target = self._scene.backend.deployment.site(self._scene.target)
        other = next(s for s in self._scene.backend.deployment.sites if s.name != target.name and s.kind == "region")
        if await self._reaches(target.name, other.host, other.port("etcd_peer")):
            return None
        return f"{target.name} does not reach {other.name} yet"

    async def _reaches(self, sender: str, host: str, port: int) -> bool:
        """Whether a TCP connection from a site comes about, tried inside its namespace."""
        script = f"exec 3<>/dev/tcp/{host}/{port}"
        argv = self._network.command(sender, ["timeout", "1", "bash", "-c", script])
        devnull = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*argv, stdin=devnull, stdout=devnull, stderr=devnull)
        return await process.wait() == 0
