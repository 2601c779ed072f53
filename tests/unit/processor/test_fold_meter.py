"""How fast the fold is, measured only while it is behind."""

from __future__ import annotations

import pytest

from services.processor.fold_meter import WINDOW_SECONDS, FoldMeter
from streams.state import Parameters, State
from streams.truncation import LogEnd, Place

PLACE = ("east-1.events", 0)


class Bench:
    """A meter, its clock and its logs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.read_to: dict[Place, int] = {PLACE: 0}
        self.ends: dict[Place, LogEnd] = {}
        self.meter = FoldMeter(State(Parameters()), lambda: self.read_to, lambda: self.ends, lambda: self.now)

    def take(self, frames: int, seconds: float, events: int = 10) -> None:
        """So many frames, evenly within so many seconds."""
        for _ in range(frames):
            self.now += seconds / frames
            self.read_to[PLACE] += 1
            self.meter.took(events)


def test_before_the_logs_ends_are_known_nothing_is() -> None:
    """Not a backlog of zero."""
    report = Bench().meter.report()
    assert (report.waiting_records, report.waiting_events, report.events_per_second) == (None, None, None)


def test_what_keeps_up_has_no_rate() -> None:
    """It folds what comes: that is no measure of what it could."""
    bench = Bench()
    for _ in range(10):
        bench.ends[PLACE] = LogEnd(bench.read_to[PLACE] + 5, 0)
        bench.take(50, WINDOW_SECONDS)
    assert bench.meter.report().events_per_second is None


def test_while_it_is_behind_its_rate_is_measured() -> None:
    """100 frames of ten events in each half second."""
    bench = Bench()
    bench.ends[PLACE] = LogEnd(10_000, 0)
    bench.take(400, 4 * WINDOW_SECONDS)
    report = bench.meter.report()
    assert report.waiting_records == 9_600
    assert report.events_per_second == pytest.approx(1_000 / WINDOW_SECONDS, rel=0.05)


def test_a_stalled_delivery_is_no_rate() -> None:
    """A look that took long was no folding."""
    bench = Bench()
    bench.ends[PLACE] = LogEnd(10_000, 0)
    bench.take(200, 2 * WINDOW_SECONDS)
    before = bench.meter.report().events_per_second
    bench.now += 60.0
    bench.take(1, 0.1)
    assert bench.meter.report().events_per_second == before
