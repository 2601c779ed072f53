"""`region-sim report` writes, compares and shows trends, and its exit codes mean what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from region_sim.cli import run_command
from tests.support.drilled_run import write_run


def test_a_report_is_written_anew_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its path is the last line; as JSON, both files."""
    run = write_run(tmp_path)
    assert run_command(["report", str(run)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(run / "report.html")
    assert run_command(["report", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(run / "report.html"), "junit": str(run / "junit.xml")}
    assert (run / "report.html").stat().st_size > 10_000


def test_two_runs_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By directory or by file; the tolerance is what the options say."""
    before, after = write_run(tmp_path / "a", []), write_run(tmp_path / "b", [], rto_seconds=5.5)
    both = ["report", "--compare", str(before), str(after / "verdict.json")]
    page = tmp_path / "page.html"
    assert run_command([*both, "--html", str(page)]) == 1
    said = capsys.readouterr().out
    assert "regression: RTO is 5.50 s, and was 4.00 s" in said
    assert said.splitlines()[-1] == str(page)
    assert "<h1>regression</h1>" in page.read_text()
    assert run_command([*both, "--tolerance-seconds", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["conclusion"] == "no regression"
    other = write_run(tmp_path / "c", [], drill="other")
    assert run_command(["report", "--compare", str(before), str(other)]) == 2
    assert "they are of two drills" in capsys.readouterr().out


def test_all_runs_of_a_drill_are_a_trend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table, a page beside the runs, and JSON without a page."""
    for number, seconds in enumerate((4.0, 4.1, 7.0)):
        write_run(tmp_path / f"run-{number}", [], rto_seconds=seconds)
    assert run_command(["report", "--trend", str(tmp_path), "--json"]) == 1
    assert [run["figures"]["rto_seconds"] for run in json.loads(capsys.readouterr().out)["series"][0]["runs"]] == [
        4.0,
        4.1,
        7.0,
    ]
    assert not (tmp_path / "trend.html").exists()
    assert run_command(["report", "--trend", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "RTO is 7.00 s, and was 4.05 s" in said
    assert said.splitlines()[-1] == str(tmp_path / "trend.html")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name one of"),
        (["HERE", "--trend", "HERE"], "name one of"),
        (["HERE", "--html", "x.html"], "--html is for"),
        (["HERE"], "judge DIRECTORY"),
        (["--compare", "HERE", "HERE"], "judge DIRECTORY"),
        (["--trend", "HERE"], "drills/NAME"),
        (["--compare", "HERE"], "--compare"),
    ],
)
def test_what_cannot_be_reported_is_254_with_the_reason(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options that contradict each other, and places without a verdict."""
    assert run_command(["report", *(str(tmp_path) if one == "HERE" else one for one in arguments)]) == 254
    assert words in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_255(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the file; nothing half-written stays."""
    run = write_run(tmp_path)
    (run / "report.html").mkdir()
    assert run_command(["report", str(run)]) == 255
    assert "report.html cannot be written" in capsys.readouterr().err
    assert not list(run.glob("*.new"))
