"""Versions on disk: complete and unchanged, or refused by name."""

from pathlib import Path

import numpy as np
import pytest

from models.errors import GoldenMismatch, VersionDamaged
from models.registry import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    METRICS_FILE,
    MODEL_FILE,
    Golden,
    compare_golden,
    golden_bytes,
    load_version,
    top_places,
    verify_manifest,
    versions,
    write_version,
)

SCORES = np.linspace(1, 0, 24, dtype=np.float32).reshape(2, 12)[:, ::-1].copy()
GOLDEN = Golden({"x": np.arange(6).reshape(2, 3)}, SCORES, top_places(SCORES))


def files(graph: bytes = b"graph") -> dict[str, bytes]:
    """Contents of a version."""
    return {MODEL_FILE: graph, GOLDEN_FILE: golden_bytes(GOLDEN), METRICS_FILE: b'{"mrr": 1}'}


def test_written_and_read_back(tmp_path: Path) -> None:
    """What was written is loaded, in Triton's layout, with nothing half-made beside it."""
    folder = write_version(tmp_path, "ranker", 3, files(), "config")
    version = load_version(folder)
    assert (version.label, version.metrics, version.model_path) == ("ranker/3", {"mrr": 1}, folder / MODEL_FILE)
    assert np.array_equal(version.golden.scores, SCORES) and np.array_equal(
        version.golden.inputs["x"], [[0, 1, 2], [3, 4, 5]]
    )
    assert sorted(path.name for path in (tmp_path / "ranker").iterdir()) == ["3", "config.pbtxt"]
    assert versions(tmp_path, "ranker") == [3] and versions(tmp_path, "other") == []


@pytest.mark.parametrize("name", [MODEL_FILE, GOLDEN_FILE, METRICS_FILE])
@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, damage: str) -> None:
    """One byte more, or no file: refused, and the message says which."""
    folder = write_version(tmp_path, "ranker", 1, files(), "config")
    if damage == "changed":
        with (folder / name).open("ab") as opened:
            opened.write(b" ")
    else:
        (folder / name).unlink()
    with pytest.raises(VersionDamaged, match=name):
        load_version(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"model.onnx": 5}'])
def test_a_bad_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    """Empty, broken, or not listing what belongs to a version."""
    folder = write_version(tmp_path, "ranker", 1, files(), "config")
    (folder / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(VersionDamaged, match=MANIFEST_FILE):
        verify_manifest(folder)


def test_a_version_is_never_changed(tmp_path: Path) -> None:
    """Writing the same again is no change; writing another under its number is refused and leaves the old one."""
    folder = write_version(tmp_path, "ranker", 1, files(), "config")
    assert write_version(tmp_path, "ranker", 1, files(), "config") == folder
    with pytest.raises(VersionDamaged, match="another version"):
        write_version(tmp_path, "ranker", 1, files(b"other graph"), "config")
    assert (folder / MODEL_FILE).read_bytes() == b"graph"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disk full in the middle: no version appears."""

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("models.registry._write_file", full)
    with pytest.raises(OSError, match="No space"):
        write_version(tmp_path, "ranker", 1, files(), "config")
    assert versions(tmp_path, "ranker") == [] and list((tmp_path / "ranker").iterdir()) == []
    with pytest.raises(VersionDamaged, match=METRICS_FILE):
        write_version(tmp_path, "ranker", 1, {MODEL_FILE: b"", GOLDEN_FILE: b""}, "config")


def test_golden_scores_have_a_tolerance_and_order_has_none() -> None:
    """Noise passes; a wrong score, an exchanged pair, another shape and NaN do not."""
    compare_golden(GOLDEN, SCORES + np.float32(5e-5))
    for place, wrong in ((3, 0.01), (0, np.nan)):
        scores = SCORES.copy()
        scores[1, place] += wrong
        with pytest.raises(GoldenMismatch, match=f"golden row 1, candidate {place}"):
            compare_golden(GOLDEN, scores)
    with pytest.raises(GoldenMismatch, match="shape"):
        compare_golden(GOLDEN, SCORES[:1])


def test_near_equals_may_change_places_but_not_others() -> None:
    """Two candidates 5e-5 apart that change places are a mismatch; two that are equal are not."""
    scores = np.array([[0.5, 0.50005, 0.1]], np.float32)
    golden = Golden({}, scores, top_places(scores))
    with pytest.raises(GoldenMismatch, match="place 1"):
        compare_golden(golden, np.array([[0.50004, 0.50001, 0.1]], np.float32))
    equal = np.array([[0.5, 0.5, 0.1]], np.float32)
    compare_golden(Golden({}, equal, top_places(equal)), np.array([[0.5, 0.50002, 0.1]], np.float32))
