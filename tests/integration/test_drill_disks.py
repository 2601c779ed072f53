"""A full disk is a real one: a small one of its own, filled to the last byte."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from region_sim.errors import DrillBroken
from region_sim.faults.plays import play_of
from region_sim.faults.small_disk import is_small_disk, room, small_disks
from region_sim.spec import DiskFull, Wipe
from tests.unit.region_sim.test_faults import scene, site, taken

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="a disk can only be mounted by root"),
]


async def test_a_full_disk_takes_nothing_until_it_is_healed(tmp_path: Path) -> None:
    """Not one byte, by the error that a full disk has; the other site's takes everything."""
    with small_disks(tmp_path, ["east", "west"], mebibytes=2):
        (tmp_path / "east" / "file").write_bytes(b"before")
        play = play_of(scene(tmp_path), DiskFull(), "")
        assert play.region_lost
        assert await play.not_injected() is not None
        await play.inject()
        await taken(play)
        with pytest.raises(OSError, match="No space left") as full, (tmp_path / "east" / "file").open("ab") as file:
            file.write(bytes(8192))
        assert full.value.errno == errno.ENOSPC
        (tmp_path / "west" / "file").write_bytes(bytes(8192))
        assert await play.not_healed() is not None
        # Room that the site made by itself does not last.
        (tmp_path / "east" / "file").unlink()
        assert "can still be written" in (await play.not_injected() or "")
        assert await play.not_injected() is None
        (tmp_path / "east" / ".filler").unlink()
        assert await play.not_healed() is None
        assert room(tmp_path / "east") > 1 << 20


async def test_the_machines_own_disk_is_never_filled(tmp_path: Path) -> None:
    """A drill that was attached to a deployment on it is refused, and nothing is written."""
    (tmp_path / "east").mkdir()
    play = play_of(scene(tmp_path), DiskFull(), "")
    with pytest.raises(DrillBroken, match=r"^refused: .* is on the machine's own disk"):
        await play.inject()
    await play.heal()
    assert list((tmp_path / "east").iterdir()) == []


def test_disks_are_gone_after_the_drill_and_the_logs_of_programs_are_left(tmp_path: Path) -> None:
    """Also when the drill breaks, which is when they are read."""

    def break_off() -> None:
        with small_disks(tmp_path, ["east"], mebibytes=1):
            assert is_small_disk(tmp_path / "east")
            (tmp_path / "east" / "logs").mkdir()
            (tmp_path / "east" / "logs" / "kafka.log").write_text("why")
            (tmp_path / "east" / "big").write_text("data")
            raise DrillBroken

    with pytest.raises(DrillBroken):
        break_off()
    assert not is_small_disk(tmp_path / "east")
    assert [path.name for path in (tmp_path / "east").iterdir()] == ["logs"]
    assert (tmp_path / "east" / "logs" / "kafka.log").read_text() == "why"


async def test_a_site_on_a_disk_of_its_own_can_be_wiped(tmp_path: Path) -> None:
    """It is emptied, and the disk stays."""
    with small_disks(tmp_path, ["east"], mebibytes=2), site(tmp_path, "east") as east:
        (tmp_path / "east" / "kafka" / "logs").mkdir(parents=True)
        play = play_of(scene(tmp_path), Wipe(), "")
        await play.inject()
        for process in east:
            process.wait()
        await taken(play)
        assert is_small_disk(tmp_path / "east")
        assert list((tmp_path / "east").iterdir()) == []


def test_only_root_gets_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is made."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(DrillBroken, match=r"^refused: .*needs root"), small_disks(tmp_path, ["east"]):
        pass
    assert list(tmp_path.iterdir()) == []
