"""How the time of each takeover was spent, against what the formula allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from region_sim.report import words
from region_sim.report.drawing import Size, both, rectangle, text, words_fit
from region_sim.report.head import badge
from region_sim.report.judged import Failover, Judged
from region_sim.report.markup import Child, Html, join, tag
from region_sim.report.scale import Scale, label, ticks
from region_sim.report.tables import quiet, section, table

PARTS: Final[dict[str, str]] = {
    "lease": "lease",
    "acquire": "acquire",
    "promotion": "promotion",
    "first_answer": "first answer",
}
MEANINGS: Final = (
    "Lease: until the old holder's key was gone. Acquire: until another region had it. Promotion: until its markers "
    "were written and its gate open. First answer: until an app accepted one. Bounds follow from the run's settings."
)
BAR: Final = 20.0
BARS_MAX: Final = 20


def takeovers(judged: Judged) -> Html:
    """The section."""
    found = failovers(judged)
    if not found:
        reason = "No takeover is known: none was due, or its parts were not measured."
        return section("takeover", "How the takeover's time was spent", quiet(reason))
    drawing = _drawing(found)
    parts: list[Child] = []
    if drawing is not None:
        parts.append(tag("figure", drawing, tag("figcaption", _legend())))
    parts += [_table(found), quiet(MEANINGS)]
    return section("takeover", "How the takeover's time was spent", *parts)


def failovers(judged: Judged) -> list[Failover]:
    """What the verdict says of takeovers; of an old one, the one whose parts stand among its figures."""
    if judged.failovers:
        return judged.failovers
    if judged.number("rto_seconds") is None:
        return []
    return [
        Failover(
            rto_seconds=judged.number("rto_seconds"),
            lease_seconds=judged.number("lease_seconds"),
            acquire_seconds=judged.number("acquire_seconds"),
            promotion_seconds=judged.number("promotion_seconds"),
            first_answer_seconds=judged.number("first_answer_seconds"),
        )
    ]


def _drawing(found: Sequence[Failover]) -> Html | None:
    # One whose whole time is not known would set the scale for all by a part that means little.
    shown = [one for one in found if one.rto_seconds is not None][:BARS_MAX]
    highest = [value for one in shown for value in (one.rto_seconds, one.bound_seconds) if value is not None]
    if not shown or max(highest) <= 0:
        return None

    def draw(size: Size) -> tuple[float, Html]:
        marks = ticks(max(highest), 8 if size.is_wide else 4)
        scale = Scale(0.0, marks[-1], 4.0, size.width - size.right - 8)
        y = 6.0
        parts: list[Html] = []
        for number, one in enumerate(shown, start=1):
            height, inside = _bars(scale, one, f"{number}. {_who(one)}", y)
            parts.append(inside)
            y += height
        grid = [
            join(
                [
                    tag("line", x1=scale.at(mark), x2=scale.at(mark), y1=0, y2=y, class_="grid"),
                    text(scale.at(mark), y + 15, label(mark), "tick", "middle"),
                ]
            )
            for mark in marks
        ]
        unit = text(size.width - size.right, y + 30, "seconds since the fault", "unit", "end")
        return y + 36, join([*grid, *parts, unit])

    said = "; ".join(f"{_who(one)}: {_parts_said(one)}" for one in shown)
    return both("takeover-bars", "The parts of each takeover", said, draw)


def _who(one: Failover) -> str:
    moved = f"{one.from_region or 'a region'} → {one.to_region or 'another'}"
    said = moved if one.from_region or one.to_region else "the takeover"
    return said if one.epoch is None else f"{said}, epoch {words.epoch(one.epoch)}"


def _parts_said(one: Failover) -> str:
    known = [f"{said} {words.seconds(one.part(name))}" for name, said in PARTS.items()]
    bound = "no bound is known" if one.bound_seconds is None else f"at most {words.seconds(one.bound_seconds)}"
    return f"{', '.join(known)}; in all {words.seconds(one.rto_seconds)}, {bound}"


def _bars(scale: Scale, one: Failover, who: str, y: float) -> tuple[float, Html]:
    parts = [
        text(4, y + 10, who, "bar-name"),
        _stacked(scale, one, y + 16, {n: one.part(n) for n in PARTS}, "measured"),
    ]
    height = 16 + BAR + 14
    if one.bounds or one.bound_seconds is not None:
        bounds = {name: one.bounds.get(name) for name in PARTS}
        parts.append(_stacked(scale, one, y + 16 + BAR + 4, bounds, "bound"))
        height += BAR + 4
        if one.bound_seconds is not None:
            x = scale.at(one.bound_seconds)
            title = f"the formula allows {words.seconds(one.bound_seconds)}"
            parts.append(tag("line", tag("title", title), x1=x, x2=x, y1=y + 12, y2=y + height - 10, class_="limit"))
    return height, join(parts)


def _stacked(scale: Scale, one: Failover, y: float, values: dict[str, float | None], look: str) -> Html:
    at = 0.0
    parts = []
    for number, (name, value) in enumerate(values.items()):
        if not value or value <= 0:
            continue
        x, width = scale.at(at), scale.at(at + value) - scale.at(at)
        title = f"{look}, {PARTS[name]}: {words.seconds(value)}"
        parts.append(rectangle(x, y, width, BAR, f"part {look} fill{number}", title))
        said = f"{PARTS[name]} {words.seconds(value)}"
        short = words.seconds(value)
        fits = next((s for s in (said, short) if words_fit(s, width)), None)
        if fits is not None:
            parts.append(text(x + 4, y + 14, fits, f"on{number}" if look == "measured" else "note"))
        at += value
    if not parts and one.rto_seconds is not None and look == "measured":
        width = scale.at(one.rto_seconds) - scale.at(0)
        parts.append(rectangle(scale.at(0), y, width, BAR, "part measured whole", "in all; its parts are not known"))
        parts.append(text(scale.at(0) + 4, y + 14, f"in all {words.seconds(one.rto_seconds)}", "note"))
    return join(parts)


def _legend() -> Html:
    found = []
    for number, said in enumerate(PARTS.values()):
        box = tag("svg", rectangle(0, 0, 14, 12, f"part measured fill{number}"), viewBox="0 0 14 12", class_="key-box")
        found.append(tag("li", box, f" {number + 1}. {said}", class_="key"))
    limit = tag("svg", tag("line", x1=7, x2=7, y1=0, y2=12, class_="limit"), viewBox="0 0 14 12", class_="key-box")
    outlined = tag("svg", rectangle(1, 1, 12, 10, "part bound fill0"), viewBox="0 0 14 12", class_="key-box")
    found.append(tag("li", outlined, " the bar below: what the formula allows for each", class_="key"))
    found.append(tag("li", limit, " what it allows in all", class_="key"))
    return tag("ul", *found, class_="legend")


def _table(found: Sequence[Failover]) -> Html:
    rows = []
    for number, one in enumerate(found, start=1):
        held = {True: badge("valid"), False: badge("invalid"), None: badge("unknown")}[one.within]
        rows.append(
            (
                f"{number}. {_who(one)}",
                one.cause or words.NOT_KNOWN,
                *(_against(one.part(name), one.bounds.get(name)) for name in PARTS),
                _against(one.rto_seconds, one.bound_seconds),
                _forecast(one),
                join([held, f" {one.why}" if one.why else ""]),
            )
        )
    headings = [
        "Takeover",
        "Because of",
        *(said.capitalize() for said in PARTS.values()),
        "In all",
        "Forecast",
        "Within bounds",
    ]
    return table("Takeovers: measured, and what the formula allows", headings, rows, numbers=[2, 3, 4, 5, 6, 7])


def _forecast(one: Failover) -> Html:
    """What the new holder had forecast right before the fault, and by how much it was missed."""
    if one.forecast is None:
        return tag("span", words.NOT_KNOWN)
    said = tag("span", words.seconds(one.forecast.seconds))
    error = one.forecast_error_seconds
    if error is None:
        return said
    side = "later" if error >= 0 else "sooner"
    return join([said, tag("span", f" ({words.seconds(abs(error))} {side})", class_="quiet")])


def _against(value: float | None, bound: float | None) -> Html:
    said = tag("span", words.seconds(value))
    return said if bound is None else join([said, tag("span", f" ≤ {words.seconds(bound)}", class_="quiet")])
