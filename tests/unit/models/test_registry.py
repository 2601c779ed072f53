"""Versions on disk: complete and unchanged, or refused by name."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.errors import GoldenMismatch, VersionDamaged
from models.registry import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    METRICS_FILE,
    MODEL_FILE,
    SIGNATURE_FILE,
    About,
    Golden,
    compare_golden,
    golden_bytes,
    load_version,
    read_manifest,
    top_places,
    unlisted_files,
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
    (tmp_path / "ranker" / "\N{SUPERSCRIPT TWO}").mkdir()
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


ABOUT = About(trained_on="a shop", frontier={"east-1.events": [7, 9]}, seed=3, code_version="0.1.0", metrics={"mrr": 1})


def test_a_manifest_says_what_a_version_was_made_from(tmp_path: Path) -> None:
    """Beside the sums; without it the manifest is the bare sums of early releases, and both are read."""
    folder = write_version(tmp_path, "ranker", 1, files(), "config", ABOUT)
    manifest = load_version(folder).manifest
    assert (manifest.frontier, manifest.seed, manifest.metrics) == ({"east-1.events": [7, 9]}, 3, {"mrr": 1})
    bare = load_version(write_version(tmp_path, "ranker", 2, files(), "config")).manifest
    assert bare.files == manifest.files
    assert bare.seed is None
    assert write_version(tmp_path, "ranker", 1, files(), "config", ABOUT) == folder
    with pytest.raises(VersionDamaged, match="another version"):
        write_version(tmp_path, "ranker", 1, files(), "config")


def test_a_manifest_names_files_of_its_own_folder_only(tmp_path: Path) -> None:
    """What is fetched by a manifest's names must not lead elsewhere; the signature is the one file beside the list."""
    folder = write_version(tmp_path, "ranker", 1, files(), "config")
    (folder / SIGNATURE_FILE).write_bytes(b"")
    assert unlisted_files(folder) == []
    (folder / "weights.data").write_bytes(b"")
    assert unlisted_files(folder) == ["weights.data"]
    sums = read_manifest(folder)[0].files
    for strange in ("../2/model.onnx", ".hidden", MANIFEST_FILE):
        (folder / MANIFEST_FILE).write_bytes(msgspec.json.encode({**sums, strange: "0" * 64}))
        with pytest.raises(VersionDamaged, match="no file of a version"):
            verify_manifest(folder)
