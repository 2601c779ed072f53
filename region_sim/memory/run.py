"""One drill in virtual time, from its first line to its verdict: the shared conductor and judges over a made world."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from region_sim.conduct import Conductor
from region_sim.errors import DrillBroken
from region_sim.history import Entry, HistoryWriter
from region_sim.memory.backend import MemoryBackend
from region_sim.memory.kernel import SimulationError
from region_sim.memory.world import World
from region_sim.spec import Drill
from region_sim.verdict import HISTORY_FILE, Verdict, judge, judge_directory
from region_sim.watching import Watch


@dataclass(frozen=True, slots=True)
class MemoryRun:
    """What came of a drill in virtual time."""

    verdict: Verdict
    entries: list[Entry]
    """The history; empty when it was written to a directory."""
    virtual_seconds: float
    steps: int
    """Callbacks that ran: what a run costs."""


def run_in_memory(
    drill: Drill, seed: int, directory: Path | None = None, *, replay: str = "", watch: Watch | None = None
) -> MemoryRun:
    """Run a drill; the history goes into `directory`, or is returned. Raises DrillBroken, HistoryDamaged.

    What a shipped task raised and nobody awaited breaks the drill too: a bug is no verdict.
    """
    world = World(drill, seed)
    path = None if directory is None else directory / HISTORY_FILE
    # What was killed must not be swept up while the world turns: its `finally` would run, as no killed process's does.
    gc.disable()
    try:
        with quiet_logs(), HistoryWriter(path, world.clock) as history:
            began = world.kernel.time()
            try:
                world.kernel.run(_course(world, drill, seed, history, watch))
            except SimulationError as error:
                raise DrillBroken(f"the simulated world stands still: {error}") from error
            if world.kernel.failures:
                first = world.kernel.failures[0]
                raise DrillBroken(f"a task ended with {type(first).__name__}: {first}") from first
            seconds = world.kernel.time() - began
        verdict = judge(history.entries, replay) if directory is None else judge_directory(directory, replay)
        return MemoryRun(verdict, history.entries, round(seconds, 3), world.kernel.steps)
    finally:
        gc.enable()


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Say nothing of what simulated processes log: it bears the machine's time, and costs more than what it tells."""
    before, level = structlog.get_config(), logging.root.manager.disable
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        structlog.configure(**before)
        logging.disable(level)


async def _course(world: World, drill: Drill, seed: int, history: HistoryWriter, watch: Watch | None) -> None:
    await world.start()
    await Conductor(drill, seed, MemoryBackend(world), history, watch=watch).run()
