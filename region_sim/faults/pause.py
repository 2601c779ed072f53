"""SIGSTOP: a region that knows nothing of the time that passes, and then goes on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from signal import SIGCONT, SIGSTOP

from region_sim.errors import DrillBroken
from region_sim.faults.base import Scene
from region_sim.spec import Pause
from services.region.run_file import ProcessIdentity


class PausePlay:
    """Stop and continue processes."""

    def __init__(self, scene: Scene, fault: Pause) -> None:
        self._scene = scene
        self._fault = fault
        self._stopped: list[ProcessIdentity] = []
        self.region_lost = not fault.processes and scene.target in scene.regions

    async def inject(self) -> str:
        """See FaultPlay."""
        self._stopped = self._scene.backend.processes(self._scene.target, self._fault.processes)
        if not self._stopped:
            raise DrillBroken(f"nothing of {self._scene.target} runs that could be stopped")
        self._scene.backend.signal(self._stopped, SIGSTOP)
        return f"SIGSTOP to {len(self._stopped)} processes of {self._scene.target}"

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        running = sum(_state(identity) != "T" for identity in self._stopped)
        return f"{running} processes of {self._scene.target} go on" if running else None

    async def heal(self) -> None:
        """See FaultPlay."""
        # The supervisor last: it must not find its processes silent.
        self._scene.backend.signal(self._stopped[::-1], SIGCONT)

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        stopped = sum(_state(identity) == "T" for identity in self._stopped)
        return f"{stopped} processes of {self._scene.target} are still stopped" if stopped else None


def _state(identity: ProcessIdentity) -> str:
    """The kernel's letter for the state of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{identity.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
