"""How far the fold is behind its logs, and how fast it folds when it is: what a forecast of a failover needs.

A rate is measured only while more waits than one look brings: a processor that keeps up folds what comes, which says
how much comes and nothing about how fast it could be. Until it was behind once, the rate is not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from services.processor.client import FoldReport
from streams.state import State
from streams.truncation import LogEnd, Place

WINDOW_SECONDS: Final = 0.5
STALLED_WINDOWS: Final = 4
"""A look that took so many windows was no folding but waiting: it measures nothing."""
WAITING_RECORDS_MIN: Final = 10
NEWEST_SHARE: Final = 0.3
"""How much the newest look counts."""


class FoldMeter:
    """Told of every frame by `took`; `report` says what it knows."""

    def __init__(
        self,
        state: State,
        read_to: Callable[[], Mapping[Place, int]],
        ends: Callable[[], Mapping[Place, LogEnd]],
        monotonic: Callable[[], float],
    ) -> None:
        """`read_to` and `ends` are offsets of this region's Kafka: what is read next, and where the logs end."""
        self._state = state
        self._read_to = read_to
        self._ends = ends
        self._monotonic = monotonic
        self._began = monotonic()
        self._frames = 0
        self._events = 0
        self._was_behind = False
        self._events_per_second: float | None = None

    def took(self, events: int) -> None:
        """A frame of so many events was folded."""
        self._frames += 1
        self._events += events
        now = self._monotonic()
        seconds = now - self._began
        if seconds < WINDOW_SECONDS:
            return
        waiting = self.waiting_records() or 0
        # The ends are looked at once a second: less than this may have come since and be on its way.
        behind = waiting >= max(WAITING_RECORDS_MIN, self._frames)
        if self._was_behind and behind and seconds <= STALLED_WINDOWS * WINDOW_SECONDS:
            self._measured(self._events / seconds)
        self._began, self._frames, self._events, self._was_behind = now, 0, 0, behind

    def waiting_records(self) -> int | None:
        """Records in this region's logs that were not taken yet; None before the logs' ends were looked at."""
        ends = self._ends()
        if not ends:
            return None
        read_to = self._read_to()
        return sum(max(0, end.next_offset - read_to.get(place, 0)) for place, end in ends.items())

    def report(self) -> FoldReport:
        """What is known now."""
        waiting = self.waiting_records()
        tally = self._state.tally
        events_per_frame = (tally.events + tally.item_events) / tally.frames if tally.frames else 1.0
        return FoldReport(
            waiting_records=waiting,
            waiting_events=None if waiting is None else math.ceil(waiting * max(1.0, events_per_frame)),
            events_per_second=self._events_per_second,
        )

    def _measured(self, sample: float) -> None:
        before = self._events_per_second
        self._events_per_second = sample if before is None else before + NEWEST_SHARE * (sample - before)
