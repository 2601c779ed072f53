"""`region-sim calibrate`: what past drills say of the controllers' forecast, as a file that controllers read.

A drill says what was forecast right before its fault, and what was then measured. What is left when the correction of
that day is taken out again is the formula's own error; its median over the drills becomes the next correction. Only
failovers count that the formula speaks of: a whole active region lost, and nothing else beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from region_sim.checkers.base import Failover
from region_sim.errors import BadDrill
from region_sim.verdict import VERDICT_FILE
from services.common.clock import SystemClock
from services.controller.calibration import CALIBRATION_FILE, DRILLS_MIN, VIRTUAL, Calibration, calibration_of
from streams.errors import DECODE_ERRORS


class _File(msgspec.Struct, frozen=True):
    """What is read of a verdict."""

    backend: str = ""
    failovers: list[Failover] = []


class Residuals(msgspec.Struct, frozen=True, kw_only=True):
    """Measured RTO less the formula, in seconds."""

    kinds: dict[str, list[float]]
    """By the kind of fault."""
    verdicts: int
    """Files that were read of the wanted backend."""
    left_out: int
    """Failovers that were forecast, or measured, but not both, or of which the formula does not speak."""


def calibrate(
    directories: Annotated[
        list[Path] | None, typer.Argument(help="Where drills lie, at any depth (default: drills).")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help=f"Write the file that controllers read: DATA_DIR/{CALIBRATION_FILE} of a deployment."),
    ] = None,
    backend: Annotated[
        str, typer.Option(help="Only drills of this backend: virtual time says nothing about machines.")
    ] = "process",
    json: Annotated[bool, typer.Option("--json", help="Print the calibration as JSON, and nothing else.")] = False,
) -> None:
    """Correct the forecast of failovers by past drills: the median of measured minus formula, by kind of fault.

    Controllers read the file when they start: restart them one after the other.
    """
    if out is not None and backend == VIRTUAL:
        raise BadDrill(
            "drills in virtual time do not calibrate controllers: they say nothing about machines. Leave --out out to "
            "look at them, or name another --backend"
        )
    found = residuals_of(verdict_files(directories or [Path("drills")]), backend)
    if not any(found.kinds.values()):
        raise BadDrill(
            f"no failover of a {backend} drill was both forecast and measured ({found.verdicts} verdicts read, "
            f"{found.left_out} failovers left out). Run `region-sim run kill-active --backend {backend}` a few times, "
            "and name the directory that it wrote to"
        )
    calibration = calibration_of(found.kinds, backend=backend, made_ms=SystemClock().unix_ms())
    if out is not None:
        _write(calibration, out)
    if json:
        print(msgspec.json.format(msgspec.json.encode(calibration), indent=2).decode())
        return
    _show(calibration, found)
    if out is not None:
        print(out)


def verdict_files(directories: Sequence[Path]) -> Iterator[Path]:
    """Every verdict below, once: `latest` leads to one that is there under its own name. Raises BadDrill."""
    seen: set[Path] = set()
    for directory in directories:
        if not directory.is_dir():
            raise BadDrill(f"{directory} is no directory. Name one that `region-sim run --out` wrote to")
        for path in sorted(directory.rglob(VERDICT_FILE)):
            real = path.resolve()
            if real not in seen:
                seen.add(real)
                yield real


def residuals_of(files: Iterable[Path], backend: str) -> Residuals:
    """Read verdicts; one that cannot be read, or says nothing of forecasts, is left out."""
    kinds: defaultdict[str, list[float]] = defaultdict(list)
    verdicts = left_out = 0
    for path in files:
        try:
            judged = msgspec.json.decode(path.read_bytes(), type=_File)
        except (OSError, *DECODE_ERRORS):
            continue
        if judged.backend != backend:
            continue
        verdicts += 1
        for failover in judged.failovers:
            residual = residual_of(failover)
            if residual is None:
                left_out += 1
            else:
                kinds[failover.cause.split()[0]].append(residual)
    return Residuals(kinds=dict(kinds), verdicts=verdicts, left_out=left_out)


def residual_of(failover: Failover) -> float | None:
    """Measured less formula; None when one is not known, or the formula does not speak of it."""
    said = failover.forecast
    if failover.within is None or failover.rto_seconds is None or said is None or not failover.cause:
        return None
    return round(failover.rto_seconds - (said.seconds - said.correction_seconds), 3)


def _write(calibration: Calibration, out: Path) -> None:
    """Whole or not at all."""
    beside = out.with_name(f"{out.name}.new")
    try:
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(calibration), indent=2) + b"\n")
        beside.replace(out)
    except OSError as error:
        raise BadDrill(f"the calibration cannot be written to {out}: {error.strerror}") from error


def _show(calibration: Calibration, found: Residuals) -> None:
    console = Console(soft_wrap=True)
    table = Table(title="Measured RTO less the formula, in seconds")
    for column in ("fault", "drills", "median", "lowest", "highest", "mean error", "worst error"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    for kind, one in calibration.kinds.items():
        errors = ("" if value is None else f"{value:.2f}" for value in (one.error_seconds, one.error_seconds_max))
        values = (f"{value:+.2f}" for value in (one.median_seconds, one.low_seconds, one.high_seconds))
        table.add_row(kind, str(one.drills), *values, *errors)
    console.print(table)
    console.print(
        f"{found.verdicts} verdicts of {calibration.backend} drills; {found.left_out} failovers left out. Errors are "
        "those of each drill, forecast from all others.",
        markup=False,
    )
    if calibration.correction().drills == 0:
        console.print(f"Controllers are not corrected by fewer than {DRILLS_MIN} drills: run some more.", markup=False)
