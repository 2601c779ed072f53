"""What a region's own disk knows of acknowledged ends: after any power loss, at least what somebody was answered on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.own_ends import OwnEnds, OwnEndsDamaged, path_of, read_own_ends

LOG = "east-1.events"


def test_what_was_written_last_is_read(tmp_path: Path) -> None:
    """Also by the next process, which goes on with the older slot."""
    assert read_own_ends(tmp_path, LOG) == {}
    for start in (1, 2, 3):
        ends = OwnEnds(tmp_path, LOG, 2)
        assert read_own_ends(tmp_path, LOG) == ({} if start == 1 else {0: start - 1, 1: 20})
        for end in range(start, start + 1):
            ends.write({0: end, 1: 20})
        ends.close()
    assert read_own_ends(tmp_path, LOG) == {0: 3, 1: 20}
    assert read_own_ends(tmp_path, "east-2.events") == {}


@given(torn_at=st.integers(0, 60), ends=st.integers(1, 5))
def test_a_torn_writing_leaves_the_one_before(
    tmp_path_factory: pytest.TempPathFactory, torn_at: int, ends: int
) -> None:
    """Of the new slot only the first bytes reached the disk; the rest is what was there before."""
    place = tmp_path_factory.mktemp("ends")
    file = OwnEnds(place, LOG, 8)
    for end in range(1, ends + 1):
        file.write(dict.fromkeys(range(8), 1_000 + end))
    before = path_of(place, LOG).read_bytes()
    file.write(dict.fromkeys(range(8), 2_000))
    file.close()
    after = path_of(place, LOG).read_bytes()
    start = (ends + 1) % 2 * (len(after) // 2)
    torn = before[:start] + after[start : start + torn_at] + before[start + torn_at :]
    path_of(place, LOG).write_bytes(torn)
    assert read_own_ends(place, LOG) == dict.fromkeys(range(8), 1_000 + ends)


class Disk:
    """What a power loss would leave of the files that are synced; everything else is in the page cache only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept: dict[Path, bytes] = {}
        self.dies = False
        sync = os.fsync

        def synced(file: int) -> None:
            if self.dies:
                raise KeyboardInterrupt
            sync(file)
            path = Path(f"/proc/self/fd/{file}").readlink()
            self.kept[path] = b"" if path.is_dir() else path.read_bytes()

        monkeypatch.setattr("services.common.own_ends.os.fsync", synced)
        monkeypatch.setattr("services.common.own_ends.os.fdatasync", synced)


def test_what_a_killed_process_left_in_the_page_cache_is_synced_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next writing goes over the last slot that the disk has, and a power loss in it takes both."""
    disk, path = Disk(monkeypatch), path_of(tmp_path, LOG)
    first = OwnEnds(tmp_path, LOG, 1)
    for end in (1, 2):
        first.write({0: end})
    disk.dies = True
    with pytest.raises(KeyboardInterrupt):
        first.write({0: 3})
    first.close()
    disk.dies = False
    second = OwnEnds(tmp_path, LOG, 1)
    on_disk = bytearray(disk.kept[path])
    second.write({0: 4})
    second.close()
    on_disk[:18] = path.read_bytes()[:18]  # all that a power loss left of the fourth
    path.write_bytes(on_disk)
    assert read_own_ends(tmp_path, LOG)[0] >= 2


def test_a_new_file_and_its_new_directory_are_found_after_a_power_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each entry on the way to it is synced."""
    disk = Disk(monkeypatch)
    OwnEnds(tmp_path, LOG, 1).close()
    assert {tmp_path, path_of(tmp_path, LOG).parent} <= disk.kept.keys()


def test_a_torn_first_writing_was_answered_to_nobody(tmp_path: Path) -> None:
    """And what a disk has spoilt is not taken for that."""
    file = OwnEnds(tmp_path, LOG, 1)
    file.write({0: 7})
    path = path_of(tmp_path, LOG)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 + 18] ^= 1
    path.write_bytes(bytes(raw))
    assert read_own_ends(tmp_path, LOG) == {}
    file.write({0: 8})
    file.close()
    assert read_own_ends(tmp_path, LOG) == {0: 8}
    raw = bytearray(path.read_bytes())
    raw[18] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(OwnEndsDamaged, match=r"east-1\.events\.ends is damaged"):
        read_own_ends(tmp_path, LOG)


def test_many_partitions_have_room(tmp_path: Path) -> None:
    """As many as a log may have, with the largest offsets."""
    many = dict.fromkeys(range(1024), 2**63 - 1)
    file = OwnEnds(tmp_path, LOG, 1024)
    file.write(many)
    assert read_own_ends(tmp_path, LOG) == many
    with pytest.raises(OSError, match="do not fit"):
        file.write(dict.fromkeys(range(4096), 2**63 - 1))
    file.close()
