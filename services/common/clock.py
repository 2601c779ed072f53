"""The only place that asks the machine what time it is.

Time is an argument everywhere else, so that tests and the simulator decide it. Three kinds are kept apart because they
fail differently: wall time can jump, elapsed time stops with a suspended machine, boot time does not.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Protocol


class Clock(Protocol):
    """What a process may know about time."""

    def unix_ms(self) -> int:
        """Return wall time in milliseconds since the epoch; it can jump in both directions."""

    def monotonic(self) -> float:
        """Return seconds that never go back; for measuring durations within this process."""

    def boottime(self) -> float:
        """Return seconds since boot, counted through suspends; comparable among processes of one machine."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""


class SystemClock:
    """The machine's own clocks."""

    def unix_ms(self) -> int:
        """See Clock."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """See Clock."""
        return time.monotonic()

    def boottime(self) -> float:
        """See Clock."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """See Clock."""
        import asyncio  # 10 MB that the supervisor, which never awaits, does without

        await asyncio.sleep(seconds)


def unix_us() -> int:
    """Return wall time in microseconds since the epoch, for spans: a ranking's steps take less than a millisecond."""
    return time.time_ns() // 1_000


def random_bytes(count: int) -> bytes:
    """Return unpredictable bytes, for identifiers and keys."""
    return os.urandom(count)
