"""A controller that says what a test says: `GET /v1/lease` with its long poll, and nothing behind it."""

from __future__ import annotations

import asyncio
from typing import Self

import msgspec
from aiohttp import web

from services.controller.client import NO_EPOCH, Epoch, Leader, LeaseAnswer


class FakeController:
    """Use with `async with`; the region is passive, and nobody is known to lead, until a test says otherwise."""

    def __init__(self, region: str = "east") -> None:
        self._news = asyncio.Event()
        self._answer = LeaseAnswer(
            region=region,
            active=False,
            epoch=NO_EPOCH,
            remaining_ms=0,
            reason="nobody holds the lease",
            largest_epoch=NO_EPOCH,
            leader=None,
            view_age_ms=0,
            version=1,
        )
        self.asked = 0
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/v1/lease", self._lease)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def give(self, epoch: Epoch, *, remaining_ms: int = 60_000, serving: bool = True) -> None:
        """The region is active from now on; each answer says that it is for so long."""
        leader = Leader(region=self._answer.region, epoch=epoch, gateway_url="http://own", serving=serving)
        self._say(active=True, epoch=epoch, remaining_ms=remaining_ms, reason="", leader=leader, largest_epoch=epoch)

    def take(self, leader: Leader | None, reason: str = "another region holds the lease") -> None:
        """The region is passive from now on."""
        largest = leader.epoch if leader is not None else self._answer.largest_epoch
        self._say(active=False, epoch=NO_EPOCH, remaining_ms=0, reason=reason, leader=leader, largest_epoch=largest)

    def _say(self, **changes: object) -> None:
        self._answer = msgspec.structs.replace(self._answer, **changes, version=self._answer.version + 1)
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _lease(self, request: web.Request) -> web.Response:
        self.asked += 1
        since, wait_ms = request.query.get("since"), int(request.query.get("wait_ms", "0"))
        if since == str(self._answer.version):
            try:
                async with asyncio.timeout(wait_ms / 1000):
                    await self._news.wait()
            except TimeoutError:
                pass
        return web.Response(body=msgspec.json.encode(self._answer), content_type="application/json")
