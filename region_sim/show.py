"""What people see of drills and verdicts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from region_sim.backends.base import BACKENDS
from region_sim.backends.compose import machine_problem
from region_sim.checkers.base import Figures
from region_sim.faults.refusals import refusal_of
from region_sim.spec import Drill
from region_sim.verdict import Verdict
from services.replay.latency import quantile


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A drill as `region-sim list` shows it."""

    name: str
    backends: list[str]
    """Those that can run it on this machine."""
    refused: dict[str, str]
    """By backend: why it cannot."""
    summary: str


def listed(drill: Drill, no_containers: str | None) -> Listed:
    """A drill, and who can run it; `no_containers` says why this machine cannot break any."""
    refused = {} if no_containers is None else {"compose": no_containers}
    for backend in BACKENDS.values():
        refusal = refusal_of(backend, drill)
        why = next((said for fault in drill.faults if (said := refusal(fault)) is not None), None)
        if why is not None:
            refused[backend] = why
    backends = [name for name in BACKENDS if name not in refused]
    return Listed(name=drill.name, backends=backends, refused=refused, summary=drill.summary)


def show_drills(drills: Sequence[Drill], *, as_json: bool) -> None:
    """Print the list of drills."""
    no_containers = machine_problem()
    found = [listed(drill, no_containers) for drill in drills]
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    width = max(len(one.name) for one in found) + 2
    for one in found:
        print(f"{one.name:<{width}}{', '.join(one.backends):<26}{one.summary}")
    if no_containers is not None:
        print(f"\nno drill on compose: {no_containers}")
    for one in found:
        for backend, why in one.refused.items():
            if why != no_containers:
                print(f"\n{one.name} on {backend}: {why}")


def show_verdict(verdict: Verdict) -> None:
    """Print one verdict with its checks and figures."""
    console = Console()
    console.print(f"{verdict.drill}: {verdict.verdict} ({verdict.sentence})", markup=False, soft_wrap=True)
    for finding in verdict.checks:
        console.print(f"  {finding.verdict:<8}{finding.check}: {finding.sentence}", markup=False, soft_wrap=True)
        for example in finding.examples:
            console.print(f"          {example}", markup=False, soft_wrap=True)
    figures = [f"{name} {getattr(verdict, name)}" for name in Figures.__struct_fields__]
    console.print("  " + ", ".join(figures), markup=False, highlight=False, soft_wrap=True)


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
