"""The digest at a frontier that somebody else names: the fold stands still there for as long as that takes.

Under load no frontier that was just read is still ahead of its reader. So a comparison has two steps: first every
region stands still and says where; then all of them go on to the furthest of these places, partition by partition. Each
can reach it, because what one region has taken of a log stands, or soon arrives, in the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from services.common.clock import Clock
from streams.holding import Hold
from streams.intake import Intake, LogRecord
from streams.position import Frontier
from streams.state import State

OnFailure = Callable[[BaseException], None]


class HoldBusy(Exception):
    """Somebody else is comparing digests now: ask again in a moment."""


class HeldDigests:
    """One for each processor. Whatever fails while records are taken again goes to `on_failure`."""

    def __init__(self, intake: Intake, state: State, clock: Clock, on_failure: OnFailure) -> None:
        self._intake = intake
        self._state = state
        self._clock = clock
        self._on_failure = on_failure
        self._begun: Hold[LogRecord] | None = None
        self._ending: asyncio.Task[None] | None = None

    def begin(self, hold_ms: int) -> None:
        """Stand still until `reach` is asked, for `hold_ms` at most. Raises HoldBusy."""
        self._begun = self._hold()
        self._ending = asyncio.create_task(self._end_later(self._begun, hold_ms / 1000))

    async def reach(self, frontier: Frontier, wait_ms: int, read: Callable[[], object]) -> bool:
        """Stop at `frontier`, call `read` there, and go on; False when it was not reached in time. Raises HoldBusy."""
        hold = self._begun or self._hold()
        self._begun = None
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        try:
            await self._guarded(self._intake.move_hold(hold, frontier))
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_ms / 1000):
                    await hold.settled.wait()
            if hold.given_up or not hold.reached(self._state.frontier):
                return False
            read()
            return True
        finally:
            await self._guarded(self._intake.release(hold))

    def _hold(self) -> Hold[LogRecord]:
        try:
            return self._intake.hold()
        except ValueError as busy:
            raise HoldBusy(str(busy)) from busy

    async def _end_later(self, hold: Hold[LogRecord], seconds: float) -> None:
        await self._clock.sleep(seconds)
        # From here on nobody may cut this short: what was kept back would be lost.
        self._begun = self._ending = None
        await self._guarded(self._intake.release(hold))

    async def _guarded(self, taking: Awaitable[None]) -> None:
        try:
            await taking
        except asyncio.CancelledError:
            raise
        # What was kept back is taken here instead of in the stream, so a failure must end the process as it does there.
        except BaseException as failure:  # noqa: BLE001
            self._on_failure(failure)
