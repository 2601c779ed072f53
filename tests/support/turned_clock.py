"""A clock that stands still until a test turns it; wall time and boot time can be turned apart."""

from __future__ import annotations

import asyncio


class TurnedClock:
    """A Clock. Sleeping turns it."""

    def __init__(self, *, seconds: float = 1_000.0, unix_ms: int = 1_700_000_000_000) -> None:
        self._seconds = seconds
        self._unix_ms = float(unix_ms)

    def unix_ms(self) -> int:
        return int(self._unix_ms)

    def monotonic(self) -> float:
        return self._seconds

    def boottime(self) -> float:
        return self._seconds

    async def sleep(self, seconds: float) -> None:
        self.turn(seconds)
        await asyncio.sleep(0)

    def turn(self, seconds: float) -> None:
        """Let time pass."""
        self._seconds += seconds
        self._unix_ms += seconds * 1000

    def step_wall(self, seconds: float) -> None:
        """Set wall time, as after a pause that boot time did not notice."""
        self._unix_ms += seconds * 1000
