"""Drills that were run, from the directory where `region-sim run` leaves them; nothing in it is ever written here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

RUNS_MAX: Final = 30
VERDICT_FILE: Final = "verdict.json"
REPORT_FILE: Final = "report.html"
HISTORY_FILE: Final = "history.jsonl"
SERVED: Final = {
    REPORT_FILE: "text/html; charset=utf-8",
    VERDICT_FILE: "application/json",
    "junit.xml": "application/xml",
}
"""What of a drill's directory is served, and as what."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERDICT_BYTES_MAX: Final = 4 << 20


class DrillRun(msgspec.Struct, frozen=True, kw_only=True):
    """One drill that was run."""

    drill: str
    run: str
    """Its directory's name: when it began, in UTC."""
    verdict: str
    """`valid`, `invalid`, `unknown`, or `none` while it runs and after it was broken off."""
    sentence: str
    backend: str = ""
    seed: int | None = None
    rto_seconds: float | None = None
    lost: int | None = None
    report: str = ""
    """Where the page finds the report; empty without one."""


class DrillsSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The newest runs, and what kept older ones from being listed."""

    runs: list[DrillRun] = []
    problem: str = "not looked yet"


class _Verdict(msgspec.Struct, frozen=True, kw_only=True):
    verdict: str
    sentence: str = ""
    backend: str = ""
    seed: int | None = None
    rto_seconds: float | None = None
    lost: int | None = None


class Drills:
    """The runs under one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[Path, tuple[int, DrillRun]] = {}
        """A verdict does not change often: it is read again when its time does."""

    def look(self) -> DrillsSeen:
        """Return the newest runs, newest first. Blocking: it reads files."""
        try:
            folders = [
                run
                for drill in self._directory.iterdir()
                if drill.is_dir() and _NAME.fullmatch(drill.name)
                for run in drill.iterdir()
                if _NAME.fullmatch(run.name) and not run.is_symlink() and run.is_dir()
                if (run / VERDICT_FILE).exists() or (run / HISTORY_FILE).exists()
            ]
        except FileNotFoundError:
            return DrillsSeen(problem=f"there is no directory {self._directory}: no drill was run here yet")
        except OSError as error:
            return DrillsSeen(problem=f"{self._directory} cannot be read: {error.strerror}")
        newest = sorted(folders, key=lambda folder: folder.name, reverse=True)[:RUNS_MAX]
        self._known = {folder: known for folder in newest if (known := self._run(folder)) is not None}
        return DrillsSeen(runs=[run for _, run in self._known.values()], problem="")

    def _run(self, folder: Path) -> tuple[int, DrillRun] | None:
        try:
            changed_ns = (folder / VERDICT_FILE).stat().st_mtime_ns
        except OSError:
            changed_ns = 0
        known = self._known.get(folder)
        if known is not None and known[0] == changed_ns != 0:
            return known
        return changed_ns, _read(folder, is_judged=changed_ns != 0)

    def file(self, drill: str, run: str, name: str) -> Path | None:
        """Return a file of a run that may be served, or None: no name is a path, and no link leads out."""
        if name not in SERVED or not _NAME.fullmatch(drill) or not _NAME.fullmatch(run):
            return None
        root = self._directory.resolve()
        path = (root / drill / run / name).resolve()
        return path if path.is_relative_to(root) and path.is_file() else None


def _read(folder: Path, *, is_judged: bool) -> DrillRun:
    drill, run = folder.parent.name, folder.name
    report = f"/drills/{drill}/{run}/{REPORT_FILE}" if (folder / REPORT_FILE).exists() else ""
    if not is_judged:
        return DrillRun(drill=drill, run=run, verdict="none", sentence="it runs now, or was broken off", report=report)
    try:
        path = folder / VERDICT_FILE
        if path.stat().st_size > _VERDICT_BYTES_MAX:
            raise ValueError(f"it is larger than {_VERDICT_BYTES_MAX} bytes")
        said = msgspec.json.decode(path.read_bytes(), type=_Verdict)
    except (OSError, msgspec.DecodeError, ValueError) as error:
        sentence = f"its {VERDICT_FILE} cannot be read ({error})"
        return DrillRun(drill=drill, run=run, verdict="unknown", sentence=sentence, report=report)
    return DrillRun(
        drill=drill,
        run=run,
        verdict=said.verdict,
        sentence=said.sentence,
        backend=said.backend,
        seed=said.seed,
        rto_seconds=said.rto_seconds,
        lost=said.lost,
        report=report,
    )
