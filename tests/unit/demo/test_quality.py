"""A quality run may not rank what its model was trained on."""

from pathlib import Path

import pytest

from models.errors import VersionDamaged
from models.registry import GOLDEN_FILE, METRICS_FILE, MODEL_FILE, About, write_version
from services.demo.errors import DemoError
from services.demo.quality import check_frontier

FILES = {MODEL_FILE: b"graph", GOLDEN_FILE: b"golden", METRICS_FILE: b"{}"}


def version(repository: Path, frontier: dict[str, object]) -> Path:
    """A version's folder whose manifest says this frontier."""
    about = About(trained_on="a log", frontier=frontier, seed=7, code_version="1", metrics={})
    return write_version(repository, "ranker", 1, FILES, "", about=about)


def test_training_that_ended_before_is_fine(tmp_path: Path) -> None:
    """The last moment that it saw is before the first search that it ranks."""
    check_frontier(version(tmp_path, {"last_time_ms": 999}), 1000)


@pytest.mark.parametrize("last_ms", [1000, 1001])
def test_training_that_saw_what_it_ranks_is_refused(tmp_path: Path, last_ms: int) -> None:
    """Also when both are of the same millisecond."""
    with pytest.raises(DemoError, match="--last"):
        check_frontier(version(tmp_path, {"last_time_ms": last_ms}), 1000)


@pytest.mark.parametrize("frontier", [{}, {"rows": 3}, {"last_time_ms": "soon"}])
def test_training_that_says_nothing_is_refused(tmp_path: Path, frontier: dict[str, object]) -> None:
    """Unknown is not before."""
    with pytest.raises(DemoError, match="does not say"):
        check_frontier(version(tmp_path, frontier), 1000)


def test_no_version_is_named(tmp_path: Path) -> None:
    """The folder that is meant is in the message."""
    with pytest.raises(VersionDamaged, match="nowhere"):
        check_frontier(tmp_path / "nowhere", 1000)
