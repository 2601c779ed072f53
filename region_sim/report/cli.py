"""`region-sim report`: write a run's report anew, compare two runs, or see the trend of all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from region_sim.errors import BadDrill
from region_sim.exits import Concluded
from region_sim.report import words
from region_sim.report.compare import Comparison, Line, Tolerance, compare, in_order
from region_sim.report.judged import read_verdict
from region_sim.report.pages import CHANGES, comparison_page, trend_page
from region_sim.report.trend import SHOWN, Series, Trend, trend
from region_sim.report.write import JUNIT_FILE, write_report, write_whole

TREND_FILE: Final = "trend.html"
PIPE_WIDTH: Final = 120
EPILOG: Final = (
    "With --compare and --trend: 0 no regression, 1 RTO, RPO or a loss got worse beyond the tolerance, "
    "2 not comparable. Otherwise 0. 254 a wrong option or place."
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report", epilog=EPILOG)(report)


def report(
    directory: Annotated[Path | None, typer.Argument(help="Directory of a run whose report is written anew.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="Hold run B against run A: directories, or their verdict.json."),
    ] = None,
    trend: Annotated[Path | None, typer.Option(help="All runs of a drill: drills/NAME.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the comparison or the trend as a page there.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
    tolerance_seconds: Annotated[float, typer.Option(min=0, help="A time may grow by so much,")] = 0.5,
    tolerance_share: Annotated[float, typer.Option(min=0, help="or by this share of it, whichever is more;")] = 0.1,
    tolerance_events: Annotated[float, typer.Option(min=0, help="RPO and losses by so many events, or that share.")] = (
        10.0
    ),
) -> None:
    """Write a run's report.html and junit.xml anew, compare two runs, or show the trend of all runs of a drill."""
    if sum(one is not None for one in (directory, compare, trend)) != 1:
        raise BadDrill("name one of: the directory of a run, --compare A B, --trend DIR")
    tolerance = Tolerance(seconds=tolerance_seconds, share=tolerance_share, events=tolerance_events)
    if directory is not None:
        if html is not None:
            raise BadDrill("--html is for --compare and --trend: a run's report lies in its directory")
        _report(directory, as_json=json)
    elif compare is not None:
        _compare(compare, tolerance, html, as_json=json)
    elif trend is not None:
        _trend(trend, tolerance, html, as_json=json)


def _report(directory: Path, *, as_json: bool) -> None:
    path = write_report(directory)
    if as_json:
        _print_json({"report": str(path), "junit": str(path.with_name(JUNIT_FILE))})
    else:
        print(path)


def _compare(places: tuple[Path, Path], tolerance: Tolerance, html: Path | None, *, as_json: bool) -> None:
    found = compare(read_verdict(places[0]), read_verdict(places[1]), tolerance)
    if as_json:
        _print_json(found)
    else:
        _show(found)
    if html is not None:
        path = write_whole(html, comparison_page(found).encode())
        if not as_json:
            print(path)
    raise Concluded(found.exit_code)


def _trend(directory: Path, tolerance: Tolerance, html: Path | None, *, as_json: bool) -> None:
    found = trend(directory, tolerance)
    if as_json:
        _print_json(found)
    else:
        _show_trend(found)
    if html is not None or not as_json:
        path = write_whole(html or directory / TREND_FILE, trend_page(found).encode())
        if not as_json:
            print(path)
    raise Concluded(found.exit_code)


def _console() -> Console:
    """As wide as the terminal; into a file or a pipe, wide enough that no figure is cut."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def _show(found: Comparison) -> None:
    console = _console()
    console.print(f"{found.drill}: {found.conclusion}: {found.sentence}", markup=False, highlight=False)
    console.print(f"  before {found.before}", markup=False, highlight=False)
    console.print(f"  after  {found.after}", markup=False, highlight=False)
    if found.lines:
        _lines(console, found.lines)
        console.print(f"  worse means: {found.tolerance.sentence}", markup=False, highlight=False)
    for name, (before, after) in found.parameters.items():
        console.print(f"  parameter {name}: {before} -> {after}", markup=False, highlight=False)


def _lines(console: Console, lines: list[Line]) -> None:
    made = Table()
    for heading in ("figure", "before", "after", "difference", "change"):
        made.add_column(heading, justify="left" if heading in ("figure", "change") else "right")
    for one in in_order(lines):
        if one.figure == "verdict":
            made.add_row("verdict", "", "", "", CHANGES[one.change])
            continue
        difference = "" if one.difference is None else f"{one.difference:+g}"
        shown = [words.said(one.figure, value) for value in (one.before, one.after)]
        made.add_row(words.title_of(one.figure), *shown, difference, CHANGES[one.change])
    console.print(made)


def _show_trend(found: Trend) -> None:
    console = _console()
    for series in found.series:
        console.print(_table(series))
        said = f"{series.drill} on {series.backend}: {series.conclusion}: {series.sentence}"
        console.print(said, markup=False, highlight=False)
        if series.newest is not None:
            worse = [one for one in series.newest.lines if one.change in ("worse", "not comparable")]
            for one in worse:
                console.print(f"  {CHANGES[one.change]}: {one.why}", markup=False, highlight=False)
    for sentence in found.unreadable:
        console.print(f"left out: {sentence}", markup=False, highlight=False)


def _table(series: Series) -> Table:
    made = Table(title=f"{series.drill} on {series.backend}, {len(series.runs)} runs")
    for heading in ("run", "verdict", "seed"):
        made.add_column(heading, no_wrap=True)
    for name in SHOWN:
        made.add_column(name.removesuffix("_seconds").replace("_", " "), justify="right")
    for run in series.runs:
        figures = [words.said(name, run.figures.get(name)) for name in SHOWN]
        made.add_row(run.name, run.verdict, "" if run.seed is None else str(run.seed), *figures)
    return made


def _print_json(shown: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
