"""An evaluation as tables in a terminal."""

from rich import box
from rich.console import Console
from rich.table import Table

from models.evaluation.entrants import FED
from models.evaluation.intervals import Estimate
from models.evaluation.metrics import HEADLINE
from models.evaluation.results import LEAD_METRIC, Results, compared

LABELS = {
    "mrr_at_5": "MRR@5",
    "ndcg_at_10": "NDCG@10",
    "recall_at_10": "recall@10",
    "auc": "AUC",
    "precision_at_1": "P@1",
    "precision_at_5": "P@5",
    "recall_at_5": "recall@5",
    "f1_at_5": "F1@5",
    "map_at_10": "MAP@10",
    "mrr_at_10": "MRR@10",
}
"""Metric -> how people write it."""


def show(results: Results, console: Console) -> None:
    """Print the whole, the slices and the leads."""
    console.print(sentence(results))
    console.print(_whole(results))
    console.print(_slices(results))
    for line in leads(results):
        console.print(line)
    for note in results.notes:
        console.print(f"Note: {note}")


def sentence(results: Results) -> str:
    """What was judged, in words."""
    outside = f" {results.outside} clicked items are in no catalogue and count 0 for everybody." * bool(results.outside)
    return (
        f"{results.source}: {results.rows:,} rows, the first {results.learned_from:,} to learn from; "
        f"{results.searches:,} searches after them ranked over all {results.items:,} items, each before its click was "
        f"told.{outside}"
    )


def with_interval(estimate: Estimate) -> str:
    """`0.7285 ±0.0121`; the wider side of an interval that is not symmetric."""
    return f"{estimate.mean:.4f} ±{max(estimate.high - estimate.mean, estimate.mean - estimate.low):.4f}"


def leads(results: Results) -> list[str]:
    """Each model's lead over the best baseline without a stream and over the baselines with one, a line each."""
    return [
        f"{lead.name} - {lead.over}: {lead.difference.mean:+.4f} {LABELS[LEAD_METRIC]}, 95 % interval "
        f"{lead.difference.low:+.4f} to {lead.difference.high:+.4f}"
        for lead in results.leads
    ]


def _whole(results: Results) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="All searches")
    table.add_column("", no_wrap=True)
    table.add_column("MRR@5, 95 %", justify="right", no_wrap=True)
    for metric in HEADLINE[1:]:
        table.add_column(LABELS[metric], justify="right", no_wrap=True)
    table.add_column("MRR@5\nwith typo", justify="right", no_wrap=True)
    for result in results.results:
        typo = f"{result.with_typos[LEAD_METRIC].mean:.4f}" if result.with_typos else ""
        cells = [f"{result.figures[metric].mean:.4f}" for metric in HEADLINE[1:]]
        whole = with_interval(result.figures[LEAD_METRIC])
        table.add_row(result.name, whole, *cells, typo, style="bold" if result.is_model else None)
    return table


def _slices(results: Results) -> Table:
    """A row for each slice; a column for everybody would not fit, so the others are in the report."""
    shown = compared(results)
    table = Table(box=box.SIMPLE_HEAD, title="MRR@5 by slice")
    table.add_column("")
    table.add_column("searches", justify="right")
    for result in shown:
        table.add_column(result.name.replace(FED, f"\n{FED}"), justify="right", no_wrap=True)
    for one in results.slices:
        cells = [f"{one.figures[result.name][LEAD_METRIC].mean:.4f}" for result in shown]
        table.add_row(f"{one.group}: {one.name}", str(one.searches), *cells)
    return table
