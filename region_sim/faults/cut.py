"""An unflushed loss: a broker acknowledged from the page cache, lost power, and comes back with less than it promised.

The peers' replicators are held for a moment before, or they would have nearly everything that is cut. The supervisor is
held while the broker is down, or it would start the broker again before the cut. Load goes on all the time, so that new
records take the offsets of lost ones until somebody notices: that is what the drill is about.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

from region_sim.errors import DrillBroken
from region_sim.faults.base import Scene, wait_until_none
from region_sim.faults.segments import SegmentCut, carry_out, newest_segment, plan_cut
from region_sim.spec import Cut
from services.region.run_file import ProcessIdentity
from streams.logs import events_log

START_SECONDS_MAX = 180.0
DEAD_SECONDS_MAX = 10.0
POLL_SECONDS = 0.02


class CutPlay:
    """Kill the broker, cut its log, and let its supervisor start it again. The region heals by its next life."""

    region_lost = True
    """Its life is over: what it promised and nobody else holds is due in a receipt."""

    def __init__(self, scene: Scene, fault: Cut, incarnation: str) -> None:
        self._scene = scene
        self._fault = fault
        self._incarnation = incarnation
        self._cuts: list[SegmentCut] = []
        self._held: list[ProcessIdentity] = []

    async def inject(self) -> str:
        """See FaultPlay."""
        backend, target = self._scene.backend, self._scene.target
        supervisor = backend.supervisor(target)
        victims = backend.processes(target, [] if self._fault.whole_site else ["kafka"])
        if not victims or supervisor is None or not self._incarnation:
            raise DrillBroken(f"no broker of {target} runs that could lose anything, or nobody knows its life")
        copiers = [
            copier
            for region in self._scene.regions
            if region != target
            for copier in backend.processes(region, ["replicator"])
        ]
        try:
            self._hold(copiers)
            await self._scene.clock.sleep(self._fault.peers_behind_seconds)
            if not self._fault.whole_site:
                self._hold([supervisor])
            backend.signal(victims, SIGKILL)
            await self._all_dead(victims)
            self._cuts = await asyncio.to_thread(self._cut)
        finally:
            backend.signal(self._held, SIGCONT)
        if not self._cuts:
            raise DrillBroken(f"{events_log(self._incarnation)} of {target} holds nothing that could be cut")
        said = ", ".join(f"{cut.partition} [{cut.found}, {cut.was})" for cut in self._cuts)
        whom = f"all of {target}" if self._fault.whole_site else f"kafka of {target}"
        return f"SIGKILL to {whom}, and cut from its log: {said}"

    async def not_injected(self) -> str | None:
        """Whether the files were really shorter was looked at while the broker was down; by now it writes again."""
        return None if self._cuts else "nothing was cut"

    async def heal(self) -> None:
        """The supervisor starts the broker, and the region its next life; only who lost the supervisor must help."""
        if self._fault.whole_site:
            await asyncio.to_thread(self._scene.backend.start, self._scene.target, START_SECONDS_MAX)

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        said = self._scene.backend.deployment.site_dir(self._scene.target) / "incarnation"
        life = await asyncio.to_thread(_read, said)
        return f"{self._scene.target} is still in {self._incarnation}" if life in ("", self._incarnation) else None

    def _hold(self, identities: list[ProcessIdentity]) -> None:
        self._held += identities
        self._scene.backend.signal(identities, SIGSTOP)

    async def _all_dead(self, victims: list[ProcessIdentity]) -> None:
        async def alive() -> str | None:
            living = self._scene.backend.alive(victims)
            return f"{living} killed processes of {self._scene.target} live on" if living else None

        problem = await wait_until_none(self._scene.clock, alive, DEAD_SECONDS_MAX, POLL_SECONDS)
        if problem is not None:
            raise DrillBroken(f"{problem}: nothing was cut")

    def _cut(self) -> list[SegmentCut]:
        """Cut the partitions that hold most. Blocks. Raises DrillBroken."""
        logs = self._scene.backend.deployment.site_dir(self._scene.target) / "kafka" / "logs"
        segments = [newest_segment(found) for found in logs.glob(f"{events_log(self._incarnation)}-*")]
        sized = sorted((s for s in segments if s is not None), key=lambda s: (-s.stat().st_size, s.parent.name))
        cuts = [plan_cut(segment, self._fault.records) for segment in sized[: self._fault.partitions]]
        wanted = [cut for cut in cuts if cut is not None]
        for cut in wanted:
            carry_out(cut)
            if cut.path.stat().st_size != cut.size:
                raise DrillBroken(f"{cut.path} was not cut: somebody writes it")
        return wanted


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
