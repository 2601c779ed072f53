"""The three things a client takes from the outside world: the time of day, elapsed time and chance.

They sit behind one small protocol because every promise of this library is about time: an event's time is set
once, a retry waits as long as it was asked to, and an answer that comes after the caller's own time-out is
thrown away. Tests pass a clock that they move by hand. The rest of the project has a clock of its own; this
copy exists because the client installs alone."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from typing import Protocol


class Clock(Protocol):
    """What the client needs to know about time and chance."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch, UTC: goes into events."""

    def elapsed_seconds(self) -> float:
        """Seconds on a clock that never goes back and that counts the time a machine was suspended."""

    def chance(self) -> float:
        """A number in [0, 1), for the jitter of retries."""

    def new_id(self) -> str:
        """An identifier that nobody else uses."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The real one."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def elapsed_seconds(self) -> float:
        """Seconds since boot where the machine says so."""
        # BOOTTIME goes on while a machine is suspended: an answer that slept with it is late.
        if hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.monotonic()

    def chance(self) -> float:
        """Uniform."""
        return random.random()  # noqa: S311 - jitter

    def new_id(self) -> str:
        """A random UUID."""
        return str(uuid.uuid4())

    async def sleep(self, seconds: float) -> None:
        """On the event loop."""
        await asyncio.sleep(seconds)
