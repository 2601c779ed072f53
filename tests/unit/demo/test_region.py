"""A demonstration's region: it removes only its own directory, and takes down whatever it started."""

import sys
from pathlib import Path

import pytest

from services.demo import region as demo_region
from services.demo.errors import DemoError
from services.demo.region import MARK, remove_previous, running_region


def test_a_strangers_directory_is_refused(tmp_path: Path) -> None:
    """Whatever lies there stays."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    with pytest.raises(DemoError, match="--home"), running_region(precious):
        pass
    assert (precious / "thesis.tex").exists()


def test_its_own_earlier_run_is_removed(tmp_path: Path) -> None:
    """So a demonstration can be run again."""
    home = tmp_path / "region"
    home.mkdir()
    (home / MARK).touch()
    (home / "old").touch()
    remove_previous(home)
    assert not home.exists()
    remove_previous(home)  # nothing there is fine as well


def test_a_region_that_does_not_start_is_taken_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the logs, and the end is asked for all the same."""
    ended: list[Path] = []
    monkeypatch.setattr(demo_region, "take_down", lambda home, environment: ended.append(home))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DemoError, match="logs"), running_region(tmp_path / "region"):
        pass
    assert ended == [tmp_path / "region"]
