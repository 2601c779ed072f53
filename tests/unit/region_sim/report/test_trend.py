"""The trend of all runs of a drill shows when the newest became worse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from region_sim.report.compare import Tolerance
from region_sim.report.errors import NoVerdict
from region_sim.report.pages import trend_page
from region_sim.report.trend import Trend, trend
from tests.support.drilled_run import write_run
from tests.support.page_reader import read, rows_of


def runs(directory: Path, *found: dict[str, Any]) -> Trend:
    """The trend of runs with these figures, oldest first; `latest` leads to the newest as it does in life."""
    for number, changes in enumerate(found):
        newest = write_run(directory / f"20261121T10{number:02d}00.000", [], failovers=[], **changes)
    (directory / "latest").symlink_to(newest.name)
    return trend(directory, Tolerance())


def rto(*seconds: float | None) -> list[dict[str, Any]]:
    """Runs that differ in their RTO."""
    return [{"rto_seconds": value} for value in seconds]


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (rto(4.0, 4.1, 3.9, 4.2), 0),
        (rto(4.0, 4.1, 3.9, 6.0), 1),
        (rto(4.0, 4.1, 99.0, 3.9, 6.0), 1),
        (rto(4.0, 4.1, 6.0, 4.0), 0),
        (rto(4.0, 4.1, None), 2),
        (rto(4.0), 2),
        ([{"verdict": "invalid"}, {}], 2),
        ([*rto(4.0, 4.0), {"verdict": "invalid"}], 1),
        ([*rto(4.0, 4.0), {"verdict": "unknown"}], 2),
        ([*rto(4.0, 4.0), {"backend": "memory", "rto_seconds": 12.0}], 0),
        ([{"backend": "memory", "rto_seconds": 12.0}, *rto(4.0, 9.0)], 1),
    ],
)
def test_the_newest_run_is_held_against_the_median_of_those_before(
    tmp_path: Path, found: list[dict[str, Any]], code: int
) -> None:
    """Per backend, against valid runs only; one bad run among them hides nothing."""
    assert runs(tmp_path, *found).exit_code == code


def test_the_page_shows_every_run_and_the_target(tmp_path: Path) -> None:
    """A picture with a sign for each verdict, and the same as a table, newest first."""
    found = runs(tmp_path, *rto(4.0, 4.2), {"verdict": "invalid", "rto_seconds": 5.0}, *rto(None, 6.5))
    page = read(trend_page(found))
    rows = rows_of(page, "Runs, newest first")
    assert [row[3] for row in rows] == ["6.50 s", "not known", "5.00 s", "4.20 s", "4.00 s"]
    assert rows[2][1] == "✗ invalid"
    assert len(page.classed("target-line")) == 2
    assert len([node for node in page.classed("run") if node.attributes.get("transform")]) == 2 * 4
    assert "1 run without a measured RTO" in page.text
    assert next(page.every("h1")).text == "regression"


def test_a_run_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """It is left out, and not in silence."""
    (tmp_path / "20261121T090000.000").mkdir()
    (tmp_path / "20261121T090000.000" / "verdict.json").write_bytes(b"{")
    found = runs(tmp_path, *rto(4.0, 4.0))
    assert found.exit_code == 0
    assert len(found.series[0].runs) == 2
    assert "is no verdict" in found.unreadable[0]
    assert "is no verdict" in read(trend_page(found)).text


def test_a_place_without_runs_is_named(tmp_path: Path) -> None:
    """The error says which directory is meant."""
    with pytest.raises(NoVerdict, match="drills/NAME"):
        trend(tmp_path, Tolerance())
    with pytest.raises(NoVerdict, match="cannot be read"):
        trend(tmp_path / "nothing", Tolerance())
