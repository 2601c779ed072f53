"""A damaged model is refused by its sums, a wrong one only by what it predicts; and both by the code that serves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from models.errors import GoldenMismatch, VersionDamaged
from models.registry import load_version, write_version
from region_sim.errors import DrillBroken
from region_sim.faults.damaged_model import copy_newest, damage
from services.inference.engine_options import EngineOptions
from services.inference.errors import ModelRefused
from services.inference.loading import load
from services.inference.settings import InferenceSettings
from services.inference.signature import Buckets

REPOSITORY = InferenceSettings().model_repository
SMALL = Buckets((1,), (64,))


def refused(folder: Path) -> ModelRefused | None:
    """What the worker says to a version."""
    try:
        load(folder, EngineOptions(), SMALL, lambda: 0.0)
    except ModelRefused as problem:
        return problem
    return None


def test_a_copy_serves_until_it_is_damaged(tmp_path: Path) -> None:
    """So it is the damage that is refused. The original is not touched."""
    before = {path: path.read_bytes() for path in sorted((REPOSITORY / "ranker").rglob("*")) if path.is_file()}
    folder = copy_newest(REPOSITORY, "ranker", tmp_path / "models")
    assert refused(folder) is None
    damage(folder, "corrupt")
    problem = refused(folder)
    assert problem is not None
    assert isinstance(problem.__cause__, VersionDamaged)
    assert {path: path.read_bytes() for path in before} == before


def test_a_wrong_model_has_the_right_sums_and_the_wrong_scores(tmp_path: Path) -> None:
    """Only the golden set can tell."""
    folder = copy_newest(REPOSITORY, "ranker", tmp_path / "models")
    damage(folder, "wrong")
    assert load_version(folder).name == "ranker"
    problem = refused(folder)
    assert problem is not None
    assert isinstance(problem.__cause__, GoldenMismatch)


def test_only_the_newest_version_is_copied_and_what_lay_there_is_gone(tmp_path: Path) -> None:
    """A worker that refuses one would serve an older one."""
    repository = tmp_path / "repository"
    shutil.copytree(REPOSITORY / "ranker", repository / "ranker")
    files = {name: (repository / "ranker" / "1" / name).read_bytes() for name in ("model.onnx", "golden.npz")}
    write_version(repository, "ranker", 10, {**files, "metrics.json": b"{}"}, "")
    for _ in range(2):
        folder = copy_newest(repository, "ranker", tmp_path / "models")
        (folder / "more").write_text("")
    assert folder.name == "10"
    assert [path.name for path in (tmp_path / "models" / "ranker").iterdir() if path.is_dir()] == ["10"]
    with pytest.raises(DrillBroken, match="no version that could be damaged"):
        copy_newest(tmp_path, "nothing", tmp_path / "models")
