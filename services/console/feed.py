"""Keeping pages up to date: everything at once when they connect, again when it changes, a heartbeat in between.

A page that reads slowly keeps no queue here: it is always sent the newest picture, and skips those between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web

from services.common.clock import Clock
from services.common.problem import Problem
from services.common.waiting import news_within
from services.console.metrics import ConsoleMetrics
from services.console.shapes import Picture, Times, Told

BEAT_SECONDS: Final = 1.0
PACE_SECONDS: Final = 0.05
"""At most so often is a picture made, whatever comes in."""
WRITE_SECONDS_MAX: Final = 10.0
"""A page that takes nothing for so long is gone."""

_encode = msgspec.json.Encoder().encode


class Feed:
    """`run` makes pictures; `watch` is `GET /v1/watch`, `state` is `GET /v1/state`."""

    def __init__(
        self,
        look: Callable[[], tuple[Picture, Times]],
        clock: Clock,
        metrics: ConsoleMetrics,
        watchers_max: int,
    ) -> None:
        self._look = look
        self._clock = clock
        self._metrics = metrics
        self._watchers_max = watchers_max
        self._watchers = 0
        self._heard = asyncio.Event()
        self._news = asyncio.Event()
        self._shown = b""
        self._version = 0
        self._closing = False

    def heard(self) -> None:
        """Something was heard that may change the picture."""
        self._heard.set()

    async def run(self) -> None:
        """Look at what was heard, and wake the pages when it comes to something else."""
        while True:
            await news_within(self._heard, BEAT_SECONDS)
            self._heard.clear()
            self.refresh()
            await self._clock.sleep(PACE_SECONDS)

    def refresh(self) -> None:
        """Make the picture anew; pages are woken when it differs."""
        encoded = _encode(self._look()[0])
        if encoded == self._shown:
            return
        self._shown = encoded
        self._version += 1
        self._metrics.pictures.inc()
        news, self._news = self._news, asyncio.Event()
        news.set()

    def close(self) -> None:
        """Let all pages go, so that the process can end."""
        self._closing = True
        self._news.set()

    async def state(self, _: web.Request) -> web.Response:
        """Answer with everything, once."""
        return web.Response(body=self._told(), content_type="application/json")

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """Send events until the page goes away. Raises Problem (503) for one page too many."""
        if self._watchers >= self._watchers_max:
            self._metrics.watchers_refused.inc()
            raise Problem(
                503,
                "too-many-watchers",
                f"{self._watchers} pages are open already, and `watchers_max` allows no more",
                remedy="Close one, or raise MERIDIAN_CONSOLE_WATCHERS_MAX.",
                retry_after_seconds=5,
            )
        self._watchers += 1
        self._metrics.watchers.set(self._watchers)
        try:
            return await self._send(request)
        finally:
            self._watchers -= 1
            self._metrics.watchers.set(self._watchers)

    async def _send(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        await response.prepare(request)
        sent = -1
        while not self._closing:
            news = self._news
            event = b"beat" if sent == self._version else b"state"
            sent, payload = self._version, _encode(self._look()[1]) if event == b"beat" else self._told()
            try:
                async with asyncio.timeout(WRITE_SECONDS_MAX):
                    await response.write(b"event: " + event + b"\ndata: " + payload + b"\n\n")
            except (TimeoutError, ConnectionError):
                break
            await news_within(news, BEAT_SECONDS)
        return response

    def _told(self) -> bytes:
        picture, times = self._look()
        return _encode(Told(picture=picture, times=times))
