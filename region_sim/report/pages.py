"""The pages of a comparison and of a trend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from region_sim.report import words
from region_sim.report.compare import Change, Comparison, Line, in_order
from region_sim.report.drawing import Size, both, text
from region_sim.report.head import SIGNS, badge
from region_sim.report.markup import Child, Html, join, tag
from region_sim.report.page import whole
from region_sim.report.scale import Scale, label, ticks
from region_sim.report.tables import quiet, section, table
from region_sim.report.trend import SHOWN, Run, Series, Trend

CHANGES: Final[dict[Change, str]] = {
    "worse": "▲ worse",
    "better": "▼ better",
    "same": "= within tolerance",
    "not comparable": "? not comparable",
    "not judged": "· not judged",
}
_VERDICTS: Final = {"no regression": "valid", "regression": "invalid", "not comparable": "unknown"}
MARKS: Final[dict[str, str]] = {
    "valid": "M0 -4 A4 4 0 1 0 0.01 -4 Z",
    "invalid": "M-4 -4 L4 4 M4 -4 L-4 4",
    "unknown": "M0 -5 L5 0 L0 5 L-5 0 Z",
}
HEIGHT: Final = 220.0


def comparison_page(found: Comparison) -> str:
    """Two runs side by side."""
    facts = [("Before", found.before), ("After", found.after), ("Backend", found.backend)]
    parts: list[Child] = [_head(f"Drill {found.drill}", found.conclusion, found.sentence, facts)]
    parts.append(section("figures", "Figures", _lines(found.lines), quiet(f"Worse means: {found.tolerance.sentence}.")))
    rows = [(name, before, after) for name, (before, after) in found.parameters.items()]
    said = table("Parameters that differ", ["Parameter", "Before", "After"], rows) if rows else quiet("None differs.")
    parts.append(section("parameters", "Parameters", said))
    links = {"figures": "Figures", "parameters": "Parameters"}
    return whole(f"{found.conclusion}: {found.drill}", parts, links, "Made from the verdict.json of both runs.")


def trend_page(found: Trend) -> str:
    """All runs of a drill."""
    parts: list[Child] = []
    for number, series in enumerate(found.series):
        facts = [("Backend", series.backend), ("Runs", str(len(series.runs)))]
        parts.append(_head(f"Drill {series.drill}: the newest run", series.conclusion, series.sentence, facts, number))
        parts.append(_series(series, number))
    parts += [tag("p", f"! {said}", class_="warning") for said in found.unreadable]
    if found.left_out:
        parts.append(quiet(f"{words.count(found.left_out, 'older run')} left out."))
    title = ", ".join(sorted({series.drill for series in found.series})) or "drill"
    return whole(f"Runs of {title}", parts, {}, f"Made from the verdicts in {found.directory}.")


def _head(over: str, conclusion: str, sentence: str, facts: Sequence[tuple[str, str]], number: int = 0) -> Html:
    look = _VERDICTS[conclusion]
    heading = "h1" if number == 0 else "h2"
    said = tag("div", tag("p", over, class_="over"), tag(heading, conclusion), tag("p", sentence, class_="sentence"))
    sign = tag("span", SIGNS[look], class_="sign", aria_hidden="true")
    listed = tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts), class_="facts")
    return tag("header", tag("div", sign, said, class_=f"verdict {look}"), listed)


def _lines(lines: Sequence[Line]) -> Html:
    if not lines:
        return quiet("Nothing was compared.")
    rows: list[Sequence[Child]] = []
    for one in in_order(lines):
        difference = "·" if one.difference is None else words.said(one.figure, one.difference)
        sign = "+" if one.difference is not None and one.difference > 0 else ""
        before, after = words.said(one.figure, one.before), words.said(one.figure, one.after)
        if one.figure == "verdict":
            before = after = "see why"
        look = one.change if one.change in ("worse", "better") else None
        said = tag("span", CHANGES[one.change], class_=look)
        rows.append((words.title_of(one.figure), before, after, f"{sign}{difference}", said, one.why))
    headings = ["Figure", "Before", "After", "Difference", "Change", "Why"]
    return table("Figures of both runs", headings, rows, numbers=[1, 2, 3], class_="titled")


def _series(series: Series, number: int) -> Html:
    name = f"series-{number}"
    parts: list[Child] = []
    drawing = _drawing(series, name)
    if drawing is None:
        parts.append(quiet("No run of this drill has measured an RTO."))
    else:
        parts.append(tag("figure", drawing, tag("figcaption", _legend(series))))
    rows = [_row(run) for run in reversed(series.runs)]
    headings = ["Run", "Verdict", "Seed", *(words.title_of(figure) for figure in SHOWN)]
    parts.append(table("Runs, newest first", headings, rows, numbers=range(2, len(headings)), class_="titled runs"))
    if series.newest is not None:
        parts.append(tag("h3", f"The newest against the {series.newest.before}"))
        parts += [_lines(series.newest.lines), quiet(f"Worse means: {series.newest.tolerance.sentence}.")]
    return section(name, f"RTO over the runs on {series.backend or 'an unknown backend'}", *parts)


def _row(run: Run) -> Sequence[Child]:
    figures = [words.said(name, run.figures.get(name)) for name in SHOWN]
    return (run.name, badge(run.verdict), words.NOT_KNOWN if run.seed is None else str(run.seed), *figures)


def rto_of(run: Run) -> float | None:
    """A run's RTO."""
    found = run.figures.get("rto_seconds")
    return None if found is None or isinstance(found, bool) else float(found)


def _drawing(series: Series, name: str) -> Html | None:
    values = [(number, run, value) for number, run in enumerate(series.runs) if (value := rto_of(run)) is not None]
    if not values:
        return None
    high = max([series.target_seconds or 0.0, *(value for _, _, value in values)])

    def draw(size: Size) -> tuple[float, Html]:
        marks = ticks(high * 1.05, 5)
        up = Scale(0.0, marks[-1], 24 + HEIGHT, 24.0)
        across = Scale(-0.5, len(series.runs) - 0.5, size.left - 30, size.width - size.right)
        parts: list[Html] = [text(0, 12, "RTO, seconds", "unit")]
        for mark in marks:
            y = up.at(mark)
            parts.append(tag("line", x1=size.left - 30, x2=size.width - size.right, y1=y, y2=y, class_="grid"))
            parts.append(text(size.left - 36, y + 4, label(mark), "tick", "end"))
        if series.target_seconds is not None:
            y = up.at(series.target_seconds)
            parts.append(tag("line", x1=size.left - 30, x2=size.width - size.right, y1=y, y2=y, class_="target-line"))
            parts.append(text(size.width - size.right, y - 5, f"target {series.target_seconds:g} s", "note", "end"))
        points = " ".join(f"{across.at(number):.1f},{up.at(value):.1f}" for number, _, value in values)
        parts.append(tag("polyline", points=points, class_="line stroke0"))
        for number, run, value in values:
            title = tag("title", f"{run.name}: {words.seconds(value)}, {run.verdict}")
            place = f"translate({across.at(number):.1f} {up.at(value):.1f})"
            look = f"run {run.verdict}" if run.verdict in MARKS else "run unknown"
            parts.append(tag("path", title, d=MARKS.get(run.verdict, MARKS["unknown"]), class_=look, transform=place))
        parts.append(text(size.width - size.right, 24 + HEIGHT + 18, "runs, the newest to the right", "unit", "end"))
        return 24 + HEIGHT + 26, join(parts)

    said = ", ".join(words.seconds(value) for _, _, value in values[-20:])
    return both(name + "-rto", "RTO of each run, oldest first", f"The newest {min(len(values), 20)}: {said}", draw)


def _legend(series: Series) -> Html:
    found = []
    for verdict, path in MARKS.items():
        mark = tag("path", d=path, class_=f"run {verdict}")
        sample = tag("svg", mark, viewBox="-7 -7 14 14", class_="key-symbol", aria_hidden="true")
        found.append(tag("li", sample, f" {verdict}", class_="key"))
    unmeasured = sum(rto_of(run) is None for run in series.runs)
    if unmeasured:
        found.append(tag("li", f"{words.count(unmeasured, 'run')} without a measured RTO", class_="key"))
    return tag("ul", *found, class_="legend")
