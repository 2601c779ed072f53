"""A region's status as a table for people."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.region.status import ProcessStatus, RegionStatus

STYLES = {"ready": "green", "waiting": "yellow", "starting": "yellow", "not ready": "yellow", "backoff": "yellow"}


def render(seen: RegionStatus) -> RenderableType:
    """Return a headline, and a row for each process."""
    headline = Text.assemble(
        (f"{seen.region} ", "bold"), (f"{seen.incarnation} " if seen.incarnation else ""), ("· ", "dim"), seen.summary
    )
    if not seen.running:
        return headline
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title, justify in (("process", "left"), ("state", "left"), ("up", "right"), ("restarts", "right"),
                           ("pid", "right"), ("memory", "right"), ("port", "right"), ("log", "left")):  # fmt: skip
        table.add_column(title, justify="right" if justify == "right" else "left", overflow="fold")
    for process in seen.processes:
        table.add_row(*_row(process))
    total = Text(f"{megabytes(seen.memory_bytes)} in all, the supervisor included", style="dim")
    return Group(headline, table, total)


def _row(process: ProcessStatus) -> tuple[Text | str, ...]:
    return (
        process.name,
        Text(process.state, style=STYLES.get(process.state, "red")),
        "" if process.up_seconds is None else duration(process.up_seconds),
        str(process.restarts),
        "" if process.pid is None else str(process.pid),
        "" if process.memory_bytes is None else megabytes(process.memory_bytes),
        "" if process.port is None else str(process.port),
        process.log,
    )


def megabytes(size_bytes: int) -> str:
    """Return a size in whole megabytes."""
    return f"{size_bytes / (1 << 20):.0f} MB"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units."""
    whole = int(seconds)
    for unit, size, next_unit, next_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // next_size}{next_unit}"
    return f"{whole}s"
