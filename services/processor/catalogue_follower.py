"""Bringing changed items into retrieval without holding up the fold.

Changes are gathered for a moment and taken in small steps, with the loop free in between: a shop that publishes its
whole catalogue at once must not stop rankings for as long as that takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Protocol

STEP_ITEMS = 32


class TextIndex(Protocol):
    """The part of `models.lexical.LexicalIndex` that takes changes in."""

    def stage(self) -> bool:
        """Hand over what changed; False when nothing did."""

    def commit(self) -> None:
        """The slow part, for another thread."""

    def show(self) -> None:
        """Let queries see it."""


class CatalogueFollower:
    """Gathers item hashes and hands them on. `run` must be running."""

    def __init__(
        self,
        follow: Callable[[list[int]], object],
        texts: TextIndex,
        interval_seconds: float,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._follow = follow
        self._texts = texts
        self._interval_seconds = interval_seconds
        self._sleep = sleep
        self._waiting: dict[int, None] = {}
        self._something = asyncio.Event()
        self._hurry = asyncio.Event()
        self._level = asyncio.Event()
        self._level.set()

    @property
    def behind(self) -> int:
        """Items that changed and are not taken in yet."""
        return len(self._waiting)

    def changed(self, items: Iterable[int]) -> None:
        """These items have another entry now."""
        self._waiting.update(dict.fromkeys(items))
        if self._waiting:
            self._level.clear()
            self._something.set()

    async def level(self, timeout_seconds: float) -> bool:
        """Wait (bounded) until every change so far is in, without gathering more first; whether it is.

        An answer made without this would not know an item that was acknowledged before it was asked for.
        """
        if self._level.is_set():
            return True
        self._hurry.set()
        try:
            await asyncio.wait_for(self._level.wait(), timeout_seconds)
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Take changes in, for ever."""
        while True:
            await self._something.wait()
            await self._gather()
            await self.catch_up()

    async def _gather(self) -> None:
        """Let changes gather for a moment, unless somebody waits for them."""
        waits = (asyncio.ensure_future(self._sleep(self._interval_seconds)), asyncio.ensure_future(self._hurry.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def catch_up(self) -> None:
        """Take in all that waits now."""
        self._something.clear()
        staged = False
        while self._waiting:
            step = list(islice(self._waiting, STEP_ITEMS))
            for item in step:
                del self._waiting[item]
            self._follow(step)
            staged = self._texts.stage() or staged
            await asyncio.sleep(0)
        if staged:
            await asyncio.to_thread(self._texts.commit)
            self._texts.show()
        if not self._waiting:
            self._hurry.clear()
            self._level.set()
