"""What a panel of ours is: a question in PromQL, its unit, and from which value on it is a matter of concern.

Only what differs between panels is said here; how Grafana wants to be told is in `build.py`. Ids are fixed, because the
links of alerts name them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["stat", "lines", "states", "table"]
Step = tuple[float | None, str]
"""From this value on (None: from the lowest), this colour."""
RED, YELLOW, GREEN, BLUE, GREY = "red", "yellow", "green", "blue", "text"
GOOD_AT_ONE: tuple[Step, ...] = ((None, RED), (1, GREEN))
BAD_AT_ONE: tuple[Step, ...] = ((None, GREEN), (1, RED))
PLAIN: tuple[Step, ...] = ((None, BLUE),)
OR_ZERO = 'or on (region) 0 * max by (region) (up{process="gateway"})'
"""Stands in for counters that do not exist before they count for the first time: nothing happened is no empty panel."""


@dataclass(frozen=True, slots=True)
class Query:
    """One expression, and how its series are called."""

    expression: str
    legend: str = "{{region}}"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; places follow from the order and the widths."""

    id: int
    title: str
    description: str
    queries: tuple[Query, ...]
    kind: Kind = "lines"
    unit: str = "short"
    decimals: int | None = None
    steps: tuple[Step, ...] = PLAIN
    words: tuple[tuple[str, str, str], ...] = ()
    """Value, word and colour: 1 is shown as "active"."""
    width: int = 8
    height: int = 7
    low: float | None = 0.0
    stacked: bool = False
    columns: tuple[str, ...] = ()
    """Of a table: the labels that it shows."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels that answer one question, under a heading; the first row of a board has none."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> list[Panel]:
        """All of them, in their order."""
        return [panel for row in self.rows for panel in row.panels]
