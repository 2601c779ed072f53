"""What all drawings share: two sizes, an accessible frame, the axis of time, the shading of faults.

Each drawing is made twice, for wide and for narrow pages, and the style sheet shows one: a picture that is merely
scaled down to a telephone has letters that nobody can read. A hidden one is hidden from screen readers too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from region_sim.report.gather import Fault, Observed
from region_sim.report.markup import Html, join, tag
from region_sim.report.scale import Scale, label, ticks

LETTER_WIDTH: Final = 6.6
"""Of a letter of 11 px, on the average and a little more."""
BANDS_MAX: Final = 150
"""Faults in a drawing; nobody can tell more apart, and every one of them is drawn six times."""
INSTANT: Final = frozenset({"switchover", "poison", "herd"})
"""Kinds of faults that are over as soon as they are done: nothing stays broken."""
FAMILIES: Final[dict[str, str]] = {
    "kill": "crash",
    "wipe": "crash",
    "cut": "crash",
    "topic-loss": "crash",
    "partition": "network",
    "link": "network",
    "pause": "time",
    "clock": "time",
    "store": "time",
    "disk-full": "content",
    "model": "content",
    "poison": "content",
    "herd": "people",
    "hold": "people",
    "restart": "people",
    "switchover": "people",
}
"""One colour and one hatching for each family of faults, in every drawing of every report."""


@dataclass(frozen=True, slots=True)
class Size:
    """A variant of a drawing, in its own units: pixels, if the page has the room."""

    name: str
    width: float
    left: float
    right: float

    @property
    def is_wide(self) -> bool:
        """Whether there is room for words."""
        return self.name == "wide"


WIDE: Final = Size("wide", 1040.0, 84.0, 14.0)
NARROW: Final = Size("narrow", 358.0, 54.0, 8.0)


@dataclass(frozen=True, slots=True)
class Band:
    """The time of one fault."""

    number: int
    kind: str
    target: str
    began: float
    ended: float
    is_open: bool
    """Never healed, as far as the history says."""

    @property
    def family(self) -> str:
        """What its look goes by."""
        return FAMILIES.get(self.kind, "content")

    @property
    def name(self) -> str:
        """`F2 partition`."""
        return f"F{self.number} {self.kind or 'fault'}"


def bands(observed: Observed, end: float) -> list[Band]:
    """The faults that took, the first BANDS_MAX of them, by the number that they have in every table."""
    found: list[Band] = []
    for number, fault in enumerate(observed.faults, start=1):
        if len(found) == BANDS_MAX:
            break
        if fault.took and fault.began <= end:
            ended = _ended(fault, end)
            found.append(Band(number, fault.kind, fault.target, fault.began, min(ended, end), fault.healed is None))
    return found


def _ended(fault: Fault, end: float) -> float:
    if fault.kind in INSTANT and fault.taken is not None:
        return fault.taken
    return end if fault.healed is None else fault.healed


def drawn_until(observed: Observed) -> float:
    """Where the axis of time ends: shortly after the load stopped, for what follows is only reading."""
    stops = [phase.at for phase in observed.phases if phase.sentence == "load stops"]
    return max(min(observed.end, stops[-1] + 3.0) if stops else observed.end, 1.0)


def both(name: str, title: str, description: str, draw: Callable[[Size], tuple[float, Html]]) -> Html:
    """A drawing in both sizes. `draw` returns its height and what is in it."""
    found = []
    for size in (WIDE, NARROW):
        height, inside = draw(size)
        ids = f"{name}-{size.name}-title", f"{name}-{size.name}-text"
        svg = tag(
            "svg",
            tag("title", title, id=ids[0]),
            tag("desc", description, id=ids[1]),
            inside,
            class_=f"drawing {size.name}",
            viewBox=f"0 0 {size.width:g} {height:g}",
            role="img",
            aria_labelledby=" ".join(ids),
        )
        found.append(svg)
    return join(found)


def words_fit(text: str, width: float) -> bool:
    """Whether a text of 11 px fits."""
    return len(text) * LETTER_WIDTH + 6 <= width


def text(x: float, y: float, said: str, class_: str = "", anchor: str | None = None) -> Html:
    """A word in a drawing."""
    return tag("text", said, x=float(x), y=float(y), class_=class_ or None, text_anchor=anchor)


def rectangle(x: float, y: float, width: float, height: float, class_: str, title: str = "") -> Html:
    """A box; with a title it says what it is when pointed at."""
    inside = [tag("title", title)] if title else []
    box = {"x": float(x), "y": float(y), "width": max(float(width), 0.0), "height": float(height)}
    return tag("rect", *inside, class_=class_, rx=2, **box)


def time_scale(size: Size, end: float) -> Scale:
    """Seconds of the drill, from left to right."""
    return Scale(0.0, end, size.left, size.width - size.right)


def time_axis(size: Size, scale: Scale, top: float, bottom: float) -> Html:
    """Vertical lines at round seconds, and their labels below."""
    parts = []
    for tick in ticks(scale.high, 10 if size.is_wide else 4):
        if tick <= scale.high:
            x = scale.at(tick)
            parts.append(tag("line", x1=x, x2=x, y1=float(top), y2=float(bottom), class_="grid"))
            parts.append(text(x, bottom + 15, label(tick), "tick", "middle"))
    parts.append(text(size.width - size.right, bottom + 30, "seconds since the drill began", "unit", "end"))
    return join(parts)


def shading(size: Size, scale: Scale, shown: Sequence[Band], top: float, bottom: float) -> Html:
    """The faults behind a chart: a hatched column each, named at its top where there is room."""
    parts = []
    free_from = [size.left] * 2
    for band in shown:
        x, width = scale.at(band.began), scale.at(band.ended) - scale.at(band.began)
        title = f"{band.name} of {band.target}"
        parts.append(rectangle(x, top, max(width, 2.0), bottom - top, f"shade {band.family}", title))
        said = band.name if size.is_wide else f"F{band.number}"
        row = next((number for number, free in enumerate(free_from) if free <= x), None)
        room = len(said) * LETTER_WIDTH + 6
        if row is not None and x + room <= size.width:
            parts.append(text(x + 3, top - 4 - 12 * row, said, "note"))
            free_from[row] = x + room
    return join(parts)


def patterns() -> Html:
    """The hatchings, once for the page. Colour is never the only thing that tells two of them apart."""
    made = [
        _hatch("crash", "M0 8 L8 0 M-2 2 L2 -2 M6 10 L10 6"),
        _hatch("network", "M0 0 L8 8 M-2 6 L2 10 M6 -2 L10 2"),
        _hatch("time", "M4 0 L4 8"),
        _hatch("content", "M0 4 L8 4"),
        _hatch("people", "M3 3 L5 3 L5 5 L3 5 Z"),
        _hatch("down", "M0 8 L8 0 M0 0 L8 8"),
        _hatch("unanswered", "M0 8 L8 0 M-2 2 L2 -2 M6 10 L10 6"),
    ]
    return tag("svg", tag("defs", *made), class_="patterns", width=0, height=0, aria_hidden="true", focusable="false")


def _hatch(name: str, path: str) -> Html:
    inside = [
        tag("rect", width=8, height=8, class_=f"hatch-ground {name}"),
        tag("path", d=path, class_=f"hatch-line {name}"),
    ]
    return tag("pattern", *inside, id=f"hatch-{name}", width=8, height=8, patternUnits="userSpaceOnUse")
