"""The swim lanes: each site's state over time, the faults that hit it, and what happened meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from region_sim.report import words
from region_sim.report.drawing import LETTER_WIDTH, Band, Size, both, rectangle, text, time_axis, time_scale, words_fit
from region_sim.report.gather import Moment
from region_sim.report.markup import Html, join, tag
from region_sim.report.scale import Scale
from region_sim.report.timeline import Lane, Span, Timeline

STATE_HEIGHT: Final = 24.0
FAULT_HEIGHT: Final = 15.0
GAP: Final = 12.0
ROWS_MAX: Final = 4
"""Of faults in one lane, and of symbols below all lanes; what comes on top of that is in the table."""
SPANS_MAX: Final = 300
SYMBOLS_MAX: Final = 300
SPANS_SAID: Final = 40
SYMBOLS: Final[dict[str, str]] = {
    "takeover": "M0 -6 L6 5 L-6 5 Z",
    "receipt": "M0 -6 L6 0 L0 6 L-6 0 Z",
    "heal": "M-2 -6 H2 V-2 H6 V2 H2 V6 H-2 V2 H-6 V-2 H-2 Z",
    "operator": "M-5 -5 H5 V5 H-5 Z",
    "other": "M0 -5 A5 5 0 1 0 0.01 -5 Z",
}
OPERATOR_KINDS: Final = frozenset({"pause", "resume", "switchover", "failover", "hold"})
SYMBOL_NAMES: Final[dict[str, str]] = {
    "takeover": "first answer under a new epoch",
    "receipt": "receipt",
    "heal": "a fault is healed",
    "operator": "an operator acts",
    "other": "anything else; the table has all of it",
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a lane's drawing needs besides the lane."""

    size: Size
    scale: Scale
    order: dict[str, int]


def swim_lanes(found: Timeline, shown: Sequence[Band], phases: Sequence[Moment], end: float) -> Html:
    """The drawing, in both sizes."""

    def draw(size: Size) -> tuple[float, Html]:
        scale = time_scale(size, end)
        drawn = Drawn(size, scale, {lane.site: number for number, lane in enumerate(found.lanes)})
        top = 38.0
        y = top + 6
        parts: list[Html] = []
        for lane in found.lanes:
            height, inside = _lane(drawn, lane, [band for band in shown if band.target == lane.site], y)
            parts.append(inside)
            y += height + GAP
        rows, symbols = _symbols(drawn, found.story, y + 8)
        bottom = y + 4 + 15 * rows
        headings = _phases(size, scale, phases, top, bottom)
        return bottom + 36, join([time_axis(size, scale, top, bottom), headings, *parts, symbols])

    said = [f"{lane.site}: {', '.join(_said(span) for span in lane.spans[:SPANS_SAID])}" for lane in found.lanes]
    return both("lanes", "The regions over time", ". ".join(said), draw)


def _said(span: Span) -> str:
    return f"{span.label} from {words.seconds(span.began)} to {words.seconds(span.ended)}"


def _phases(size: Size, scale: Scale, phases: Sequence[Moment], top: float, bottom: float) -> Html:
    parts = []
    free_from = [0.0, 0.0]
    for phase in phases:
        x = scale.at(phase.at)
        row = next((number for number, free in enumerate(free_from) if free <= x), None)
        title = tag("title", f"phase: {phase.sentence}")
        height = 8 if row is None else top - 18 - 12 * row
        parts.append(tag("line", title, x1=x, x2=x, y1=float(height), y2=float(bottom), class_="phase"))
        room = len(phase.sentence) * LETTER_WIDTH + 6
        if row is not None and x + room <= size.width:
            parts.append(text(x + 4, top - 8 - 12 * row, phase.sentence, "phase-name"))
            free_from[row] = x + room
    return join(parts)


def _lane(drawn: Drawn, lane: Lane, hits: Sequence[Band], y: float) -> tuple[float, Html]:
    size = drawn.size
    name = lane.site if len(lane.site) <= (12 if size.is_wide else 6) else f"{lane.site[:5]}…"
    parts = [tag("text", tag("title", lane.site), name, x=0, y=y + 16, class_="lane-name")]
    parts += [_state(drawn, lane, span, y) for span in lane.spans[:SPANS_MAX]]
    if lane.is_witness and size.is_wide:
        parts.append(text(0, y + 29, "witness", "unit"))
    parts += [_term(drawn, span, y + STATE_HEIGHT + 1) for span in lane.terms[:SPANS_MAX]]
    rows: list[float] = []
    for band in hits:
        x = drawn.scale.at(band.began)
        width = max(drawn.scale.at(band.ended) - x, 3.0)
        said = band.name if words_fit(band.name, width) else f"F{band.number}"
        taken = x + max(width, len(said) * LETTER_WIDTH + 6)
        row = next((number for number, free in enumerate(rows) if free <= x), len(rows))
        if row >= ROWS_MAX:
            continue
        rows[row : row + 1] = [taken]
        parts.append(_fault(band, x, y + STATE_HEIGHT + 6 + row * (FAULT_HEIGHT + 3), width, said))
    height = STATE_HEIGHT + 6 + len(rows) * (FAULT_HEIGHT + 3)
    return max(height, STATE_HEIGHT + (10 if lane.is_witness else 4)), join(parts)


def _state(drawn: Drawn, lane: Lane, span: Span, y: float) -> Html:
    x, ended = drawn.scale.at(span.began), drawn.scale.at(span.ended)
    look = f"state {span.state.replace(' ', '-')}"
    if span.state == "active":
        look += f" fill{drawn.order[lane.site] % 6}"
    parts = [rectangle(x, y, max(ended - x, 1.0), STATE_HEIGHT, look, f"{lane.site}: {_said(span)}")]
    short = words.epoch(span.epoch) if span.epoch is not None else span.state
    said = next((one for one in (span.label, short) if words_fit(one, ended - x)), None)
    if said is not None:
        parts.append(text(x + 5, y + 16, said, f"on-{span.state.replace(' ', '-')} on{drawn.order[lane.site] % 6}"))
    return join(parts)


def _term(drawn: Drawn, span: Span, y: float) -> Html:
    """A line under the state: the term may go on for a while after its holder is gone."""
    x, ended = drawn.scale.at(span.began), drawn.scale.at(span.ended)
    title = f"{span.label}: known from {words.seconds(span.began)} to {words.seconds(span.ended)}"
    return rectangle(x, y, max(ended - x, 1.0), 3, "term", title)


def _fault(band: Band, x: float, y: float, width: float, said: str) -> Html:
    ended = "never healed" if band.is_open else f"until {words.seconds(band.ended)}"
    title = f"{band.name} of {band.target}, from {words.seconds(band.began)}, {ended}"
    inside = width >= len(said) * LETTER_WIDTH + 6
    parts = [rectangle(x, y, width, FAULT_HEIGHT, f"fault {band.family}", title)]
    if inside:
        parts.append(rectangle(x + 2, y + 2, len(said) * LETTER_WIDTH + 3, FAULT_HEIGHT - 4, "plate"))
    parts.append(text(x + 4 if inside else x + width + 3, y + 11.5, said, "note"))
    return join(parts)


def symbol_of(moment: Moment) -> str:
    """Which symbol stands for something that happened; empty for what a lane already shows."""
    if moment.kind in ("phase", "fault", "term"):
        return ""
    if moment.kind in OPERATOR_KINDS:
        return "operator"
    return moment.kind if moment.kind in SYMBOLS else "other"


def _symbols(drawn: Drawn, story: Sequence[Moment], y: float) -> tuple[int, Html]:
    """Symbols below the lanes; those that would cover each other go to the next row."""
    free_from: list[float] = []
    parts: list[Html] = []
    for moment in story:
        kind = symbol_of(moment)
        if not kind or moment.at > drawn.scale.high or len(parts) == SYMBOLS_MAX:
            continue
        x = drawn.scale.at(moment.at)
        row = next((number for number, free in enumerate(free_from) if free <= x - 7), len(free_from))
        if row >= ROWS_MAX:
            continue
        free_from[row : row + 1] = [x + 7]
        title = f"{words.seconds(moment.at)} {moment.region}: {moment.sentence}"
        look = f"symbol {kind}"
        if kind == "takeover" and moment.region in drawn.order:
            look += f" fill{drawn.order[moment.region] % 6}"
        place = f"translate({x:.1f} {y + 15 * row:.1f})"
        parts.append(tag("path", tag("title", title), d=SYMBOLS[kind], class_=look, transform=place))
    name = text(0, y + 4, "events", "lane-name small")
    return max(len(free_from), 1), join([name, *parts])


def symbol_legend() -> Html:
    """What the symbols mean."""
    found = [
        tag("li", _sample(SYMBOLS[name], f"symbol {name}"), f" {said}", class_="key")
        for name, said in SYMBOL_NAMES.items()
    ]
    found.append(tag("li", tag("span", class_="key-term"), " term: the leader key is held", class_="key"))
    return tag("ul", *found, class_="legend")


def _sample(path: str, look: str) -> Html:
    return tag("svg", tag("path", d=path, class_=look), viewBox="-8 -8 16 16", class_="key-symbol", aria_hidden="true")
