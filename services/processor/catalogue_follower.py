"""Bringing changed items into retrieval without holding up the fold.

Changes are gathered for a moment and taken in small steps, with the loop free in between: a shop that publishes its
whole catalogue at once must not stop rankings for as long as that takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice

STEP_ITEMS = 32


class CatalogueFollower:
    """Gathers item hashes and hands them on. `run` must be running."""

    def __init__(
        self,
        follow: Callable[[list[int]], object],
        interval_seconds: float,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._follow = follow
        self._interval_seconds = interval_seconds
        self._sleep = sleep
        self._waiting: dict[int, None] = {}
        self._something = asyncio.Event()

    @property
    def behind(self) -> int:
        """Items that changed and are not taken in yet."""
        return len(self._waiting)

    def changed(self, items: Iterable[int]) -> None:
        """These items have another entry now."""
        self._waiting.update(dict.fromkeys(items))
        self._something.set()

    async def run(self) -> None:
        """Take changes in, for ever."""
        while True:
            await self._something.wait()
            await self._sleep(self._interval_seconds)
            await self.catch_up()

    async def catch_up(self) -> None:
        """Take in all that waits now."""
        while self._waiting:
            step = list(islice(self._waiting, STEP_ITEMS))
            for item in step:
                del self._waiting[item]
            self._follow(step)
            await asyncio.sleep(0)
        self._something.clear()
