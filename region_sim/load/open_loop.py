"""The open loop: every call has its time, fixed in advance, and is made then, however slow the answers are.

A closed loop would ask less while nobody answers, and so hide the very outage that a drill is there to measure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from region_sim.history import HistoryWriter
from region_sim.load.base import App
from region_sim.load.script import Script
from services.common.clock import Clock

Call = Callable[[int], Coroutine[Any, Any, None]]


class OpenLoop:
    """Runs the load of several apps until it is told to stop."""

    def __init__(self, history: HistoryWriter, clock: Clock, calls_in_flight_max: int) -> None:
        self._history = history
        self._clock = clock
        self._calls_in_flight_max = calls_in_flight_max
        self._calls: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._stopped = False
        self.skipped = 0
        """Calls that were not made because too many were under way."""

    def start(self, app: App, script: Script, searches_per_second: float, calls_per_second: float) -> None:
        """Start what one app does."""

        async def search(number: int) -> None:
            await app.search(script.search(app.process, number))

        async def publish(number: int) -> None:
            await app.publish(script.events(app.process, number))

        for call, rate in ((search, searches_per_second), (publish, calls_per_second)):
            if rate > 0:
                self._loops.append(asyncio.create_task(self._loop(app.process, call, rate)))

    async def stop(self) -> None:
        """Make no more calls, and return when all of them have their answer. Raises what a call raised."""
        self._stopped = True
        await asyncio.gather(*self._loops)
        while self._calls:
            await asyncio.wait(self._calls)

    async def abandon(self) -> None:
        """Drop everything that is under way: the drill was ended early, or has had all its answers."""
        self._stopped = True
        left = [*self._loops, *self._calls]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    async def _loop(self, process: str, call: Call, rate: float) -> None:
        start = self._clock.monotonic()
        number = 0
        while not self._stopped:
            await self._clock.sleep(max(start + number / rate - self._clock.monotonic(), 0))
            if self._stopped:
                break
            if len(self._calls) >= self._calls_in_flight_max:
                self.skipped += 1
                if self.skipped == 1:
                    note = f"{len(self._calls)} calls are under way: calls are left out from now on"
                    self._history.add("info", "overload", process, note=note)
            else:
                task = asyncio.create_task(call(number))
                self._calls.add(task)
                task.add_done_callback(self._done)
            number += 1

    def _done(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug of the load itself: the drill cannot be judged.
            self._history.add("info", "load_error", "load", error=f"{type(error).__name__}: {error}")
