"""Data loss in a topic: files of some partitions of a site's own events log were deleted while its broker was down.

As with a cut the supervisor is held meanwhile, or it would start the broker before the files are gone. The other
regions hold copies, so what was said is not lost; but the log is no longer what was promised, and the life is over.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

from region_sim.errors import DrillBroken
from region_sim.faults.base import Scene, wait_until_none
from region_sim.faults.checkpoints import forget
from region_sim.spec import TopicLoss
from services.region.run_file import ProcessIdentity
from streams.logs import events_log

DEAD_SECONDS_MAX = 10.0
POLL_SECONDS = 0.02


class TopicLossPlay:
    """Kill the broker, empty partitions, and let its supervisor start it. The region heals by its next life."""

    region_lost = True
    """Its life is over, as after a cut."""

    def __init__(self, scene: Scene, fault: TopicLoss, incarnation: str) -> None:
        self._scene = scene
        self._fault = fault
        self._incarnation = incarnation
        self._emptied: list[Path] = []

    async def inject(self) -> str:
        """See FaultPlay."""
        backend, target = self._scene.backend, self._scene.target
        supervisor = backend.supervisor(target)
        victims = backend.processes(target, ["kafka"])
        if not victims or supervisor is None or not self._incarnation:
            raise DrillBroken(f"no broker of {target} runs that could lose anything, or nobody knows its life")
        try:
            backend.signal([supervisor], SIGSTOP)
            backend.signal(victims, SIGKILL)
            await self._all_dead(victims)
            taken = await asyncio.to_thread(self._empty)
        finally:
            backend.signal([supervisor], SIGCONT)
        names = ", ".join(path.name for path in self._emptied)
        return f"SIGKILL to kafka of {target}, and {taken} bytes of records deleted: {names}"

    async def not_injected(self) -> str | None:
        """Whether the files were gone was looked at while the broker was down; by now it writes again."""
        return None if self._emptied else "nothing was deleted"

    async def heal(self) -> None:
        """The supervisor starts the broker, and the region its next life."""

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        said = self._scene.backend.deployment.site_dir(self._scene.target) / "incarnation"
        life = await asyncio.to_thread(_read, said)
        return f"{self._scene.target} is still in {self._incarnation}" if life in ("", self._incarnation) else None

    async def _all_dead(self, victims: list[ProcessIdentity]) -> None:
        async def alive() -> str | None:
            living = self._scene.backend.alive(victims)
            return f"{living} killed processes of {self._scene.target} live on" if living else None

        problem = await wait_until_none(self._scene.clock, alive, DEAD_SECONDS_MAX, POLL_SECONDS)
        if problem is not None:
            raise DrillBroken(f"{problem}: nothing was deleted")

    def _empty(self) -> int:
        """Empty the partitions that hold most. Blocks. Raises DrillBroken."""
        logs = self._scene.backend.deployment.site_dir(self._scene.target) / "kafka" / "logs"
        sized = sorted((-_log_bytes(path), path) for path in logs.glob(f"{events_log(self._incarnation)}-*"))
        chosen = [path for size, path in sized[: self._fault.partitions] if size < 0]
        if not chosen:
            raise DrillBroken(f"{events_log(self._incarnation)} of {self._scene.target} holds nothing to be lost")
        try:
            taken = forget(logs, [path.name for path in chosen])
        except (OSError, ValueError) as error:
            raise DrillBroken(f"{logs} could not be emptied: {error}") from error
        if any(_log_bytes(path) for path in chosen):
            raise DrillBroken(f"{chosen[0].name} was not emptied: somebody writes it")
        self._emptied = chosen
        return taken


def _log_bytes(partition: Path) -> int:
    return sum(segment.stat().st_size for segment in partition.glob("*.log"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
