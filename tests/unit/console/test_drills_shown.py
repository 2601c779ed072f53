"""Drills as the page lists them, and which of their files it gives out."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.console.drills import RUNS_MAX, Drills


def write(directory: Path, drill: str, run: str, verdict: str | None) -> Path:
    """A run as `region-sim run` leaves it."""
    folder = directory / drill / run
    folder.mkdir(parents=True)
    (folder / "history.jsonl").write_text("{}\n")
    if verdict is not None:
        (folder / "verdict.json").write_text(verdict)
        (folder / "report.html").write_text("<!doctype html>")
    return folder


def test_newest_first_with_verdicts_and_reports(tmp_path: Path) -> None:
    """One that runs now has no verdict; `latest` is no run of its own."""
    said = '{"verdict": "valid", "sentence": "every check holds", "rto_seconds": 2.3, "lost": 0, "seed": 7}'
    done = write(tmp_path, "kill-active", "20260101T100000.000", said)
    (tmp_path / "kill-active" / "latest").symlink_to(done.name)
    write(tmp_path, "wipe", "20260101T110000.000", None)
    found = Drills(tmp_path).look()
    assert [(run.drill, run.verdict) for run in found.runs] == [("wipe", "none"), ("kill-active", "valid")]
    assert found.runs[1].report == "/drills/kill-active/20260101T100000.000/report.html"
    assert (found.runs[1].rto_seconds, found.problem) == (2.3, "")


def test_a_verdict_that_comes_later_is_seen(tmp_path: Path) -> None:
    """What was read is kept only as long as the file is the same."""
    folder = write(tmp_path, "wipe", "20260101T110000.000", None)
    drills = Drills(tmp_path)
    assert drills.look().runs[0].verdict == "none"
    (folder / "verdict.json").write_text('{"verdict": "invalid"}')
    assert drills.look().runs[0].verdict == "invalid"


def test_a_damaged_verdict_is_unknown(tmp_path: Path) -> None:
    """It is not left out, and not taken for valid."""
    write(tmp_path, "wipe", "20260101T110000.000", "{")
    (run,) = Drills(tmp_path).look().runs
    assert run.verdict == "unknown"
    assert "cannot be read" in run.sentence


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    """A page that is open for months must not grow with the campaign."""
    for number in range(RUNS_MAX + 5):
        write(tmp_path, "wipe", f"20260101T1100{number:02d}.000", None)
    drills = Drills(tmp_path)
    assert len(drills.look().runs) == RUNS_MAX
    assert len(drills._known) == RUNS_MAX


def test_no_directory_is_a_sentence(tmp_path: Path) -> None:
    """No drill was run yet."""
    assert "no drill was run" in Drills(tmp_path / "none").look().problem


@pytest.mark.parametrize(
    ("drill", "run", "name"),
    [
        ("..", "drills", "report.html"),
        ("wipe", "..", "report.html"),
        ("wipe", "r1", "history.jsonl"),
        ("wipe", "r1", "../report.html"),
        ("wipe", "r1/../r1", "report.html"),
        (".hidden", "r1", "report.html"),
        ("out", "r1", "report.html"),
    ],
)
def test_no_way_leads_out(tmp_path: Path, drill: str, run: str, name: str) -> None:
    """Neither dots, nor separators, nor links; and only files that are meant to be shown."""
    outside = tmp_path / "outside"
    write(outside, "out", "r1", '{"verdict": "valid"}')
    inside = tmp_path / "drills"
    write(inside, "wipe", "r1", '{"verdict": "valid"}')
    (inside / "out").symlink_to(outside / "out")
    drills = Drills(inside)
    assert drills.file("wipe", "r1", "report.html") is not None
    assert drills.file(drill, run, name) is None
