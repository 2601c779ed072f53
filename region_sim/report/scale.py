"""Axes: round ticks, and where a value lies on them."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps `[low, high]` of values to `[start, stop]` of a drawing."""

    low: float
    high: float
    start: float
    stop: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """Where a value lies; what is outside lies on the edge."""
        low, high, here = self.low, self.high, min(max(value, self.low), self.high)
        if self.is_log:
            low, high, here = math.log10(low), math.log10(high), math.log10(here)
        if high <= low:
            return self.start
        return self.start + (here - low) / (high - low) * (self.stop - self.start)


def ticks(high: float, wanted: int) -> list[float]:
    """Round values from 0 to at least `high`: steps of 1, 2 or 5 times a power of ten, about `wanted` of them."""
    if high <= 0 or not math.isfinite(high):
        return [0.0, 1.0]
    rough = high / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    return [step * n for n in range(math.ceil(high / step - 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten around `[low, high]`, both above zero."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def label(value: float) -> str:
    """A tick in few characters: `0.5`, `20`, `1k`."""
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
