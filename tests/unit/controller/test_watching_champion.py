"""What a controller makes of its worker's word about the champion: one slow answer is none, two are a blocker."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.common.clock import SystemClock
from services.controller.observe import Observer, Urls
from tests.support.poll import wait_until_async
from tests.support.small_region import champion_report

AWAY = "away"
LOADING = "version 2 is champion, version 1 serves: it is being loaded"


async def test_unknown_blocks_from_the_second_failure_on() -> None:
    """And from the start, before anything was heard."""
    script: list[str | None] = [AWAY, None, AWAY, None, AWAY, AWAY, AWAY, None, LOADING]
    seen: list[str | None] = []

    async def champion(_: web.Request) -> web.Response:
        said = script.pop(0) if len(script) > 1 else script[0]
        if said == AWAY:
            return web.Response(status=503)
        return web.Response(body=msgspec.json.encode(champion_report(said)), content_type="application/json")

    def note() -> None:
        if not seen or seen[-1] != observer.data.champion:
            seen.append(observer.data.champion)

    app = web.Application()
    app.router.add_get("/v2/repository/models/ranker/champion", champion)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        url = str(server.make_url("")).rstrip("/")
        urls = Urls(url, url, url, url)
        observer = Observer(urls, session, SystemClock(), interval_seconds=0.001, on_change=note)
        assert observer.data.champion is not None, "nobody was asked yet"
        watching = asyncio.ensure_future(observer.run())
        await wait_until_async(lambda: LOADING in seen, 10, "the last word")
        watching.cancel()
        await asyncio.wait([watching])
    unknown = [said for said in seen if said is not None and said.startswith("inference: does not say (503")]
    assert seen[-4:] == [None, unknown[-1], None, LOADING]
    assert len(unknown) == 2, "before the first answer, and after two failures in a row"
