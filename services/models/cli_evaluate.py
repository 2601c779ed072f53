"""`meridian models evaluate`: how good every baseline and model is on a data set, trained before its split."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from models.errors import GoldenMismatch, ModelError, VersionDamaged
from models.evaluation.command import SPLIT_DEFAULT, EvaluationOptions, Stage
from models.evaluation.command import evaluate as evaluated
from models.evaluation.results import Results
from models.evaluation.trial import Progress as Told
from models.sources import FORMATS
from services.common.exit_codes import ExitCode
from services.replay.errors import ReplayMisused

PIPED_COLUMNS = 140
DataOption = Annotated[str, typer.Option("--data", help="A folder (bestbuy), a file of searches, or shop[:SEED].")]
ModelOption = Annotated[
    list[Path] | None, typer.Option("--model", help="Folder of a version to judge too; repeatable.")
]


def evaluate(
    data: DataOption,
    json: Annotated[bool, typer.Option("--json", help="Print nothing but one JSON object on standard output.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write an HTML file with plots.")] = None,
    details: Annotated[Path | None, typer.Option(help="Write everything that was measured as JSON.")] = None,
    model: ModelOption = None,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Train QHRank before the split.")] = True,
    split: Annotated[float, typer.Option(help="Share of the rows, in time, before the test part.")] = SPLIT_DEFAULT,
    seed: Annotated[int, typer.Option(help="Of training, typos and intervals.")] = 7,
    typos: Annotated[bool, typer.Option("--typos/--no-typos", help="Ask each query again with one typo.")] = True,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}; by default from the path.")] = "",
    map: Annotated[list[str] | None, typer.Option("--map", help="FIELD=COLUMN, repeatable or comma-separated.")] = None,
    items: Annotated[Path | None, typer.Option(help="Catalogue file, where the log has none.")] = None,
    searches: Annotated[int | None, typer.Option(help="Of a made-up shop: how many searches.")] = None,
) -> None:
    """Train on the first rows of a log in time, judge every baseline and model on the last ones.

    Every search of the test part is ranked over the whole catalogue before its click is told. Names that end in +stream
    know what happened since the split, the others do not. Progress goes to standard error.
    """
    try:
        _writable(report, details)
        from services.replay.cli import open_log

        pairs = [pair for entry in map or [] for pair in entry.split(",") if pair]
        source = open_log(data, format, pairs, items, searches)
        options = EvaluationOptions(train=train, versions=model or (), split=split, seed=seed, typos=typos)
        with _progress() as stage:
            results = evaluated(source, options, stage)
    except (VersionDamaged, GoldenMismatch) as error:
        _end(ExitCode.MODEL_REFUSED, str(error))
    except (ModelError, ReplayMisused) as error:
        _end(ExitCode.BAD_SETTINGS, str(error))
    if json:
        print(msgspec.json.encode(results.headline()).decode())
    else:
        from models.evaluation.table import show

        console = Console()
        show(results, console if console.is_terminal else Console(width=PIPED_COLUMNS))
    _write(results, report, details)


def _writable(*paths: Path | None) -> None:
    """Find out now, not after a quarter of an hour, that a file cannot be written."""
    for path in paths:
        if path is None:
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            _end(ExitCode.BAD_SETTINGS, f"{path} cannot be written: {error.strerror}. Next: name another place")


def _write(results: Results, report: Path | None, details: Path | None) -> None:
    from models.evaluation.page import write_page

    try:
        if details is not None:
            details.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
        if report is not None:
            write_page(results, report)
            print(f"report: {report}", file=sys.stderr)
    except OSError as error:
        _end(ExitCode.CRASH, f"a report could not be written: {error}. Next: make room, or name another place")


@contextlib.contextmanager
def _progress() -> Iterator[Stage]:
    """A bar for each stage on a terminal's standard error, else a line for every fifth of it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _in_lines
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:

        def stage(name: str) -> Told:
            task = bars.add_task(name, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield stage


def _in_lines(name: str) -> Told:
    said = -1

    def told(done: int, total: int) -> None:
        nonlocal said
        fifths = done * 5 // max(total, 1)
        if fifths > said:
            said = fifths
            print(f"{name}: {fifths * 20} %", file=sys.stderr, flush=True)

    return told


def _end(code: ExitCode, reason: str) -> NoReturn:
    print(f"meridian models evaluate: {reason}", file=sys.stderr)
    raise typer.Exit(code)
