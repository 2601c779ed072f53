"""A snapshot on its way to another region arrives whole, or not at all."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from streams.digest import digest
from streams.fold import Fold
from streams.frame import decode_frame, encode_frame, frame_headers
from streams.snapshot import load, newest, save
from streams.snapshot_tar import TransferError, pack, unpack
from streams.state import State
from tests.support.frames import KEY_FINGERPRINT, event_rows, item_rows


def saved(directory: Path) -> State:
    """A state with a catalogue, written down twice."""
    state = State()
    fold = Fold(state)
    for offset, rows in enumerate([event_rows(50, seed=1), item_rows(10), event_rows(50, seed=2)]):
        fold.apply(
            decode_frame(encode_frame(rows), frame_headers(len(rows), KEY_FINGERPRINT)), "a-1.events", 0, offset, 7, 0
        )
        save(state, directory)
    return state


def test_what_arrives_is_the_newest_state(tmp_path: Path) -> None:
    """Digest, frontier and catalogue; files of older snapshots stay behind."""
    state = saved(tmp_path / "there")
    archive = tmp_path / "archive.tar"
    archive.write_bytes(b"".join(pack(tmp_path / "there")))
    unpack(archive, tmp_path / "here")
    found = load(tmp_path / "here", state.parameters)
    assert found is not None
    assert digest(found).hex() == digest(state).hex()
    assert (found.frontier, found.points) == (state.frontier, state.points)
    assert not (tmp_path / "here" / ".incoming").exists()


def test_a_snapshot_that_is_swept_away_meanwhile_arrives_all_the_same(tmp_path: Path) -> None:
    """Its files were opened before the first byte was sent."""
    state = saved(tmp_path / "there")
    chunks = pack(tmp_path / "there")
    first = next(chunks)
    for path in [*(tmp_path / "there").glob("units/*"), *(tmp_path / "there").glob("*.json")]:
        path.unlink()
    (tmp_path / "archive.tar").write_bytes(first + b"".join(chunks))
    unpack(tmp_path / "archive.tar", tmp_path / "here")
    assert load(tmp_path / "here", state.parameters) is not None


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.95])
def test_a_transfer_that_was_cut_short_leaves_no_snapshot(tmp_path: Path, part: float) -> None:
    """Wherever it broke off."""
    saved(tmp_path / "there")
    whole = b"".join(pack(tmp_path / "there"))
    archive = tmp_path / "archive.tar"
    archive.write_bytes(whole[: int((len(whole) - 1024) * part)])
    with pytest.raises(TransferError):
        unpack(archive, tmp_path / "here")
    assert newest(tmp_path / "here") is None


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "units/../../evil", "snapshot-1.json", "units/x.arrow"])
def test_names_that_no_snapshot_has_are_refused(tmp_path: Path, name: str) -> None:
    """Nothing is written outside."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"bad"))
    (tmp_path / "archive.tar").write_bytes(sink.getvalue())
    with pytest.raises(TransferError, match="does not belong"):
        unpack(tmp_path / "archive.tar", tmp_path / "here")
    assert not (tmp_path / "evil").exists()


def test_without_a_snapshot_nothing_is_sent(tmp_path: Path) -> None:
    """The asker is told before."""
    with pytest.raises(FileNotFoundError):
        next(pack(tmp_path))
