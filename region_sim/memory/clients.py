"""Who is outside in virtual time: the drill's own apps, with the shipped client library, over the simulated network.

Only what opens sockets and asks for the real time is replaced: the library's session, and its clock.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import aiohttp

from region_sim.history import HistoryWriter
from region_sim.load.bare import BareApp
from region_sim.load.library import LibraryApp
from region_sim.memory.network import OUTSIDE
from region_sim.memory.session import SimResponse, SimSession
from region_sim.spec import Load
from services.client import ClientSettings, MeridianClient

if TYPE_CHECKING:
    from region_sim.memory.world import World


class ClientClock:
    """What the client library takes from the outside world, from a world that is simulated."""

    def __init__(self, world: World, draw: random.Random) -> None:
        self._clock = world.clock
        self._draw = draw

    def wall_ms(self) -> int:
        """See services.client.clock."""
        return self._clock.unix_ms()

    def elapsed_seconds(self) -> float:
        """See services.client.clock."""
        return self._clock.boottime()

    def chance(self) -> float:
        """See services.client.clock."""
        return self._draw.random()

    def new_id(self) -> str:
        """See services.client.clock."""
        return f"{self._draw.getrandbits(128):032x}"

    async def sleep(self, seconds: float) -> None:
        """See services.client.clock."""
        await self._clock.sleep(seconds)


class OutsideSession(SimSession):
    """A session that keeps the time-outs of those who ask, as aiohttp's does."""

    def request(
        self, method: str, url: str, *, data: bytes | None = None, headers: Mapping[str, str] | None = None, **_: Any
    ) -> Asked:
        """See aiohttp."""
        return Asked(self, method, url, headers or {}, data or b"", None)

    def get(self, url: str, *, timeout: aiohttp.ClientTimeout | None = None, **_: Any) -> Any:
        """See aiohttp."""
        return Asked(self, "GET", url, {}, b"", None if timeout is None else timeout.total)

    def post(
        self,
        url: str,
        *,
        data: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
        **_: Any,
    ) -> Any:
        """See aiohttp."""
        return Asked(self, "POST", url, headers or {}, data, None if timeout is None else timeout.total)


class Asked:
    """One request: `async with session.post(...) as response`."""

    __slots__ = ("_body", "_headers", "_limit_seconds", "_method", "_session", "_url")

    def __init__(
        self,
        session: OutsideSession,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        limit_seconds: float | None,
    ) -> None:
        self._session = session
        self._method = method
        self._url = url
        self._headers = headers
        self._body = body
        self._limit_seconds = limit_seconds

    async def __aenter__(self) -> SimResponse:
        async with asyncio.timeout(self._limit_seconds):
            return await self._session.ask(self._method, self._url, {}, self._headers, self._body)

    async def __aexit__(self, *_: object) -> None:
        return None


def outside_session(world: World) -> aiohttp.ClientSession:
    """A session of somebody outside, under the type that callers ask for."""
    return cast("aiohttp.ClientSession", OutsideSession(world, OUTSIDE))


class MemoryClient(MeridianClient):
    """The shipped library, over the simulated network."""

    def __init__(self, world: World, urls: list[str], source: str, draw: random.Random) -> None:
        settings = ClientSettings(outbox_events_max=100_000)
        super().__init__(urls, source=source, settings=settings, clock=ClientClock(world, draw))
        self._world = world

    def open_session(self) -> aiohttp.ClientSession:
        """See MeridianClient."""
        return outside_session(self._world)


class MemoryLibraryApp(LibraryApp):
    """An app with the library."""

    def __init__(self, process: str, urls: list[str], load: Load, history: HistoryWriter, world: World) -> None:
        super().__init__(process, urls, load, history, world.clock)
        self._client = MemoryClient(world, urls, self._source, random.Random(f"{world.seed} {process}"))  # noqa: S311


class MemoryBareApp(BareApp):
    """An app without the library."""

    def __init__(self, process: str, url: str, load: Load, history: HistoryWriter, world: World) -> None:
        super().__init__(process, url, load, history, world.clock)
        self._world = world

    async def __aenter__(self) -> Self:
        self._session = outside_session(self._world)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None
