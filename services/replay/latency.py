"""How long rankings took, counted from when they should have been asked for, and how long nobody was answered.

Open loop: the schedule is fixed in advance, and a request that had to wait for a slow one before it is late
by that wait (counting from the real send would hide it: coordinated omission). Failures close to each other
are one outage. The longest outage is reported apart, and the latency quantiles leave out the searches inside
it."""

import math
from collections.abc import Sequence

import msgspec

OUTAGE_GAP_SECONDS = 1.0
"""Failures with less than this between their intended times belong to one outage."""


class Attempt(msgspec.Struct, frozen=True):
    """One ranking request. Seconds on one clock."""

    intended_seconds: float
    finished_seconds: float
    served: bool

    @property
    def latency_ms(self) -> float:
        """From the intended send time."""
        return (self.finished_seconds - self.intended_seconds) * 1000


class Outage(msgspec.Struct, frozen=True):
    """From the first failed search to the first one that was served again, by intended times."""

    start_seconds: float
    end_seconds: float
    failed: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end_seconds - self.start_seconds


class LatencyReport(msgspec.Struct, frozen=True):
    """Quantiles in milliseconds over the served rankings outside the longest outage."""

    measured: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    longest_ms: float
    outage_seconds: float
    outages: int


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of the ordered values do not exceed (nearest rank); NaN when there are none."""
    if not ordered:
        return float("nan")
    # Rounded before the ceiling: 0.99 * 100 is a little more than 99 in binary.
    return ordered[max(math.ceil(round(share * len(ordered), 9)) - 1, 0)]


def outages(attempts: Sequence[Attempt], gap_seconds: float = OUTAGE_GAP_SECONDS) -> list[Outage]:
    """Every outage, in order of time."""
    ordered = sorted(attempts, key=lambda attempt: attempt.intended_seconds)
    found: list[Outage] = []
    start: float | None = None
    last_failed = 0.0
    failed = 0
    for attempt in ordered:
        at = attempt.intended_seconds
        if attempt.served:
            if start is not None and at - last_failed >= gap_seconds:
                found.append(_closed(ordered, start, last_failed, failed))
                start = None
            continue
        if start is not None and at - last_failed >= gap_seconds:
            found.append(_closed(ordered, start, last_failed, failed))
            start = None
        if start is None:
            start, failed = at, 0
        last_failed, failed = at, failed + 1
    if start is not None:
        found.append(_closed(ordered, start, last_failed, failed))
    return found


def _closed(ordered: Sequence[Attempt], start: float, last_failed: float, failed: int) -> Outage:
    served_again = (a.intended_seconds for a in ordered if a.served and a.intended_seconds > last_failed)
    return Outage(start, next(served_again, last_failed), failed)


def report(attempts: Sequence[Attempt]) -> LatencyReport:
    """Quantiles outside the longest outage, and its length."""
    found = outages(attempts)
    longest = max(found, key=lambda outage: outage.seconds, default=Outage(0.0, 0.0, 0))
    ordered = sorted(
        attempt.latency_ms
        for attempt in attempts
        if attempt.served and not longest.start_seconds <= attempt.intended_seconds < longest.end_seconds
    )
    return LatencyReport(
        measured=len(ordered),
        p50_ms=quantile(ordered, 0.50),
        p90_ms=quantile(ordered, 0.90),
        p99_ms=quantile(ordered, 0.99),
        longest_ms=ordered[-1] if ordered else float("nan"),
        outage_seconds=longest.seconds,
        outages=len(found),
    )
