"""Faults strike what they should, verify it, and nothing else: on real processes that stand for a site's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from region_sim.backends.process import ProcessBackend
from region_sim.errors import DrillBroken
from region_sim.faults.base import Scene
from region_sim.faults.plays import play_of
from region_sim.spec import Kill, Partition, Pause, Wipe
from services.common.clock import SystemClock
from services.common.deployment import Deployment, Site
from services.region import run_file
from services.region.run_file import ProcessRecord, RunRecord
from tests.support.poll import wait_until_async

TREE = "sleep 600 & exec sleep 600"
"""A process with a child."""


@contextmanager
def site(directory: Path, name: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Three process trees that a run.json calls a supervisor, kafka and etcd."""
    (directory / name).mkdir(parents=True, exist_ok=True)
    started = [subprocess.Popen(["sh", "-c", TREE], start_new_session=True) for _ in range(3)]
    identities = [run_file.identify(process.pid) for process in started]
    assert identities[0] is not None
    records = [
        ProcessRecord(
            name=named,
            phase="ready",
            is_step=False,
            identity=identity,
            started_at_ms=0,
            restarts=0,
            exit_code=None,
            reason="",
            port=None,
            ready_path=None,
            log="",
        )
        for named, identity in zip(("kafka", "etcd"), identities[1:], strict=True)
    ]
    record = RunRecord(
        region=name, supervisor=identities[0], started_at_ms=0, ready=True, addresses={}, processes=records
    )
    run_file.write(directory / name, record)
    try:
        yield started
    finally:
        for process in started:
            for identity in ProcessBackend(deployment(directory)).processes(name, []):
                if identity.pid != process.pid:
                    subprocess.run(["kill", "-9", str(identity.pid)], check=False)
            process.kill()
            process.wait()


def deployment(directory: Path) -> Deployment:
    """Two regions and a witness."""
    sites = [
        Site(
            name=name, kind="witness" if name == "north" else "region", host="127.0.0.1", base_port=20_000 + 20 * place
        )
        for place, name in enumerate(("east", "west", "north"))
    ]
    return Deployment(deployment_id="d", network="loopback", sites=sites, directory=str(directory))


def scene(directory: Path, target: str = "east") -> Scene:
    """A fault's surroundings."""
    return Scene(ProcessBackend(deployment(directory)), SystemClock(), target, ["east", "west"])


async def taken(play: object) -> None:
    """Wait until a fault has taken."""

    async def injected() -> bool:
        return await play.not_injected() is None  # type: ignore[attr-defined]

    await wait_until_async(injected, what="the fault")


async def test_a_killed_site_loses_every_process_and_no_other_site_does(tmp_path: Path) -> None:
    """Supervisor, services and their children."""
    with site(tmp_path, "east") as east, site(tmp_path, "west"):
        backend = scene(tmp_path).backend
        assert len(backend.processes("east", [])) == 6
        play = play_of(scene(tmp_path), Kill(), "")
        assert play.region_lost
        await play.inject()
        for process in east:
            process.wait()
        await taken(play)
        assert backend.processes("east", []) == []
        assert len(backend.processes("west", [])) == 6
        with pytest.raises(DrillBroken, match="nothing of east runs"):
            await play_of(scene(tmp_path), Kill(), "").inject()


async def test_single_processes_can_be_killed_and_the_leader_of_etcd_with_them(tmp_path: Path) -> None:
    """A process of a region is no lost region."""
    with site(tmp_path, "east") as east, site(tmp_path, "west") as west:
        play = play_of(scene(tmp_path), Kill(processes=["kafka"], also_etcd_leader=True), "west")
        assert not play.region_lost
        await play.inject()
        east[1].wait()
        west[2].wait()
        await taken(play)
        assert (len(scene(tmp_path).backend.processes("east", [])), east[0].poll(), west[1].poll()) == (4, None, None)


async def test_a_wipe_deletes_the_sites_directory_and_nothing_else(tmp_path: Path) -> None:
    """The other site's files, and what lies beside them, stay."""
    with site(tmp_path, "east") as east, site(tmp_path, "west"):
        (tmp_path / "pseudonym.key").write_text("key")
        play = play_of(scene(tmp_path), Wipe(), "")
        await play.inject()
        for process in east:
            process.wait()
        await taken(play)
        assert not (tmp_path / "east").exists()
        assert (tmp_path / "west" / "run.json").exists()
        assert (tmp_path / "pseudonym.key").exists()


def test_a_directory_that_is_somewhere_else_is_not_deleted(tmp_path: Path) -> None:
    """A link could lead anywhere."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "east").symlink_to(tmp_path / "precious")
    with pytest.raises(DrillBroken, match="nothing is deleted"):
        ProcessBackend(deployment(tmp_path / "sites")).wipe("east")
    assert (tmp_path / "precious").exists()


async def test_a_paused_site_stands_still_and_goes_on(tmp_path: Path) -> None:
    """SIGSTOP is verified, and so is its end."""
    with site(tmp_path, "east"):
        play = play_of(scene(tmp_path), Pause(), "")
        await play.inject()
        await taken(play)
        assert await play.not_healed() is not None
        await play.heal()

        async def healed() -> bool:
            return await play.not_healed() is None

        await wait_until_async(healed, what="the processes to go on")
        assert await play.not_injected() is not None


def test_on_loopback_there_is_no_network_to_cut(tmp_path: Path) -> None:
    """The drill says so instead of testing nothing."""
    with pytest.raises(DrillBroken, match="no network to cut"):
        play_of(scene(tmp_path), Partition(), "")


def test_a_site_is_ready_by_its_own_word_and_only_while_its_supervisor_lives(tmp_path: Path) -> None:
    """A run.json that outlived its site is no site."""
    with site(tmp_path, "east"), site(tmp_path, "west"), site(tmp_path, "north"):
        assert ProcessBackend(deployment(tmp_path)).sites_ready() is None
    assert ProcessBackend(deployment(tmp_path)).sites_ready() == "east does not run"
