"""Tables that scroll by themselves on a narrow page, with a caption and headings that say what a row is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from region_sim.report.markup import Child, Html, join, tag

CELL_MAX: Final = 500
ROWS_MAX: Final = 200
"""Of any table; what is left out is said below it, and stands in the history."""


def table(
    caption: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[Child]],
    *,
    numbers: Sequence[int] = (),
    class_: str = "",
    rows_max: int = ROWS_MAX,
) -> Html:
    """A table whose first column is the heading of its row; the columns in `numbers` are aligned for reading sizes."""
    listed = list(rows)
    head = tag("tr", *(tag("th", one, scope="col", class_=_look(n, numbers)) for n, one in enumerate(headings)))
    body = [_row(row, numbers) for row in listed[:rows_max]]
    made = tag(
        "table",
        tag("caption", caption),
        tag("thead", head),
        tag("tbody", *body),
        class_=class_ or None,
    )
    parts = [tag("div", made, class_="scroll", tabindex=0, role="region", aria_label=caption)]
    if len(listed) > rows_max:
        parts.append(tag("p", f"{len(listed) - rows_max:,} more are in the history.", class_="quiet"))
    return join(parts)


def _row(row: Sequence[Child], numbers: Sequence[int]) -> Html:
    cells = [tag("th", _cut(row[0]), scope="row", class_=_look(0, numbers))]
    cells += [tag("td", _cut(one), class_=_look(number, numbers)) for number, one in enumerate(row[1:], start=1)]
    return tag("tr", *cells)


def _cut(cell: Child) -> Child:
    """What strangers said may be of any length; a cell is not."""
    if isinstance(cell, str) and not isinstance(cell, Html) and len(cell) > CELL_MAX:
        return f"{cell[:CELL_MAX]}…"
    return cell


def _look(column: int, numbers: Sequence[int]) -> str | None:
    return "number" if column in numbers else None


def section(name: str, title: str, *children: Child) -> Html:
    """A part of the page, with a heading that it is named by."""
    return tag("section", tag("h2", title, id=name), *children, aria_labelledby=name)


def quiet(said: str) -> Html:
    """A remark."""
    return tag("p", said, class_="quiet")
