"""A process that is killed each time it is back: on a real process that a supervisor of the test starts again."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from region_sim.errors import DrillBroken
from region_sim.faults.base import FaultPlay
from region_sim.faults.kill import KillPlay
from region_sim.faults.plays import play_of
from region_sim.spec import Kill
from services.region import run_file
from tests.support.poll import wait_until_async
from tests.unit.region_sim.test_faults import scene, site, taken

LOOP = Kill(processes=["kafka"], times=3, every_seconds=0.05)


def another() -> subprocess.Popen[bytes]:
    """A process that takes another's place."""
    return subprocess.Popen(["sleep", "600"], start_new_session=True)


@asynccontextmanager
async def started_again(directory: Path, started: list[subprocess.Popen[bytes]]) -> AsyncIterator[list[int]]:
    """Whenever `kafka` is dead another takes its place, in run.json too; yields the process ids, in order."""
    pids = [started[1].pid]

    async def watch() -> None:
        while True:
            if started[1].poll() is not None:
                started[1] = another()
                pids.append(started[1].pid)
                record = run_file.read(directory)
                assert record is not None
                kafka, *others = record.processes
                kafka = msgspec.structs.replace(kafka, identity=run_file.identify(started[1].pid))
                run_file.write(directory, msgspec.structs.replace(record, processes=[kafka, *others]))
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    try:
        yield pids
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def ended(play: FaultPlay) -> None:
    """Wait until nothing more will be killed."""
    assert isinstance(play, KillPlay)
    loop = play._loop
    assert loop is not None
    await wait_until_async(loop.done, what="the end of the crash loop")


async def test_it_is_killed_as_often_as_was_said_and_then_left_alone(tmp_path: Path) -> None:
    """Each kill is of the process that took the place of the one before."""
    with site(tmp_path, "east") as east:
        async with started_again(tmp_path / "east", east) as pids:
            play = play_of(scene(tmp_path), LOOP, "")
            assert "3 times in all" in await play.inject()
            await taken(play)
            await play.heal()
            await ended(play)
            await wait_until_async(lambda: len(pids) == 4, what="the process after the third kill")
            assert len(pids) == 4
            assert await play.not_healed() is None
            assert east[1].poll() is None


async def test_a_heal_ends_the_loop(tmp_path: Path) -> None:
    """What is still to come does not."""
    with site(tmp_path, "east") as east:
        async with started_again(tmp_path / "east", east) as pids:
            play = play_of(
                scene(tmp_path), Kill(processes=["kafka"], times=1_000, every_seconds=0.05, for_seconds=1.0), ""
            )
            await play.inject()
            await wait_until_async(lambda: len(pids) >= 3, what="the process after the second kill")
            await play.heal()
            await ended(play)
            await wait_until_async(lambda: east[1].poll() is None, what="the last process")
            assert len(pids) < 1_000


async def test_a_process_that_does_not_come_back_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drill with fewer kills than it promised tests something else."""
    monkeypatch.setattr("region_sim.faults.kill.BACK_SECONDS_MAX", 0.1)
    with site(tmp_path, "east"):
        play = play_of(scene(tmp_path), LOOP, "")
        await play.inject()
        with pytest.raises(DrillBroken, match="kafka of east did not come back after kill 1 of 3"):
            await play.heal()


async def test_a_heal_before_the_second_kill_is_no_crash_loop(tmp_path: Path) -> None:
    """And says so."""
    with site(tmp_path, "east"):
        play = play_of(scene(tmp_path), Kill(processes=["kafka"], times=3, for_seconds=1.0), "")
        await play.inject()
        with pytest.raises(DrillBroken, match="healed before the second of 3 kills"):
            await play.heal()
