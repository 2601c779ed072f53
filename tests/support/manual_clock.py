"""A clock for the client library's tests: waiting takes no time, and chance is what the test says."""

import asyncio
import itertools
import time


class SkippingClock:
    """Real elapsed time plus whatever was slept or skipped; remembers every sleep."""

    def __init__(self, wall_ms: int = 1_700_000_000_000, chance: float = 0.5) -> None:
        self.slept_seconds: list[float] = []
        self._wall_ms = wall_ms
        self._chance = chance
        self._skipped_seconds = 0.0
        self._ids = itertools.count(1)

    def wall_ms(self) -> int:
        """A fixed time of day that moves with what was slept."""
        return self._wall_ms + int(self._skipped_seconds * 1000)

    def elapsed_seconds(self) -> float:
        """Monotonic."""
        return time.monotonic() + self._skipped_seconds

    def chance(self) -> float:
        """Always the same."""
        return self._chance

    def new_id(self) -> str:
        """id-1, id-2 and so on."""
        return f"id-{next(self._ids)}"

    def skip(self, seconds: float) -> None:
        """Let time pass, as when the process was stopped."""
        self._skipped_seconds += seconds

    async def sleep(self, seconds: float) -> None:
        """Note it, and be there at once."""
        self.slept_seconds.append(seconds)
        self._skipped_seconds += seconds
        await asyncio.sleep(0)
