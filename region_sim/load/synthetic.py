"""The load that is made from the seed: for each region one app with the library and one bare client, an open loop."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from region_sim.faults.base import wait_until_none
from region_sim.history import HistoryWriter
from region_sim.load.bare import BareApp
from region_sim.load.base import App
from region_sim.load.library import LibraryApp
from region_sim.load.open_loop import OpenLoop
from region_sim.load.script import Script
from region_sim.spec import Load
from services.common.clock import Clock

STATUS_SECONDS = 0.5


class SyntheticLoad:
    """Use with `async with`. The bare clients are pinned, so that both sides of a partition are asked."""

    def __init__(
        self, gateways: Mapping[str, str], load: Load, script: Script, history: HistoryWriter, clock: Clock
    ) -> None:
        """`gateways`: addresses by region."""
        self._load, self._script, self._history, self._clock = load, script, history, clock
        self._loop = OpenLoop(history, clock, load.calls_in_flight_max)
        self._stack = AsyncExitStack()
        self._library: list[LibraryApp] = []
        self._bare: list[BareApp] = []
        for region, url in gateways.items():
            urls = [url, *(other for name, other in gateways.items() if name != region)]
            self._library.append(LibraryApp(f"library-{region}", urls, load, history, clock))
            self._bare.append(BareApp(f"bare-{region}", url, load, history, clock))
        self._apps: list[LibraryApp | BareApp] = [*self._library, *self._bare]

    async def __aenter__(self) -> Self:
        for app in self._apps:
            await self._stack.enter_async_context(app)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._loop.abandon()
        await self._stack.aclose()

    async def preload(self, seconds_max: float) -> str | None:
        """Publish the catalogue and wait until a search is answered; why that did not happen, or None."""
        first = self._library[0]
        await first.publish_items(self._script.catalogue())

        async def unanswered() -> str | None:
            await first.search(self._script.search("preload", self._history.written))
            return None if self._history.answers else "no search is answered"

        return await wait_until_none(self._clock, unanswered, seconds_max, STATUS_SECONDS)

    def start(self) -> None:
        """Begin the open loop."""
        share = self._load.bare_share
        for apps, of_all in ((self._library, 1 - share), (self._bare, share)):
            for app in apps:
                self._start(app, of_all / len(apps))

    def _start(self, app: App, share: float) -> None:
        load = self._load
        calls_per_second = load.events_per_second / load.events_per_call * share
        self._loop.start(app, self._script, load.searches_per_second * share, calls_per_second)

    async def stop(self) -> None:
        """Make no more calls; return when each has its answer or has been given up."""
        await self._loop.stop()

    async def settle(self, seconds_max: float) -> None:
        """Find out what became of what nobody answered."""
        for app in self._apps:
            await app.settle(seconds_max)
