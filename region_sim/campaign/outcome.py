"""What a campaign came to: verdicts, coverage, the distribution of RTO and RPO, and the drills that failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from region_sim.campaign.coverage import Coverage
from region_sim.campaign.seeds import SeedResult
from region_sim.checkers.base import VerdictWord, worst
from services.replay.latency import quantile

QUANTILES: Final = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
WORDS: Final[tuple[VerdictWord, ...]] = ("valid", "invalid", "unknown")


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """How measured values are spread; None: nothing was measured."""

    count: int
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    worst: float | None = None


class FailedSeed(msgspec.Struct, frozen=True, kw_only=True):
    """A seed that was not valid."""

    seed: int
    verdict: VerdictWord
    check: str
    sentence: str
    faults: list[str]
    drill_file: str = ""
    """The smallest drill that was found that still fails."""
    command: str = ""
    """Runs that drill."""
    shrunk_to: list[str] = []
    """What is left of the faults."""


class Campaign(msgspec.Struct, frozen=True, kw_only=True):
    """What `campaign.json` holds."""

    verdict: VerdictWord
    sentence: str
    backend: str
    first_seed: int
    seeds: int
    """That were run."""
    workers: int
    seconds: float
    seeds_per_second: float
    virtual_seconds: float
    verdicts: dict[str, int]
    coverage: Coverage
    not_covered: list[str]
    rto_seconds: Distribution
    forecast_errors_seconds: Distribution
    """Without signs: how far off the forecasts were of failovers that the formula speaks of."""
    forecast_bias_seconds: float | None
    """The median of measured less forecast; None: nothing was measured."""
    rpo_events: Distribution
    faults: dict[str, int]
    failed: list[FailedSeed]
    results: list[SeedResult]
    """Of every seed, in order."""


def distribution(values: Iterable[float]) -> Distribution:
    """Quantiles of measured values."""
    ordered = sorted(values)
    if not ordered:
        return Distribution(count=0)
    found = {name: round(float(quantile(ordered, share)), 3) for name, share in QUANTILES}
    return Distribution(count=len(ordered), worst=round(float(ordered[-1]), 3), **found)


def concluded(
    found: Sequence[SeedResult], failed: Sequence[FailedSeed], *, backend: str, workers: int, seconds: float
) -> Campaign:
    """Put the results of all seeds together. What did not occur makes a campaign unknown."""
    coverage = Coverage()
    kinds: Counter[str] = Counter()
    for result in found:
        coverage = coverage.plus(result.coverage)
        kinds.update(result.faults)
    verdicts = Counter(result.verdict for result in found)
    errors = [value for result in found for value in result.forecast_errors_seconds]
    missing = coverage.missing()
    word = worst([*verdicts, *(["unknown"] if missing else [])])  # type: ignore[list-item]
    said = ", ".join(f"{verdicts[name]} {name}" for name in WORDS if verdicts[name])
    sentence = f"{len(found)} seeds: {said or 'none'}"
    if missing:
        sentence += f"; never occurred: {', '.join(missing)}"
    return Campaign(
        verdict=word,
        sentence=sentence,
        backend=backend,
        first_seed=found[0].seed if found else 0,
        seeds=len(found),
        workers=workers,
        seconds=round(seconds, 2),
        seeds_per_second=round(len(found) / seconds, 2) if seconds > 0 else 0.0,
        virtual_seconds=round(sum(result.virtual_seconds for result in found), 1),
        verdicts={name: verdicts[name] for name in WORDS},
        coverage=coverage,
        not_covered=missing,
        rto_seconds=distribution(value for result in found for value in result.rto_seconds),
        forecast_errors_seconds=distribution(abs(value) for value in errors),
        forecast_bias_seconds=round(median(errors), 3) if errors else None,
        rpo_events=distribution(value for result in found for value in result.rpo_events),
        faults=dict(sorted(kinds.items())),
        failed=list(failed),
        results=list(found),
    )


def show(campaign: Campaign) -> None:
    """Print it for people."""
    console = Console(soft_wrap=True)
    table = Table(title=f"{campaign.seeds} seeds from {campaign.first_seed} on, {campaign.backend}")
    for column in ("", "count", "p50", "p90", "p99", "worst"):
        table.add_column(column, justify="right" if column else "left")
    for name, count in campaign.verdicts.items():
        table.add_row(name, str(count))
    table.add_section()
    for name, spread in (
        ("RTO, seconds", campaign.rto_seconds),
        ("error of the RTO forecast", campaign.forecast_errors_seconds),
        ("RPO, events", campaign.rpo_events),
    ):
        cells = ("" if value is None else f"{value:g}" for value in (spread.p50, spread.p90, spread.p99, spread.worst))
        table.add_row(name, str(spread.count), *cells)
    table.add_section()
    for name, count in msgspec.structs.asdict(campaign.coverage).items():
        table.add_row(name.replace("_", " "), str(count))
    console.print(table)
    for failure in campaign.failed:
        console.print(f"seed {failure.seed}: {failure.verdict} ({failure.check}): {failure.sentence}", markup=False)
        if failure.command:
            console.print(f"  smallest: {', '.join(failure.shrunk_to)}\n  {failure.command}", markup=False)
    speed = f"{campaign.seconds:g} s, {campaign.seeds_per_second:g} seeds/s, {campaign.virtual_seconds:g} virtual s"
    console.print(f"{campaign.verdict}: {campaign.sentence} ({speed})", markup=False)
