"""The console as a process: watch, make pictures, serve the page."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Middleware

from services.common.clock import Clock, SystemClock
from services.common.deployment import Deployment, Site, load_deployment
from services.common.health import Health
from services.common.http import serving
from services.common.logging import get_logger
from services.common.metrics import add_metrics_route, new_registry
from services.common.problem import problem_middleware
from services.common.process import LoadedSettings
from services.console.feed import Feed
from services.console.metrics import ConsoleMetrics
from services.console.operating import OperatingApi
from services.console.page_files import PageFiles, only_under_own_name, with_headers
from services.console.picture import answering, picture, times
from services.console.settings import ConsoleSettings
from services.console.shapes import Picture, Times
from services.console.watch import Watch

CONNECTIONS_MAX = 64
SHUTDOWN_SECONDS = 1.0

log = get_logger(__name__)


class Console:
    """All parts of one console; `app` is what is served, `run` its task."""

    def __init__(
        self, deployment: Deployment, settings: ConsoleSettings, session: aiohttp.ClientSession, clock: Clock
    ) -> None:
        self.deployment = deployment
        self.metrics = ConsoleMetrics(new_registry())
        self.feed = Feed(self._look, clock, self.metrics, settings.watchers_max)
        self.watch = Watch(deployment, session, clock, settings, self.feed.heard)
        self.operating = OperatingApi(deployment, settings, session, self.metrics, self._order)
        self.working: asyncio.Future[None] | None = None
        self._clock = clock
        self._settings = settings
        self.app = self._web_app()

    async def run(self) -> None:
        """Watch for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.watch.run())
            tasks.create_task(self.feed.run())

    async def until(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set. Raises what ended the watching: a page that hears nobody any more is worse."""
        assert self.working is not None
        stopping = asyncio.ensure_future(stop.wait())
        waited: list[asyncio.Future[Any]] = [stopping, self.working]
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if self.working.done():
                await self.working
        finally:
            stopping.cancel()

    def _look(self) -> tuple[Picture, Times]:
        now = self._clock.monotonic()
        seen = self.watch.seen
        self.metrics.controllers.set(answering(seen, now))
        found = picture(self.deployment, seen, self.operating.operating, now)
        return found, times(seen, now, self._clock.unix_ms())

    def _order(self) -> list[Site]:
        """Those first whose controller was heard last."""
        seen = self.watch.seen.regions
        return sorted(
            self.deployment.regions, key=lambda s: (bool(seen[s.name].lease.problem), -seen[s.name].lease.at_seconds)
        )

    def _web_app(self) -> web.Application:
        middlewares: list[Middleware] = [with_headers, problem_middleware, only_under_own_name(self._settings)]
        app = web.Application(middlewares=middlewares, client_max_size=8192)
        health = Health()
        health.add_notice("controllers", self._silence)
        health.add_routes(app)
        add_metrics_route(app, self.metrics.registry)
        app.router.add_get("/v1/watch", self.feed.watch)
        app.router.add_get("/v1/state", self.feed.state)
        self.operating.add_routes(app)
        PageFiles(self.watch).add_routes(app)
        app.on_shutdown.append(self._let_go)
        return app

    def _silence(self) -> str | None:
        """A console that hears nobody is of use all the same: it says so."""
        return None if answering(self.watch.seen, self._clock.monotonic()) else "no controller answers"

    async def _let_go(self, _: web.Application) -> None:
        self.feed.close()


async def serve(loaded: LoadedSettings, stop: asyncio.Event) -> None:
    """Run until `stop` is set. Raises SettingsError."""
    settings = loaded[ConsoleSettings]
    assert isinstance(settings, ConsoleSettings)
    async with running(load_deployment(settings.deployment), settings, SystemClock()) as (console, url):
        log.info("listening", url=url)
        await console.until(stop)


@asynccontextmanager
async def running(
    deployment: Deployment,
    settings: ConsoleSettings,
    clock: Clock,
    *,
    door: socket.socket | None = None,
    port: int | None = None,
) -> AsyncIterator[tuple[Console, str]]:
    """A console that serves, and its address; at `door` when that listens already. Raises SettingsError."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
    async with aiohttp.ClientSession(connector=connector) as session:
        console = Console(deployment, settings, session, clock)
        wanted = settings.port if port is None else port
        async with _listening(console.app, settings.host, wanted, door) as bound:
            console.working = asyncio.ensure_future(console.run())
            try:
                yield console, f"http://{_shown(settings.host)}:{bound}/"
            finally:
                console.working.cancel()
                await asyncio.gather(console.working, return_exceptions=True)


@asynccontextmanager
async def _listening(app: web.Application, host: str, port: int, door: socket.socket | None) -> AsyncIterator[int]:
    if door is None:
        async with serving(
            app, host, port, shutdown_timeout_seconds=SHUTDOWN_SECONDS, handler_cancellation=True
        ) as bound:
            yield bound
        return
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS, handler_cancellation=True)
    await runner.setup()
    try:
        await web.SockSite(runner, door).start()
        yield int(door.getsockname()[1])
    finally:
        await runner.cleanup()


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
