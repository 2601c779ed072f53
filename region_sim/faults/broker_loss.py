"""What faults of a broker's log have in common: the broker dies, its files change, and its supervisor starts it again.

The supervisor is held meanwhile, or it would start the broker before the files are what they should be. The region
heals by its next life: a log that is shorter than what was promised may not be written again.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

from region_sim.errors import DrillBroken
from region_sim.faults.base import Scene, wait_until_none
from services.region.run_file import ProcessIdentity

DEAD_SECONDS_MAX = 10.0
POLL_SECONDS = 0.02


class BrokerLossPlay(ABC):
    """Kill a broker, change what it has on its disk, and let its supervisor start it."""

    region_lost = True
    """Its life is over: what it promised and nobody else holds is due in a receipt."""
    whole_site = False
    """Whether everything of the site dies with the broker, its supervisor included."""

    def __init__(self, scene: Scene, incarnation: str) -> None:
        self._scene = scene
        self._incarnation = incarnation
        self._held: list[ProcessIdentity] = []

    @abstractmethod
    def change(self, logs: Path) -> str:
        """Change the broker's log directory while no broker runs; returns what was done, in words.

        Blocks. Raises DrillBroken.
        """

    @abstractmethod
    async def before_kill(self) -> None:
        """What comes before; what it holds is let go when the files are changed."""

    async def inject(self) -> str:
        """See FaultPlay."""
        backend, target = self._scene.backend, self._scene.target
        supervisor = backend.supervisor(target)
        victims = backend.processes(target, [] if self.whole_site else ["kafka"])
        if not victims or supervisor is None or not self._incarnation:
            raise DrillBroken(f"no broker of {target} runs that could lose anything, or nobody knows its life")
        try:
            await self.before_kill()
            if not self.whole_site:
                self.hold([supervisor])
            backend.signal(victims, SIGKILL)
            await self._all_dead(victims)
            said = await asyncio.to_thread(self.change, backend.deployment.site_dir(target) / "kafka" / "logs")
        finally:
            backend.signal(self._held, SIGCONT)
        return f"SIGKILL to {'all' if self.whole_site else 'kafka'} of {target}, {said}"

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        said = self._scene.backend.deployment.site_dir(self._scene.target) / "incarnation"
        life = await asyncio.to_thread(_read, said)
        return f"{self._scene.target} is still in {self._incarnation}" if life in ("", self._incarnation) else None

    def hold(self, identities: Sequence[ProcessIdentity]) -> None:
        """Stop processes until the files are changed."""
        self._held += identities
        self._scene.backend.signal(list(identities), SIGSTOP)

    async def _all_dead(self, victims: list[ProcessIdentity]) -> None:
        async def alive() -> str | None:
            living = self._scene.backend.alive(victims)
            return f"{living} killed processes of {self._scene.target} live on" if living else None

        problem = await wait_until_none(self._scene.clock, alive, DEAD_SECONDS_MAX, POLL_SECONDS)
        if problem is not None:
            raise DrillBroken(f"{problem}: its files were left as they are")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
