"""One screen that shows a drill while it runs, where there is a terminal; plain lines where there is none."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from region_sim.history import HistoryWriter
from region_sim.spec import Drill
from region_sim.watching import Lines, Watch
from services.common.clock import Clock

REFRESH_SECONDS = 0.25
EVENTS_SHOWN = 8


@asynccontextmanager
async def watching(drill: Drill, history: HistoryWriter, clock: Clock) -> AsyncIterator[Watch]:
    """Yield what is told what happens, for as long as the drill runs."""
    if not sys.stdout.isatty():
        yield Lines()
        return
    screen = Screen(drill, history, clock)
    with Live(screen.render(), console=Console(), auto_refresh=False) as live:

        async def refresh() -> None:
            while True:
                live.update(screen.render(), refresh=True)
                await clock.sleep(REFRESH_SECONDS)

        task = asyncio.create_task(refresh())
        try:
            yield screen
        finally:
            task.cancel()
            await asyncio.wait([task])
            live.update(screen.render(), refresh=True)


class Screen:
    """What is known of the drill now, as something that can be drawn. A Watch."""

    def __init__(self, drill: Drill, history: HistoryWriter, clock: Clock) -> None:
        self._drill = drill
        self._history = history
        self._clock = clock
        self._began = clock.monotonic()
        self._phase = "begins"
        self._phase_began = self._began
        self._faults: dict[str, int] = {}
        self._events: deque[str] = deque(maxlen=EVENTS_SHOWN)
        self._counted: dict[str, int] = {}
        self._counted_at = self._began
        self._rates: dict[str, float] = {}

    def begins(self, clock: Clock, history: HistoryWriter) -> None:
        """See Watch."""

    def phase(self, name: str) -> None:
        """See Watch."""
        self._phase, self._phase_began = name, self._clock.monotonic()
        self.said(name)

    def broken(self, label: str, details: str) -> None:
        """See Watch."""
        self._faults[label] = self._faults.get(label, 0) + 1
        self.said(f"broken: {label} ({details})")

    def mended(self, label: str, problem: str) -> None:
        """See Watch."""
        left = self._faults.get(label, 0) - 1
        if left > 0:
            self._faults[label] = left
        else:
            self._faults.pop(label, None)
        self.said(f"not healed: {label}: {problem}" if problem else f"healed: {label}")

    def said(self, sentence: str) -> None:
        """See Watch."""
        self._events.append(f"{self._clock.monotonic() - self._began:6.1f} s  {sentence}")

    def render(self) -> RenderableType:
        """The screen of now."""
        now = self._clock.monotonic()
        self._count(now)
        newest = self._history.newest
        active = f"{newest[0]}, epoch {newest[1][0]}.{newest[1][1]}" if newest is not None else "nobody yet"
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="bold")
        facts.add_column()
        facts.add_row("phase", f"{self._phase}, {now - self._phase_began:.0f} s (of {now - self._began:.0f} s)")
        facts.add_row("active", Text(active))
        facts.add_row("in force", Text(", ".join(self._faults) or "nothing", style="red" if self._faults else "green"))
        answers = Table("region", "answers", "a second", box=None, padding=(0, 2), pad_edge=False)
        for region in self._drill.topology.regions:
            count = self._history.answers.get(region, 0)
            answers.add_row(region, f"{count:,}", f"{self._rates.get(region, 0.0):.0f}")
        title = Text(f"{self._drill.name}: {self._drill.summary}", style="bold")
        return Group(title, facts, answers, Text("\n".join(self._events)))

    def _count(self, now: float) -> None:
        """Answers a second, over the last second or more."""
        passed = now - self._counted_at
        if passed < 1:
            return
        counts = dict(self._history.answers)
        self._rates = {region: (count - self._counted.get(region, 0)) / passed for region, count in counts.items()}
        self._counted, self._counted_at = counts, now
