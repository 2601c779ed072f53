"""What people see of drills and verdicts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from region_sim.checkers.base import Figures
from region_sim.spec import Drill
from region_sim.verdict import Verdict
from services.replay.latency import quantile


def show_drills(drills: Sequence[Drill], *, as_json: bool) -> None:
    """Print the list of drills."""
    if as_json:
        listed = [{"name": drill.name, "summary": drill.summary} for drill in drills]
        print(msgspec.json.format(msgspec.json.encode(listed), indent=2).decode())
        return
    width = max(len(drill.name) for drill in drills) + 2
    for drill in drills:
        print(f"{drill.name:<{width}}{drill.summary}")


def show_verdict(verdict: Verdict) -> None:
    """Print one verdict with its checks and figures."""
    console = Console()
    console.print(f"{verdict.drill}: {verdict.verdict} ({verdict.sentence})", markup=False)
    for finding in verdict.checks:
        console.print(f"  {finding.verdict:<8}{finding.check}: {finding.sentence}", markup=False)
        for example in finding.examples:
            console.print(f"          {example}", markup=False)
    figures = [f"{name} {getattr(verdict, name)}" for name in Figures.__struct_fields__]
    console.print("  " + ", ".join(figures), markup=False, highlight=False)


def show_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Print how the measured times of several runs are distributed."""
    table = Table(title=f"{len(verdicts)} runs")
    for column in ("figure", "p50", "worst"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for name in Figures.__struct_fields__:
        values = sorted(
            value
            for verdict in verdicts
            if isinstance(value := getattr(verdict, name), int | float) and not isinstance(value, bool)
        )
        if values:
            table.add_row(name, f"{quantile(values, 0.5):g}", f"{values[-1]:g}")
    for word in ("valid", "invalid", "unknown"):
        table.add_row(word, str(sum(verdict.verdict == word for verdict in verdicts)), "")
    Console().print(table)
