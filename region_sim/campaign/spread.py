"""One drill many times: how RTO, RPO and the other measured times are spread, and what leaked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from region_sim.campaign.outcome import WORDS, Distribution, distribution
from region_sim.checkers.base import VerdictWord, worst

FIGURES: Final = ("rto_seconds", "rpo_events", "gap_seconds", "heal_seconds", "run_seconds")


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    seed: int
    verdict: VerdictWord
    sentence: str
    directory: str
    run_seconds: float
    """From its start to its verdict, in a deployment that was up."""
    rto_seconds: float | None = None
    rpo_events: int | None = None
    gap_seconds: float | None = None
    heal_seconds: float | None = None
    leaks: list[str] = []


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """What `campaign.json` holds."""

    verdict: VerdictWord
    sentence: str
    backend: str
    drill: str
    runs: int
    verdicts: dict[str, int]
    distributions: dict[str, Distribution]
    leaks: list[str]
    """Of all runs, and of the deployment after its end. One is enough for the verdict to be invalid."""
    results: list[RunResult]


def spread_of(drill: str, results: Sequence[RunResult], leaks_at_the_end: Sequence[str]) -> Spread:
    """Put the results of all runs together."""
    verdicts = Counter(result.verdict for result in results)
    leaks = [f"seed {result.seed}: {leak}" for result in results for leak in result.leaks] + list(leaks_at_the_end)
    words: list[VerdictWord] = [result.verdict for result in results]
    said = ", ".join(f"{verdicts[name]} {name}" for name in WORDS if verdicts[name])
    sentence = f"{len(results)} runs of {drill}: {said or 'none'}; {len(leaks)} leaks"
    return Spread(
        verdict="invalid" if leaks else worst(words),
        sentence=sentence,
        backend="process",
        drill=drill,
        runs=len(results),
        verdicts={name: verdicts[name] for name in WORDS},
        distributions={
            name: distribution(value for result in results if (value := getattr(result, name)) is not None)
            for name in FIGURES
        },
        leaks=leaks,
        results=list(results),
    )


def show(spread: Spread) -> None:
    """Print it for people."""
    console = Console(soft_wrap=True)
    table = Table(title=f"{spread.runs} runs of {spread.drill}")
    for column in ("", "count", "p50", "p90", "p99", "worst"):
        table.add_column(column, justify="right" if column else "left")
    for name, found in spread.distributions.items():
        cells = ("" if value is None else f"{value:g}" for value in (found.p50, found.p90, found.p99, found.worst))
        table.add_row(name, str(found.count), *cells)
    console.print(table)
    for result in spread.results:
        if result.verdict != "valid":
            console.print(f"seed {result.seed}: {result.verdict}: {result.sentence} ({result.directory})", markup=False)
    for leak in spread.leaks:
        console.print(f"leaked: {leak}", markup=False)
    console.print(f"{spread.verdict}: {spread.sentence}", markup=False)
