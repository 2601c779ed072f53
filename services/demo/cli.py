"""`meridian quality`, and where `meridian demo` went."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from models.errors import ModelError
from services.client import MeridianError
from services.common.exit_codes import ExitCode
from services.demo.errors import DemoError
from services.demo.quality import QualityOptions, run_quality
from services.ledger.errors import LedgerError
from services.replay.cli import open_log
from services.replay.errors import ReplayError
from services.replay.progress import ProgressBoard
from services.replay.report import show as show_report

KNOWN_ERRORS = (DemoError, ReplayError, ModelError, MeridianError, LedgerError)
QUALITY_SEARCHES = 20_000
"""How many searches the made-up shop has in a quality run."""

DataOption = Annotated[str, typer.Option(help="Log to use: a folder (bestbuy), a file, or shop[:SEED].")]


def demo() -> None:
    """Say what became of this command."""
    print(
        "meridian demo: it is a drill now. Run `make demo`, or `region-sim run wipe-active --set load.source=replay "
        "--out runs/demo`, with `--set load.data=DIRECTORY` for a real log.",
        file=sys.stderr,
    )
    raise typer.Exit(ExitCode.BAD_SETTINGS)


def quality(
    data: DataOption = "shop",
    home: Annotated[Path, typer.Option(help="Where the region's files and the figures go.")] = Path("runs/quality"),
    searches: Annotated[int | None, typer.Option(help="Look only at the first N searches.")] = None,
    last: Annotated[
        int | None, typer.Option(min=1, help="Rank only the last N of them; the earlier ones are published in bulk.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Folder of a version to rank with, trained on earlier searches only.")
    ] = None,
    wave: Annotated[int, typer.Option(help="Searches that are ranked together; 1: strictly one by one.")] = 16,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Rank every search of a log before its click is published, and compare with two baselines by quarter.

    Exit code 0 if our MRR@5 is above that of both.
    """
    with ended_by_signals(), reported("quality"), ProgressBoard() as board:
        source = open_log(data, "", [], None, searches or QUALITY_SEARCHES)
        report = run_quality(source, QualityOptions(home, searches, last, model, wave), board)
    path = write_json(home / "summary.json", report)
    if json:
        print(path.read_text())
    else:
        show_report(report, Console())
        print(f"\nAll of it: {path}")
    won = report.quality is not None and all(gap.difference > 0 for gap in report.quality.gaps.values())
    raise typer.Exit(0 if won and report.complete else 1)


def write_json(path: Path, found: msgspec.Struct) -> Path:
    """Write a result in one piece; a number that was not measured (NaN) becomes null."""
    beside = path.with_suffix(".new")
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    beside.replace(path)
    return path


@contextmanager
def reported(command: str) -> Iterator[None]:
    """Turn foreseen errors into one line and exit code 2."""
    try:
        yield
    except KNOWN_ERRORS as error:
        _fail(command, error)
    except BaseExceptionGroup as group:
        known, unknown = group.split(KNOWN_ERRORS)
        if known is None or unknown is not None:
            raise
        _fail(command, known.exceptions[0])


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """A SIGTERM or a hang-up ends the command like Ctrl-C does, so that the region is taken down."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt(f"signal {number}")

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fail(command: str, error: BaseException) -> None:
    print(f"meridian {command}: {error}", file=sys.stderr)
    raise typer.Exit(2)
