"""Verbs of models that are killed anywhere, or whose disk is full: the state of before, or all that was asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from region_sim.faults.small_disk import small_disks
from services.models.errors import NotDone
from tests.support.inference_worker import ROOT
from tests.support.model_premises import built, champion, numbers, on_disk, premises_in, pushed, registered

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def killed_everywhere(verb: str, directory: Path) -> list[dict[str, Any]]:
    """What the region held after each kill, and after the verb was run again."""
    command = [sys.executable, "-m", "tests.support.killed_verbs", verb, str(directory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) > 1, done.stderr
    assert [line["killed"] for line in lines] == [True] * (len(lines) - 1) + [False]
    assert all(line["again"] == 0 and line["in the end"]["half"] == [] for line in lines), done.stderr
    return lines


def test_a_push_killed_anywhere_leaves_nothing_in_its_place(tmp_path: Path) -> None:
    """A version is there whole or not at all, its number stands for it, and the same push completes it."""
    for line in killed_everywhere("push", tmp_path):
        after, end = line["after"], line["in the end"]
        assert after["versions"] in ([1], [1, 2])
        assert after["champion"] == "1"
        if after["versions"] == [1, 2]:
            assert list(after["registered"]) == ["1", "2"], "a folder never has its place before its number"
        assert (end["versions"], list(end["registered"]), end["champion"]) == ([1, 2], ["1", "2"], "1")


def test_a_promote_killed_anywhere_leaves_the_old_or_the_new_champion(tmp_path: Path) -> None:
    """Never none; once it is the new one it stays."""
    champions = []
    for line in killed_everywhere("promote", tmp_path):
        champions.append(line["after"]["champion"])
        assert line["after"]["versions"] == [1, 2]
        assert line["in the end"]["champion"] == "2"
    assert set(champions) == {"1", "2"}
    assert champions == sorted(champions)


def test_a_restore_killed_anywhere_is_resumed(tmp_path: Path) -> None:
    """Whole versions, the alias last; in the end everything is back."""
    for line in killed_everywhere("restore", tmp_path):
        after, end = line["after"], line["in the end"]
        assert after["versions"] in ([1], [1, 2])
        assert after["champion"] in ({"", "2"} if after["versions"] == [1, 2] else {""})
        assert (end["versions"], list(end["registered"]), end["champion"]) == ([1, 2], ["1", "2"], "2")


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk can only be mounted by root")
async def test_a_push_to_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    """A real full disk: the old state stays, and the push succeeds once there is room."""
    directory = tmp_path / "deployment"
    with small_disks(directory, ["east"], mebibytes=4):
        premises = premises_in(directory / "east")
        await pushed(premises, built(tmp_path))
        filler = directory / "east" / "filler"
        room = os.statvfs(directory / "east").f_bavail * os.statvfs(directory / "east").f_frsize
        filler.write_bytes(bytes(room - (64 << 10)))
        before = on_disk(premises)
        large = built(tmp_path, 1.0, layers=2)
        assert (large / "model.onnx").stat().st_size > 128 << 10
        with pytest.raises(NotDone, match="No space left on device"):
            await pushed(premises, large)
        assert on_disk(premises) == before
        assert (numbers(premises), list(await registered(premises)), await champion(premises)) == ([1], ["1"], "")
        filler.unlink()
        assert (await pushed(premises, large)).version == "2"
