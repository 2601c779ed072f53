"""The files of a report, written beside a drill's history and verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from region_sim.history import read_history
from region_sim.report.errors import ReportFailed
from region_sim.report.gather import gather
from region_sim.report.judged import read_verdict
from region_sim.report.junit import junit
from region_sim.report.page import page
from region_sim.verdict import HISTORY_FILE

REPORT_FILE: Final = "report.html"
JUNIT_FILE: Final = "junit.xml"


def write_report(directory: Path) -> Path:
    """Write `report.html` and `junit.xml` from `history.jsonl` and `verdict.json`; return the path of the first.

    Without a readable history, the page says so and shows the verdict. Raises NoVerdict when there is none,
    ReportFailed when a file cannot be written.
    """
    judged = read_verdict(directory)
    try:
        observed = gather(read_history(directory / HISTORY_FILE))
        machines, people = junit(judged, observed), page(judged, observed, directory).encode()
    except Exception as error:
        # The verdict stands whatever its report does: a bug of the page must not end the command that judged.
        raise ReportFailed(f"{directory}: a bug of the report: {type(error).__name__}: {error}") from error
    write_whole(directory / JUNIT_FILE, machines)
    return write_whole(directory / REPORT_FILE, people)


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file in one piece: who reads meanwhile sees the old one. Raises ReportFailed."""
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ReportFailed(f"{path} cannot be written: {error.strerror}") from error
    return path
