"""`meridian models compress`: a version made smaller in gated steps, and the table of what each was worth."""

import logging
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import msgspec
import typer

from models.errors import ModelError, VersionDamaged
from models.sources import FORMATS
from services.common.exit_codes import ExitCode
from services.replay.errors import ReplayMisused

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.compression.command import Compressed

Version = Annotated[str, typer.Argument(help="A version's folder, or the number of one in the region's repository.")]
DataOption = Annotated[str, typer.Option("--data", help="A folder (bestbuy), a file of searches, or shop[:SEED].")]
OutOption = Annotated[Path, typer.Option("--out", help="The repository to write accepted versions into.")]
CasesOption = Annotated[
    Path | None, typer.Option("--cases", help="File of the walked log: read if there, else written.")
]


def compress(
    version: Version,
    data: DataOption,
    steps: Annotated[str, typer.Option(help="Any of these, in this order.")] = "student,prune,int8,fp16",
    out: OutOption = Path("var/compressed"),
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; progress goes to standard error.")
    ] = False,
    first: Annotated[float, typer.Option(help="Where the rows to judge by begin, a share of the log.")] = 0.8,
    end: Annotated[float, typer.Option(help="Where they end, at most 0.9.")] = 0.9,
    fall_max: Annotated[float, typer.Option(help="By how much NDCG@10 may fall.")] = 0.003,
    seen_rows: Annotated[bool, typer.Option(help="Judge even by rows that the version learned from.")] = False,
    keep_refused: Annotated[Path | None, typer.Option(help="Another repository, for what is refused.")] = None,
    cases: CasesOption = None,
    seed: Annotated[int, typer.Option(help="Of the student.")] = 7,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}; by default from the path.")] = "",
    map: Annotated[list[str] | None, typer.Option("--map", help="FIELD=COLUMN, repeatable or comma-separated.")] = None,
    items: Annotated[Path | None, typer.Option(help="Catalogue file, where the log has none.")] = None,
    searches: Annotated[int | None, typer.Option(help="Of a made-up shop: how many searches.")] = None,
) -> None:
    """Make a version smaller: a student, fewer hidden units, int8, fp16. Each step is judged before it is written.

    Exit code 68: at least one step was refused; those that passed are written all the same.
    """
    try:
        from models.compression.command import CompressionRun, Surroundings, checked_steps
        from models.compression.command import compress as compressed
        from models.compression.gate import Limits
        from services.replay.cli import open_log

        logging.getLogger().setLevel(logging.ERROR)  # the quantiser recommends its preprocessing on every run
        wanted = checked_steps(steps)
        _installed(wanted)
        pairs = [pair for entry in map or [] for pair in entry.split(",") if pair]
        source = open_log(data, format, pairs, items, searches)
        run = CompressionRun(
            folder=_folder(version),
            repository=out,
            steps=wanted,
            held_out=(first, end),
            limits=Limits(fall_max=fall_max),
            seed=seed,
            keep_refused=keep_refused,
            seen_rows=seen_rows,
            cases=cases,
        )
        around = Surroundings(
            prove, time.thread_time, _tenths("walking the log"), _tenths("teaching the student"), _say
        )
        found = compressed(source, run, around)
    except VersionDamaged as error:
        _end(ExitCode.MODEL_REFUSED, str(error))
    except (ModelError, ReplayMisused) as error:
        _end(ExitCode.BAD_SETTINGS, str(error))
    print(msgspec.json.format(msgspec.json.encode(found), indent=1).decode()) if json else _table(found)
    if found.refused_steps:
        _end(ExitCode.MODEL_REFUSED, f"refused: {', '.join(found.refused_steps)}; what passed is in {out}")


def prove(folder: Path) -> None:
    """Everything that a worker checks before a version serves, but the signature, which pushing adds.

    Raises VersionDamaged.
    """
    from services.inference.engine_options import Device, EngineOptions
    from services.inference.errors import ModelRefused
    from services.inference.loading import load
    from services.inference.settings import InferenceSettings
    from services.inference.signature import Buckets

    settings = InferenceSettings()
    buckets = Buckets(settings.batch_buckets, settings.candidate_buckets)
    try:
        load(folder, EngineOptions(device=Device.CPU), buckets, time.monotonic)
    except ModelRefused as refused:
        raise VersionDamaged(str(refused)) from refused


def _folder(version: str) -> Path:
    if Path(version).is_dir():
        return Path(version)
    if not version.isdigit():
        raise VersionDamaged(f"{version} is neither a folder nor a version's number")
    from services.common.settings import SettingsError
    from services.models.errors import RegistryError
    from services.models.premises import find

    try:
        return find(None).folder(version)
    except (SettingsError, RegistryError) as error:
        raise VersionDamaged(f"version {version} was not found: {error}") from error


def _installed(steps: tuple[str, ...]) -> None:
    if {"student", "prune"} & set(steps) and find_spec("torch") is None:
        _end(ExitCode.BAD_SETTINGS, "torch is not installed. Next: `make train-env` adds it, or --steps int8,fp16")
    if find_spec("onnx") is None:
        _end(ExitCode.BAD_SETTINGS, "onnx is not installed. Next: `make train-env` adds it to .venv")


def _table(found: "Compressed") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{found.first}, judged by rows {found.held_out_rows[0]} to {found.held_out_rows[1]}")
    columns = "step", "way", "version", "bytes", "ms, 1", "ms, 8", "x parent", "NDCG@10", "change", "MRR@5", "change"
    for column in (*columns, "top 1", "same ten", "tau", "verdict"):
        table.add_column(column)
    for line in found.lines:
        verdict, paces = line.verdict, line.paces
        table.add_row(
            line.step, line.way, line.version, f"{line.bytes:,}", *(f"{pace.ms:.2f}" for pace in paces),
            " / ".join(f"{pace.ratio:.2f}" for pace in paces), f"{verdict.ndcg_at_10:.4f}",
            f"{verdict.ndcg_change.mean:+.4f}", f"{verdict.mrr_at_5:.4f}", f"{verdict.mrr_change.mean:+.4f}",
            f"{verdict.agreement.same_best:.3f}", f"{verdict.same_ten:.3f}", f"{verdict.agreement.kendall_tau:.3f}",
            f"refused: {line.refused}" if line.refused else "passed",
        )  # fmt: skip
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)


def _tenths(what: str) -> "Callable[[int, int], None]":
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        tenth = done * 10 // max(total, 1)
        if tenth != told:
            told = tenth
            _say(f"{what}: {tenth * 10} %")

    return tell


def _say(sentence: str) -> None:
    print(f"  {sentence}", file=sys.stderr, flush=True)


def _end(code: ExitCode, reason: str) -> NoReturn:
    print(f"meridian models compress: {reason}", file=sys.stderr)
    raise typer.Exit(code)
