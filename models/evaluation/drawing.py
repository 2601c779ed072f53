"""The two kinds of plots in the report: points with whiskers in rows, and lines over labelled steps.

Elements of the standard library's ElementTree, so that every text is escaped where it becomes markup. Each plot is
drawn for a wide page and for a narrow one, and the style sheet shows one: letters of a scaled picture cannot be read.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

WIDE, NARROW = 1040.0, 358.0
_LOOKS: Final = 6
"""Colours, each with its own shape of points and dashes of lines."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value with its interval."""

    mean: float
    low: float
    high: float
    look: int
    said: str
    """What it is, shown when pointed at."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of points."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One value for each step."""

    label: str
    look: int
    values: tuple[float, ...]


def node(name: str, /, *children: "Element | str", **attributes: str | float) -> Element:
    """An element; `class_` is `class` and `aria_label` is `aria-label`, numbers get two decimals."""
    made = Element(name)
    for key, value in attributes.items():
        made.set(
            key.rstrip("_").replace("_", "-"),
            value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip("."),
        )
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + child
        else:
            made.text = (made.text or "") + child
    return made


def round_steps(low: float, high: float, wanted: int) -> list[float]:
    """Round values around `[low, high]`, about `wanted` of them."""
    rough = max(high - low, 1e-6) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * count, 10) for count in range(first, last + 1)]


def rows_plot(title: str, rows: Sequence[Row], unit: str) -> list[Element]:
    """Rows of points with whiskers on one scale, wide and narrow."""
    values = [value for row in rows for point in row.points for value in (point.low, point.high)]

    def draw(svg: Element, width: float) -> float:
        is_wide = width == WIDE
        crowd = 4.0 * max(len(row.points) - 1 for row in rows)
        pitch, left, top = (26.0 + crowd, 230.0, 8.0) if is_wide else (42.0 + crowd, 10.0, 8.0)
        steps = round_steps(min(values), max(values), 8 if is_wide else 4)
        across = _scale(steps[0], steps[-1], left, width - 18)
        bottom = top + pitch * len(rows)
        for step in steps:
            x = across(step)
            svg.append(node("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
            svg.append(_word(x, bottom + 15, f"{step:g}", "tick", "middle"))
        for number, row in enumerate(rows):
            y = top + pitch * number + (pitch / 2 if is_wide else 16 + (pitch - 16) / 2)
            label = (
                _word(left - 12, y + 4, row.label, "name", "end")
                if is_wide
                else _word(0, top + pitch * number + 12, row.label, "name")
            )
            svg.append(label)
            apart = min(pitch * 0.55 / max(len(row.points), 1), 5.0)
            middle = (len(row.points) - 1) / 2
            svg.extend(_marked(across, y + (place - middle) * apart, point) for place, point in enumerate(row.points))
        svg.append(_word(width - 18, bottom + 32, unit, "tick", "end"))
        return bottom + 38

    return _both(title, draw)


def lines_plot(title: str, steps_said: Sequence[str], lines: Sequence[Line], unit: str) -> list[Element]:
    """Lines over steps that have names (depths, weeks), wide and narrow."""
    values = [value for line in lines for value in line.values]

    def draw(svg: Element, width: float) -> float:
        left, right, top, height = 52.0, 24.0, 24.0, 260.0
        marks = round_steps(min(values), max(values), 6)
        up = _scale(marks[0], marks[-1], top + height, top)
        across = _scale(0, max(len(steps_said) - 1, 1), left + 20, width - right - 20)
        for mark in marks:
            svg.append(node("line", x1=left, x2=width - right, y1=up(mark), y2=up(mark), class_="grid"))
            svg.append(_word(left - 8, up(mark) + 4, f"{mark:g}", "tick", "end"))
        every = math.ceil(len(steps_said) / (14 if width == WIDE else 4)) if len(steps_said[0]) > 3 else 1
        for place, said in enumerate(steps_said[::every]):
            svg.append(_word(across(place * every), top + height + 17, said, "tick", "middle"))
        for line in lines:
            points = [(across(place), up(value)) for place, value in enumerate(line.values)]
            drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            svg.append(node("polyline", points=drawn, class_=f"line look{line.look % _LOOKS}"))
            for (x, y), value, said in zip(points, line.values, steps_said, strict=True):
                svg.append(_shape(x, y, line.look, f"{line.label}, {said}: {value:.4f}"))
        svg.append(_word(0, 12, unit, "tick"))
        return top + height + 26

    return _both(title, draw)


def legend(names: Sequence[tuple[int, str]]) -> Element:
    """Which look is whose."""
    found = node("ul", class_="legend")
    for look, name in names:
        line = node("polyline", points="0,7 28,7", class_=f"line look{look % _LOOKS}")
        key = node("svg", line, _shape(14, 7, look, ""), viewBox="0 0 28 14", class_="key", aria_hidden="true")
        found.append(node("li", key, f" {name}"))
    return found


def _both(title: str, draw: Callable[[Element, float], float]) -> list[Element]:
    drawn = []
    for name, width in (("wide", WIDE), ("narrow", NARROW)):
        svg = node("svg", class_=f"drawing {name}", role="img", aria_label=title)
        height = draw(svg, width)
        svg.set("viewBox", f"0 0 {width:g} {height:g}")
        drawn.append(svg)
    return drawn


def _scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (stop - start)


def _word(x: float, y: float, said: str, look: str, anchor: str = "start") -> Element:
    return node("text", said, x=x, y=y, class_=look, text_anchor=anchor)


def _marked(across: Callable[[float], float], y: float, point: Point) -> Element:
    low, high = across(point.low), across(point.high)
    whisker = node("line", x1=low, x2=high, y1=y, y2=y, class_=f"whisker look{point.look % _LOOKS}")
    said = f"{point.said}: {point.mean:.4f}, 95 % interval {point.low:.4f} to {point.high:.4f}"
    return node("g", whisker, _shape(across(point.mean), y, point.look, said))


def _shape(x: float, y: float, look: int, said: str) -> Element:
    """A point; every look has a shape of its own, so that nobody has to tell colours apart."""
    outlines = (
        "M-4.5 0A4.5 4.5 0 1 0 4.5 0A4.5 4.5 0 1 0 -4.5 0Z",
        "M-4 -4H4V4H-4Z",
        "M0 -5.5L5.5 0L0 5.5L-5.5 0Z",
        "M0 -5.5L5 4H-5Z",
        "M0 5.5L5 -4H-5Z",
        "M-5 -1.7H-1.7V-5H1.7V-1.7H5V1.7H1.7V5H-1.7V1.7H-5Z",
    )
    title = [node("title", said)] if said else []
    return node(
        "path",
        *title,
        d=outlines[look % _LOOKS],
        transform=f"translate({x:.1f} {y:.1f})",
        class_=f"point look{look % _LOOKS}",
    )
