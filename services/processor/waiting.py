"""Waiting until the frontier covers positions, without polling."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from streams.position import Frontier, Position


@dataclass(frozen=True, slots=True, eq=False)
class _Wait:
    positions: list[Position]
    covered: "asyncio.Future[None]"


class FrontierWaits:
    """Those who wait for read tokens. `advanced` must be called after each record that was folded."""

    def __init__(self, frontier: Callable[[], Frontier]) -> None:
        self._frontier = frontier
        # In the order of arrival, so that nothing depends on where objects lie in memory.
        self._waits: dict[_Wait, None] = {}

    def __len__(self) -> int:
        return len(self._waits)

    def advanced(self) -> None:
        """The frontier moved: wake those whose positions it covers now."""
        if not self._waits:
            return
        frontier = self._frontier()
        for wait in self._waits:
            if not wait.covered.done() and all(map(frontier.covers, wait.positions)):
                wait.covered.set_result(None)

    async def covered(self, positions: list[Position], timeout_seconds: float) -> bool:
        """Wait until the frontier covers all `positions`; False when it has not within `timeout_seconds`."""
        if all(map(self._frontier().covers, positions)):
            return True
        wait = _Wait(positions, asyncio.get_running_loop().create_future())
        self._waits[wait] = None
        try:
            async with asyncio.timeout(max(0.0, timeout_seconds)):
                await wait.covered
        except TimeoutError:
            return False
        else:
            return True
        finally:
            self._waits.pop(wait, None)
