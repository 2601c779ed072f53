"""Links that drop, are late, or lose some of what is said."""

from __future__ import annotations

from region_sim.memory.hands import Cuts, Hands, MemoryPlay
from region_sim.spec import Link, Partition


class PartitionPlay(MemoryPlay):
    """Cut links. Clients reach every side all the time."""

    def __init__(self, hands: Hands, fault: Partition, target: str) -> None:
        self._hands = hands
        self._fault = fault
        self._target = target
        self._cut: list[tuple[str, str]] = []
        self._what: Cuts = "etcd_cut" if fault.shape == "etcd" else "data_cut" if fault.shape == "data" else "is_cut"
        # One direction is enough: no answer comes back. With `peer` the witness still hears both regions.
        self.region_lost = target in hands.world.regions and fault.shape in ("full", "outgoing", "incoming")

    async def inject(self) -> str:
        """See FaultPlay."""
        for other in self._hands.others(self._target):
            if self._fault.shape == "peer" and other not in self._hands.world.regions:
                continue
            if self._fault.shape != "incoming":
                self._cut.append((self._target, other))
            if self._fault.shape != "outgoing":
                self._cut.append((other, self._target))
        for source, target in self._cut:
            self._hands.cut(source, target, self._what)
        return f"{self._fault.shape} partition of {self._target}"

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        network = self._hands.world.network
        whole = [pair for pair in self._cut if not getattr(network.link(*pair), self._what)]
        return f"{whole[0][0]} still reaches {whole[0][1]}" if whole or not self._cut else None

    async def heal(self) -> None:
        """See FaultPlay."""
        for source, target in self._cut:
            self._hands.mend(source, target, self._what)


class LinkPlay(MemoryPlay):
    """Make links late and lossy."""

    def __init__(self, hands: Hands, fault: Link, target: str) -> None:
        self._hands = hands
        self._fault = fault
        self._target = target

    async def inject(self) -> str:
        """See FaultPlay."""
        self._hands.slow(self._target, self._fault)
        f = self._fault
        return f"{self._target}: {f.delay_ms:g} ms later, up to {f.jitter_ms:g} ms more, {f.loss_share:.1%} lost"

    async def heal(self) -> None:
        """See FaultPlay."""
        self._hands.calm(self._target, self._fault)
