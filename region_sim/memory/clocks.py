"""The clocks of one machine: they run at a rate of their own, and the wall clock can be set.

As on real machines, boot time and elapsed time cannot be set, only run fast or slow; wall time can be anything.
"""

from __future__ import annotations

import asyncio

from region_sim.memory.kernel import Kernel

UNIX_MS_AT_THE_BEGINNING = 1_790_000_000_000
SLEEP_SECONDS_MIN = 0.000_01


class MachineClock:
    """A Clock. `offset_seconds` tells apart the boot times of machines, which nobody may compare."""

    def __init__(self, kernel: Kernel, offset_seconds: float = 0.0) -> None:
        self._kernel = kernel
        self._since = kernel.time()
        self._boot = 100.0 + offset_seconds
        self._wall_ms = UNIX_MS_AT_THE_BEGINNING + 1000 * (kernel.time() - self._since)
        self._rate = 1.0

    def set_rate(self, rate: float) -> None:
        """Let all clocks of the machine run at this rate from now on."""
        self._boot, self._wall_ms, self._since = self.boottime(), self._wall(), self._kernel.time()
        self._rate = rate

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock, forward or back."""
        self._wall_ms += 1000 * seconds

    def unix_ms(self) -> int:
        """See Clock."""
        return int(self._wall())

    def monotonic(self) -> float:
        """See Clock."""
        return self._boot + (self._kernel.now - self._since) * self._rate

    def boottime(self) -> float:
        """See Clock."""
        return self._boot + (self._kernel.now - self._since) * self._rate

    async def sleep(self, seconds: float) -> None:
        """See Clock; never in no time: rounding would let a wait for a moment end just before it, for ever."""
        kernel = self._kernel
        woken = kernel.create_future()
        timer = kernel.call_later(max(SLEEP_SECONDS_MIN, seconds) / self._rate, _wake, woken)
        try:
            await woken
        finally:
            timer.cancel()

    def _wall(self) -> float:
        return self._wall_ms + 1000 * (self._kernel.now - self._since) * self._rate


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
