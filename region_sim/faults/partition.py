"""The network drops what sites send to each other. Clients outside reach every site all the time.

Several partitions may stand at once, and a link may be cut by two of them: what the network drops is always the union
of those that stand, so that healing one heals nothing of another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from infra.runtime.network import Drop, NetworkError
from region_sim.errors import DrillBroken
from region_sim.faults.base import Scene
from region_sim.faults.reach import Reach, reaches
from region_sim.spec import Partition
from services.common.deployment import Site

ETCD_LISTENERS: Final = ("etcd_client", "etcd_peer")
_standing: dict[int, dict[PartitionPlay, tuple[Drop, ...]]] = {}
"""By the process that holds a network: what its partitions drop. Of this process alone, as all plays of a drill are."""


def drops_of(fault: Partition, sites: Sequence[Site], target: str) -> tuple[Drop, ...]:
    """What the network loses: pairs of sender and receiver, and of which ports."""
    others = [site for site in sites if site.name != target]
    if fault.shape == "outgoing":
        return tuple(Drop(target, other.name) for other in others)
    if fault.shape == "incoming":
        return tuple(Drop(other.name, target) for other in others)
    if fault.shape == "peer":
        others = [site for site in others if site.kind == "region"]
    etcd = tuple(site.port(listener) for site in sites for listener in ETCD_LISTENERS)
    only = etcd if fault.shape == "etcd" else ()
    but = etcd if fault.shape == "data" else ()
    pairs = [pair for other in others for pair in ((target, other.name), (other.name, target))]
    return tuple(Drop(sender, receiver, only, but) for sender, receiver in pairs)


class PartitionPlay:
    """Cut links, and let them heal."""

    def __init__(self, scene: Scene, fault: Partition) -> None:
        self._scene = scene
        self._fault = fault
        self._network = scene.backend.network
        self._sites = scene.backend.deployment.sites
        self._drops = drops_of(fault, self._sites, scene.target)
        # One direction is enough: no answer comes back. With `peer` the witness still hears both regions, and with
        # `data` everybody votes as before. Without etcd a region loses its lease, whoever still reads its logs.
        self.region_lost = scene.target in scene.regions and fault.shape not in ("peer", "data")

    async def inject(self) -> str:
        """See FaultPlay."""
        _standing.setdefault(self._network.holder_pid, {})[self] = self._drops
        await self._carry_out("cut")
        pairs = ", ".join(f"{drop.sender} to {drop.receiver}" for drop in self._drops)
        what = {"etcd": " (etcd's ports only)", "data": " (all TCP but etcd's ports)"}.get(self._fault.shape, "")
        return f"{self._fault.shape} partition of {self._scene.target}{what}: {pairs}"

    async def not_injected(self) -> str | None:
        """A TCP connection over each kind of link that is cut must not come about; over the others it must."""
        sender, receiver = self._pair()
        cut = "etcd_peer" if self._fault.shape != "data" else "kafka"
        if await self._reach(sender, receiver, cut) is not Reach.NOBODY:
            return f"{sender.name} still reaches {cut} of {receiver.name}"
        whole = {"etcd": "kafka", "data": "etcd_peer"}.get(self._fault.shape)
        if whole is None or self._also_cut(sender, receiver):
            return None
        if await self._reach(sender, receiver, whole) is Reach.NOBODY:
            return f"{sender.name} does not reach {whole} of {receiver.name} either: more is cut than was meant"
        return None

    async def heal(self) -> None:
        """See FaultPlay."""
        if _standing.get(self._network.holder_pid, {}).pop(self, None) is not None:
            await self._carry_out("healed")

    async def not_healed(self) -> str | None:
        """What another partition still cuts is not asked about."""
        sender, receiver = self._pair()
        if self._also_cut(sender, receiver):
            return None
        listener = "etcd_peer" if self._fault.shape != "data" else "kafka"
        if await self._reach(sender, receiver, listener) is Reach.NOBODY:
            return f"{sender.name} does not reach {receiver.name} yet"
        return None

    async def _carry_out(self, verb: str) -> None:
        standing = _standing.get(self._network.holder_pid, {})
        union = list(dict.fromkeys(drop for drops in standing.values() for drop in drops))
        try:
            await asyncio.to_thread(self._network.drop_only, union)
        except NetworkError as error:
            standing.pop(self, None)
            raise DrillBroken(f"the network could not be {verb}: {error}") from error

    def _pair(self) -> tuple[Site, Site]:
        """Between whom it is tried: the target and another region, in a direction that is cut."""
        regions = [site.name for site in self._sites if site.kind == "region"]
        drop = next(
            (drop for drop in self._drops if {drop.sender, drop.receiver} <= {*regions, self._scene.target}),
            self._drops[0],
        )
        deployment = self._scene.backend.deployment
        return deployment.site(drop.sender), deployment.site(drop.receiver)

    def _also_cut(self, one: Site, other: Site) -> bool:
        """Whether another partition that stands cuts this pair, in any direction."""
        standing = _standing.get(self._network.holder_pid, {})
        return any(
            {drop.sender, drop.receiver} == {one.name, other.name}
            for play, drops in standing.items()
            if play is not self
            for drop in drops
        )

    async def _reach(self, sender: Site, receiver: Site, listener: str) -> Reach:
        host = self._network.host(receiver.name)
        return await reaches(self._network, sender.name, host, receiver.port(listener))
