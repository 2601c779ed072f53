"""How a trace is shown: one line a span, with when it began, how long it took, and a bar that says both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.common.spans import Span
from services.trace.tree import Tree

BAR_CELLS: Final = 28
BARS_FROM_COLUMNS: Final = 120
PLAIN_COLUMNS: Final = 200
WORDS: Final = {
    "prepare": "received, read",
    "frame": "frame closed, written",
    "kafka.acknowledge": "acknowledged by Kafka",
    "disk.keep": "kept on disk",
    "remote.acknowledge": "held by another region",
    "log.read": "read by the processor",
    "fold": "folded",
    "rank": "ranking made",
    "wait": "waited for what was read before",
    "catalogue": "catalogue level",
    "features": "candidates and features",
    "score": "scores asked for",
    "infer": "inference worker",
    "queue": "waited for the engine",
    "compute": "computed",
    "publish": "published",
    "ranking.wait": "ranking read by the gateway",
    "check": "checked",
    "write": "answered",
}
"""What the steps of a request are called here; other spans go by their own name."""
SHOWN: Final = (
    "http.response.status_code",
    "problem",
    "rung",
    "reason",
    "outcome",
    "detail",
    "epoch",
    "model_version",
    "position",
    "events",
    "closed_by",
    "copy",
    "candidates",
    "batch_requests",
    "batch_rows",
    "engine_ms",
    "stands_in_for",
)
"""Which facts stand on a line, in this order."""


def show(found: Sequence[Tree], notes: Sequence[str], console: Console | None = None) -> None:
    """Print trees, and below them what must be known to read their times."""
    output = console or _console()
    with_bars = output.width >= BARS_FROM_COLUMNS
    for tree in found:
        output.print(Text(_headline(tree), style="bold"))
        output.print(_table(tree, with_bars=with_bars))
    for note in notes:
        output.print(Text(f"note: {note}", style="yellow"))


def _console() -> Console:
    found = Console(highlight=False)
    # A file or a pipe has no width: nothing is cut off there.
    return found if found.is_terminal else Console(width=PLAIN_COLUMNS, highlight=False)


def _headline(tree: Tree) -> str:
    lasted_ms = (tree.ended_us - tree.began_us) / 1000
    ranking = next((str(node.span.attributes.get("ranking_id", "")) for node, _ in tree.walk()), "")
    what = f"ranking {ranking}, trace {tree.trace_id}" if ranking else f"trace {tree.trace_id}"
    processes = len({node.process for node, _ in tree.walk()})
    return f"{what}: {lasted_ms:.1f} ms in {processes} processes"


def _table(tree: Tree, *, with_bars: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("start ms", justify="right", no_wrap=True)
    table.add_column("took ms", justify="right", no_wrap=True)
    table.add_column("step", no_wrap=True)
    table.add_column("process", no_wrap=True)
    if with_bars:
        table.add_column("", no_wrap=True)
    table.add_column("what is known", overflow="fold")
    began_us, whole_us = tree.began_us, max(1, tree.ended_us - tree.began_us)
    for node, depth in tree.walk():
        span = node.span
        start_us = span.began_us - began_us
        facts = Text(_facts(span))
        if span.error:
            facts = Text(f"FAILED: {span.error}  ", style="red") + facts
        when = (f"+{start_us / 1000:.3f}", f"{span.lasted_us / 1000:.3f}")
        bars = [Text(bar(start_us, span.lasted_us, whole_us), style="cyan")] if with_bars else []
        table.add_row(*when, "  " * depth + WORDS.get(span.name, span.name), node.process, *bars, facts)
    return table


def bar(start_us: int, lasted_us: int, whole_us: int) -> str:
    """Return BAR_CELLS characters: where in the whole this lies; what takes no time at all still has one cell."""
    first = min(BAR_CELLS - 1, start_us * BAR_CELLS // whole_us)
    cells = max(1, -(-lasted_us * BAR_CELLS // whole_us))
    cells = min(cells, BAR_CELLS - first)
    return "·" * first + "█" * cells + "·" * (BAR_CELLS - first - cells)


def _facts(span: Span) -> str:
    known = span.attributes
    said = [_fact(name, known[name]) for name in SHOWN if known.get(name) not in (None, "", "none", False)]
    if span.links:
        said.append(f"with {len(span.links)} other requests")
    return ", ".join(said)


def _fact(name: str, value: object) -> str:
    return f"{name.rpartition('.')[2].replace('_', ' ')} {value}"
