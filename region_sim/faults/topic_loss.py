"""Data loss in a topic: files of some partitions of a site's own events log were deleted while its broker was down.

The other regions hold copies, so what was said is not lost; but the log is no longer what was promised, and the life is
over.
"""

from __future__ import annotations

from pathlib import Path

from region_sim.errors import DrillBroken
from region_sim.faults.base import Scene
from region_sim.faults.broker_loss import BrokerLossPlay
from region_sim.faults.checkpoints import forget
from region_sim.spec import TopicLoss
from streams.logs import events_log


class TopicLossPlay(BrokerLossPlay):
    """Kill the broker, empty partitions, and let its supervisor start it."""

    def __init__(self, scene: Scene, fault: TopicLoss, incarnation: str) -> None:
        super().__init__(scene, incarnation)
        self._fault = fault
        self._emptied: list[Path] = []

    async def before_kill(self) -> None:
        """Nothing: copies may be complete, the life is over all the same."""

    def change(self, logs: Path) -> str:
        """Empty the partitions that hold most. See BrokerLossPlay."""
        log = events_log(self._incarnation)
        sized = sorted((-_log_bytes(path), path) for path in logs.glob(f"{log}-*"))
        chosen = [path for size, path in sized[: self._fault.partitions] if size < 0]
        if not chosen:
            raise DrillBroken(f"{log} of {self._scene.target} holds nothing to be lost")
        try:
            taken = forget(logs, [path.name for path in chosen])
        except (OSError, ValueError) as error:
            raise DrillBroken(f"{logs} could not be emptied: {error}") from error
        if any(_log_bytes(path) for path in chosen):
            raise DrillBroken(f"{chosen[0].name} was not emptied: somebody writes it")
        self._emptied = chosen
        return f"and {taken} bytes of records deleted: {', '.join(path.name for path in chosen)}"

    async def not_injected(self) -> str | None:
        """Whether the files were gone was looked at while the broker was down; by now it writes again."""
        return None if self._emptied else "nothing was deleted"

    async def heal(self) -> None:
        """The supervisor starts the broker, and the region its next life."""


def _log_bytes(partition: Path) -> int:
    return sum(segment.stat().st_size for segment in partition.glob("*.log"))
