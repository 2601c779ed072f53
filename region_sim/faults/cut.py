"""An unflushed loss: a broker acknowledged from the page cache, lost power, and comes back with less than it promised.

The peers' replicators are held for a moment before, or they would have nearly everything that is cut. Load goes on all
the time, so that new records take the offsets of lost ones until somebody notices: that is what the drill is about.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from region_sim.errors import DrillBroken
from region_sim.faults.base import Scene
from region_sim.faults.broker_loss import BrokerLossPlay
from region_sim.faults.segments import SegmentCut, carry_out, newest_segment, plan_cut
from region_sim.spec import Cut
from streams.logs import events_log

START_SECONDS_MAX = 180.0


class CutPlay(BrokerLossPlay):
    """Kill the broker, cut its log, and let its supervisor start it again."""

    def __init__(self, scene: Scene, fault: Cut, incarnation: str) -> None:
        super().__init__(scene, incarnation)
        self.whole_site = fault.whole_site
        self._fault = fault
        self._cuts: list[SegmentCut] = []

    async def before_kill(self) -> None:
        """See BrokerLossPlay."""
        scene = self._scene
        for region in scene.regions:
            if region != scene.target:
                self.hold(scene.backend.processes(region, ["replicator"]))
        await scene.clock.sleep(self._fault.peers_behind_seconds)

    def change(self, logs: Path) -> str:
        """Cut the partitions that hold most. See BrokerLossPlay."""
        log = events_log(self._incarnation)
        segments = [newest_segment(found) for found in logs.glob(f"{log}-*")]
        sized = sorted((s for s in segments if s is not None), key=lambda s: (-s.stat().st_size, s.parent.name))
        cuts = [plan_cut(segment, self._fault.records) for segment in sized[: self._fault.partitions]]
        wanted = [cut for cut in cuts if cut is not None]
        for cut in wanted:
            carry_out(cut)
            if cut.path.stat().st_size != cut.size:
                raise DrillBroken(f"{cut.path} was not cut: somebody writes it")
        if not wanted:
            raise DrillBroken(f"{log} of {self._scene.target} holds nothing that could be cut")
        self._cuts = wanted
        return f"and cut from its log: {', '.join(f'{cut.partition} [{cut.found}, {cut.was})' for cut in wanted)}"

    async def not_injected(self) -> str | None:
        """Whether the files were really shorter was looked at while the broker was down; by now it writes again."""
        return None if self._cuts else "nothing was cut"

    async def heal(self) -> None:
        """The supervisor starts the broker, and the region its next life; only who lost the supervisor must help."""
        if self.whole_site:
            await asyncio.to_thread(self._scene.backend.start, self._scene.target, START_SECONDS_MAX)
