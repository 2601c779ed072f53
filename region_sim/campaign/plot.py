"""A distribution as a picture: one self-contained SVG, readable on light and dark grounds.

Every run is a dot at its value, in the order of values, so that the worst one is seen and not averaged away; lines mark
p50 and p90. A histogram of twenty runs would show its bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from services.replay.latency import quantile

WIDTH: Final = 640
HEIGHT: Final = 300
LEFT: Final = 56
RIGHT: Final = 24
TOP: Final = 44
BOTTOM: Final = 44
TICKS: Final = 5
_STYLE: Final = """
svg { color-scheme: light dark; font: 13px system-ui, sans-serif; }
.ground { fill: #ffffff; } .word { fill: #1c2126; } .quiet { fill: #5b6670; } .line { stroke: #d5dade; }
.dot { fill: #0b6bcb; } .mark { stroke: #b3541e; stroke-dasharray: 4 4; } .marked { fill: #b3541e; }
@media (prefers-color-scheme: dark) {
.ground { fill: #14181c; } .word { fill: #e8ecef; } .quiet { fill: #9aa5ae; } .line { stroke: #333b42; }
.dot { fill: #63aeff; } .mark { stroke: #f0a070; } .marked { fill: #f0a070; } }
"""


def plot(title: str, unit: str, values: Sequence[float]) -> str:
    """An SVG of values in their order of size; an empty sequence gives a picture that says so."""
    ordered = sorted(values)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="word" x="{LEFT}" y="24" font-weight="600">{escape(title)}</text>',
    ]
    if not ordered:
        parts.append(f'<text class="quiet" x="{LEFT}" y="{HEIGHT / 2}">Nothing was measured.</text></svg>\n')
        return "\n".join(parts)
    top = _round_up(ordered[-1])
    parts += _scale(top, unit)
    for name, share in (("p50", 0.5), ("p90", 0.9)):
        value = quantile(ordered, share)
        y = _y(value, top)
        parts.append(f'<line class="mark" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="marked" x="{LEFT + 6}" y="{y - 5}">{name} {value:g} {escape(unit)}</text>')
    for place, value in enumerate(ordered):
        x = LEFT + (place + 0.5) * (WIDTH - LEFT - RIGHT) / len(ordered)
        label = f"{value:g} {escape(unit)}"
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{_y(value, top)}" r="4"><title>{label}</title></circle>')
    caption = f"{len(ordered)} runs, best to worst; worst {ordered[-1]:g} {escape(unit)}"
    parts.append(f'<text class="quiet" x="{LEFT}" y="{HEIGHT - 16}">{caption}</text></svg>\n')
    return "\n".join(parts)


def _scale(top: float, unit: str) -> list[str]:
    lines = [f'<text class="quiet" x="{WIDTH - RIGHT}" y="24" text-anchor="end">{escape(unit)}</text>']
    for tick in range(TICKS + 1):
        value = top * tick / TICKS
        y = _y(value, top)
        lines.append(f'<line class="line" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        lines.append(f'<text class="quiet" x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    return lines


def _y(value: float, top: float) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / top if top else 0.0), 1)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50, ...: a scale ends at a round number."""
    if value <= 0:
        return 1.0
    step = 1.0
    while step * 10 <= value:
        step *= 10
    while step > value:
        step /= 10
    return next(found for found in (step, 2 * step, 5 * step, 10 * step) if found >= value)
