"""Serving HTTP: start listening, and stop in an order that cuts nobody off in the middle of an answer."""

from __future__ import annotations

import asyncio
import errno
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from services.common.settings import SettingsError


@asynccontextmanager
async def serving(
    app: web.Application,
    host: str,
    port: int,
    *,
    shutdown_timeout_seconds: float = 5.0,
    handler_cancellation: bool = False,
) -> AsyncIterator[int]:
    """Serve `app` for the length of the block and yield the port (0 picks one); requests under way are finished.

    With `handler_cancellation` the handler of a caller that hung up is cancelled. Raises SettingsError when the address
    is taken.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=shutdown_timeout_seconds,
        handler_cancellation=handler_cancellation,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            raise _unusable(host, port, error) from error
        yield bound_port(runner)
    finally:
        await runner.cleanup()


def bound_port(runner: web.AppRunner) -> int:
    """Return the port that a started runner listens on."""
    return int(runner.addresses[0][1])


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM and SIGINT; a second signal ends the process at once."""
    loop = asyncio.get_running_loop()

    def ask(number: signal.Signals) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask, number)


def _unusable(host: str, port: int, error: OSError) -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        return SettingsError(
            f"port {port} on {host} is taken by another process. Find it with `ss -ltnp 'sport = :{port}'`, or choose "
            "other ports with `meridian up --base-port`."
        )
    return SettingsError(f"cannot listen on {host}:{port}: {error.strerror}. Correct the address or the port.")
