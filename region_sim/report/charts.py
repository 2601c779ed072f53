"""Charts over time: answers a second, and how long they took."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from region_sim.report.drawing import Band, Size, both, rectangle, shading, text, time_axis, time_scale
from region_sim.report.gather import Observed
from region_sim.report.markup import Html, join, tag
from region_sim.report.scale import Scale, label, log_ticks, ticks

POINTS_MAX: Final = 300
HEIGHT: Final = 220.0
TOP: Final = 34.0


@dataclass(frozen=True, slots=True)
class Bin:
    """What happened in a few seconds, in one region (or, unanswered, in none)."""

    at: float
    """Its middle."""
    seconds: float
    answers: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Binned:
    """A drill by bins of whole seconds."""

    step: int
    end: float
    regions: dict[str, list[Bin]]
    unanswered: list[Bin]
    asked: list[int]


def quantile_ms(latencies: array[float], share: float) -> float | None:
    """The value that `share` of them do not exceed (nearest rank); None when there are none. NaN: not measured."""
    known = np.frombuffer(latencies, np.float64) if latencies else np.zeros(0)
    known = np.sort(known[~np.isnan(known)])
    if not known.size:
        return None
    return float(known[max(math.ceil(round(share * known.size, 9)) - 1, 0)])


def binned(observed: Observed, end: float) -> Binned:
    """Seconds put together so that no drawing has more than POINTS_MAX points."""
    step = max(math.ceil(end / POINTS_MAX), 1)
    count = max(math.ceil(end / step), 1)
    regions = [*observed.regions, *sorted({r for _, r in observed.latencies_ms} - set(observed.regions))]
    found: dict[str, list[Bin]] = {}
    for region in regions:
        bins = []
        for number in range(count):
            latencies: array[float] = array("d")
            for second in range(number * step, (number + 1) * step):
                latencies.extend(observed.latencies_ms.get((second, region), ()))
            bins.append(_bin(number, step, end, len(latencies), latencies))
        found[region] = bins
    unanswered = []
    asked = []
    for number in range(count):
        seconds = range(number * step, (number + 1) * step)
        unanswered.append(_bin(number, step, end, sum(observed.unanswered[s] for s in seconds), array("d")))
        asked.append(sum(observed.asked[s] for s in seconds))
    return Binned(step, end, found, unanswered, asked)


def _bin(number: int, step: int, end: float, answers: int, latencies: array[float]) -> Bin:
    length = min(step, end - number * step)
    middle = number * step + length / 2
    return Bin(middle, max(length, 0.001), answers, quantile_ms(latencies, 0.5), quantile_ms(latencies, 0.99))


def rates(found: Binned, shown: Sequence[Band]) -> Html:
    """Answers a second by region, and searches that nobody answered."""
    full = [b for bins in found.regions.values() for b in bins]
    high = max((b.answers / b.seconds for b in [*full, *found.unanswered] if b.seconds > found.step / 2), default=1.0)

    def draw(size: Size) -> tuple[float, Html]:
        across, bottom = time_scale(size, found.end), TOP + HEIGHT
        marks = ticks(high * 1.02, 5)
        up = Scale(0.0, marks[-1], bottom, TOP)
        parts = [shading(size, across, shown, TOP, bottom), time_axis(size, across, TOP, bottom)]
        parts.append(_levels(size, up, marks, "a second"))
        for b in found.unanswered:
            if b.answers:
                left, right = across.at(b.at - b.seconds / 2), across.at(b.at + b.seconds / 2)
                y = up.at(b.answers / b.seconds)
                parts.append(rectangle(left, y, max(right - left, 1.0), bottom - y, "unanswered"))
        for number, bins in enumerate(found.regions.values()):
            points = [(b.at, b.answers / b.seconds) for b in bins if b.seconds > found.step / 2]
            parts.append(_line([[(across.at(x), up.at(y)) for x, y in points]], f"line stroke{number % 6}"))
        return bottom + 36, join(parts)

    total = {region: sum(b.answers for b in bins) for region, bins in found.regions.items()}
    said = [f"{region} answered {count:,} searches" for region, count in total.items()]
    said.append(f"nobody answered {sum(b.answers for b in found.unanswered):,}")
    return both("rates", "Answers a second, by region", "; ".join(said), draw)


def latencies(found: Binned, shown: Sequence[Band]) -> Html | None:
    """The p50 and p99 of accepted answers by region; None when there was no answer."""
    values = [v for bins in found.regions.values() for b in bins for v in (b.p50_ms, b.p99_ms) if v is not None]
    if not values:
        return None
    marks = log_ticks(max(min(values) * 0.8, 0.1), max(*values, 1.0))

    def draw(size: Size) -> tuple[float, Html]:
        across, bottom = time_scale(size, found.end), TOP + HEIGHT
        up = Scale(marks[0], marks[-1], bottom, TOP, is_log=True)
        parts = [shading(size, across, shown, TOP, bottom), time_axis(size, across, TOP, bottom)]
        parts.append(_levels(size, up, marks, "ms, log scale"))
        for number, bins in enumerate(found.regions.values()):
            for run in _runs(bins):
                low = [(across.at(b.at), up.at(b.p50_ms or 0.0)) for b in run]
                high = [(across.at(b.at), up.at(b.p99_ms or 0.0)) for b in run]
                area = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*high, *reversed(low)])
                parts.append(tag("polygon", points=area, class_=f"area fill{number % 6}"))
                parts.append(_line([high], f"line p99 stroke{number % 6}"))
                parts.append(_line([low], f"line p50 stroke{number % 6}"))
        return bottom + 36, join(parts)

    said = "For each region, the time below which half, and 99 of 100, of its accepted answers came."
    return both("latency", "Latency of accepted answers, by region", said, draw)


def _runs(bins: Sequence[Bin]) -> list[list[Bin]]:
    """Bins with answers, cut where there are none: a line must not cross a silence."""
    runs: list[list[Bin]] = [[]]
    for b in bins:
        if b.p50_ms is None:
            runs.append([])
        else:
            runs[-1].append(b)
    return [run for run in runs if run]


def _line(runs: Sequence[Sequence[tuple[float, float]]], look: str) -> Html:
    parts = []
    for run in runs:
        if len(run) == 1:
            parts.append(tag("circle", cx=run[0][0], cy=run[0][1], r=2, class_=look.replace("line", "dot")))
        else:
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in run)
            parts.append(tag("polyline", points=points, class_=look))
    return join(parts)


def _levels(size: Size, up: Scale, marks: Sequence[float], unit: str) -> Html:
    """Horizontal lines, their values to the left, and the unit above them."""
    parts = []
    for mark in marks:
        y = up.at(mark)
        parts.append(tag("line", x1=size.left, x2=size.width - size.right, y1=y, y2=y, class_="grid"))
        parts.append(text(size.left - 6, y + 4, label(mark), "tick", "end"))
    parts.append(text(0, 12, unit, "unit"))
    return join(parts)


def region_legend(regions: Sequence[str], *, with_quantiles: bool) -> Html:
    """Which line is whose: colour and dashes, in words."""
    found = []
    for number, region in enumerate(regions):
        if with_quantiles:
            found += [
                _key(f"line p50 stroke{number % 6}", f"{region} p50"),
                _key(f"line p99 stroke{number % 6}", f"{region} p99"),
            ]
        else:
            found.append(_key(f"line stroke{number % 6}", region))
    if not with_quantiles:
        box = tag(
            "svg", rectangle(0, 2, 28, 10, "unanswered"), viewBox="0 0 28 14", class_="key-line", aria_hidden="true"
        )
        found.append(tag("li", box, " answered by nobody", class_="key"))
    return tag("ul", *found, class_="legend")


def _key(look: str, said: str) -> Html:
    line = tag("polyline", points="0,7 28,7", class_=look)
    return tag(
        "li", tag("svg", line, viewBox="0 0 28 14", class_="key-line", aria_hidden="true"), f" {said}", class_="key"
    )
