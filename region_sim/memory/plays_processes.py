"""Processes that are killed, stopped, or lose everything with their site."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from region_sim.memory.hands import Hands, MemoryPlay
from region_sim.spec import Kill, Pause


def alive(hands: Hands, site: str, names: Sequence[str]) -> list[str]:
    """Which processes of a site live; no names: of all."""
    found = hands.world.sites[site].processes
    return [name for name, process in found.items() if process.is_alive and (not names or name in names)]


class KillPlay(MemoryPlay):
    """SIGKILL; a whole site is started by the heal, single processes by their supervisor."""

    def __init__(self, hands: Hands, fault: Kill, target: str, etcd_leader: str) -> None:
        self._hands = hands
        self._fault = fault
        self._target = target
        self._etcd_leader = etcd_leader
        self._loop: asyncio.Task[None] | None = None
        self.region_lost = not fault.processes and target in hands.world.regions

    async def inject(self) -> str:
        """See FaultPlay."""
        site = self._hands.world.sites[self._target]
        victims = alive(self._hands, self._target, self._fault.processes)
        site.kill(self._fault.processes)
        also = ""
        if self._fault.also_etcd_leader and self._etcd_leader and self._etcd_leader != self._target:
            self._hands.world.sites[self._etcd_leader].kill(["etcd"])
            also = f", and etcd of {self._etcd_leader}"
        if self._fault.times > 1:
            self._loop = asyncio.create_task(self._again())
        dead = "" if victims else " (none of them lived)"
        return f"SIGKILL to {', '.join(self._fault.processes) or 'all'} of {self._target}{also}{dead}"

    async def _again(self) -> None:
        for _ in range(self._fault.times - 1):
            await asyncio.sleep(self._fault.every_seconds)
            self._hands.world.sites[self._target].kill(self._fault.processes)

    async def heal(self) -> None:
        """See FaultPlay."""
        if self._loop is not None:
            self._loop.cancel()
        if not self._fault.processes:
            self._hands.world.sites[self._target].start()

    async def not_healed(self) -> str | None:
        """See FaultPlay. With its site down for another fault's sake, there is nothing to wait for."""
        site = self._hands.world.sites[self._target]
        if not site.is_running or alive(self._hands, self._target, self._fault.processes):
            return None
        return f"{self._target} does not run yet"


class WipePlay(MemoryPlay):
    """All of a site is killed, and its disk is empty."""

    def __init__(self, hands: Hands, target: str) -> None:
        self._hands = hands
        self._target = target
        self.region_lost = target in hands.world.regions

    async def inject(self) -> str:
        """See FaultPlay."""
        self._hands.world.sites[self._target].wipe()
        return f"{self._target} killed, and its disk emptied"

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        site = self._hands.world.sites[self._target]
        left = alive(self._hands, self._target, [])
        return f"{', '.join(left)} live on" if left else "a log is left" if site.broker.partition_counts() else None

    async def heal(self) -> None:
        """See FaultPlay."""
        self._hands.world.sites[self._target].start()


class RestartPlay(MemoryPlay):
    """A site ends in order, and is started again."""

    def __init__(self, hands: Hands, target: str) -> None:
        self._hands = hands
        self._target = target
        self.region_lost = target in hands.world.regions

    async def inject(self) -> str:
        """See FaultPlay."""
        ran = alive(self._hands, self._target, [])
        forced = await self._hands.world.sites[self._target].end()
        said = f"{self._target} ended in order" if ran else f"{self._target} was down already"
        return f"{said}; {', '.join(forced)} did not end in time, and killed" if forced else said

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        left = alive(self._hands, self._target, [])
        return f"{', '.join(left)} live on" if left else None

    async def heal(self) -> None:
        """See FaultPlay."""
        self._hands.world.sites[self._target].start()

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        return None if alive(self._hands, self._target, []) else f"{self._target} does not run yet"


class PausePlay(MemoryPlay):
    """SIGSTOP, healed by SIGCONT."""

    def __init__(self, hands: Hands, fault: Pause, target: str) -> None:
        self._hands = hands
        self._fault = fault
        self._target = target
        self.region_lost = not fault.processes and target in hands.world.regions

    async def inject(self) -> str:
        """See FaultPlay."""
        victims = alive(self._hands, self._target, self._fault.processes)
        self._hands.world.sites[self._target].pause(self._fault.processes)
        dead = "" if victims else " (none of them lived)"
        return f"SIGSTOP to {', '.join(self._fault.processes) or 'all'} of {self._target}{dead}"

    async def heal(self) -> None:
        """See FaultPlay."""
        self._hands.world.sites[self._target].resume(self._fault.processes)
