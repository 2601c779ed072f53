"""What a deployment holds of the machine is found by its directory, and what is left of it is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from region_sim.campaign.leaks import Held, grown, held, left

SLEEPER = "import sys; print('up', flush=True); sys.stdin.read()"


def start(*arguments: str, cwd: Path) -> subprocess.Popen[bytes]:
    """A process that waits until its input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, *arguments], cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """End it."""
    process.communicate(timeout=10)


def test_processes_of_the_directory_and_no_others(tmp_path: Path) -> None:
    """By what they name or where they work; a directory with a longer name is another one."""
    ours, longer = tmp_path / "sites", tmp_path / "sites-of-others"
    ours.mkdir()
    longer.mkdir()
    before = held(ours)
    started = [start(f"--config={ours}/east/kafka", cwd=tmp_path), start(cwd=ours), start(cwd=longer)]
    try:
        now = held(ours)
        assert sorted(now.processes) == sorted(process.pid for process in started[:2])
        assert len(grown(before, now)) == 1
        assert len(left(before, now)) == 2
        assert grown(now, now) == []
    finally:
        for process in started:
            end(process)
    assert left(before, held(ours)) == []


def test_files_beside_the_deployment(tmp_path: Path) -> None:
    """What a run drops where it has nothing to do."""
    (tmp_path / "sites").mkdir()
    before = held(tmp_path / "sites")
    (tmp_path / "core.1234").touch()
    assert grown(before, held(tmp_path / "sites")) == ["files were left: core.1234"]


def test_namespaces_that_are_left() -> None:
    """Another one than before."""
    before = Held({}, frozenset({"net:[1]"}), frozenset())
    after = Held({}, frozenset({"net:[1]", "net:[2]"}), frozenset())
    assert left(before, after) == ["1 network namespaces are left"]
    assert grown(before, after) == ["2 network namespaces instead of 1"]
