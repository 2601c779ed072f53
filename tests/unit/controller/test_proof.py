"""Nobody is asked to stand still for a comparison that cannot succeed yet."""

from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.controller.proof import Prover, records_behind
from services.processor.client import StateSummary
from tests.support.turned_clock import TurnedClock


def test_what_the_own_state_lacks_is_counted_over_all_logs() -> None:
    """What it has beyond the peer's makes up for nothing."""
    own = [("east-1.events", 0, 5), ("west-1.events", 0, 100)]
    peer = [("east-1.events", 0, 9), ("east-1.events", 1, 3), ("west-1.events", 0, 90)]
    assert records_behind(own, peer) == 7
    assert records_behind(peer, own) == 10
    assert records_behind(own, own) == 0


async def test_who_stands_still_in_vain_is_asked_later_and_later(tmp_path: Path) -> None:
    """A copy that is stuck just short of the other must not halt the active region's answers once a second."""
    state = StateSummary("west", "west-1", [("east-1.events", 0, 9)], "00")

    async def standing(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(state))

    async def short(_: web.Request) -> web.Response:
        return web.Response(status=409, body=msgspec.json.encode(state))

    app = web.Application()
    app.router.add_get("/v1/state", standing)
    app.router.add_post("/v1/hold", standing)
    app.router.add_get("/v1/digest", short)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        prover = Prover(session, TurnedClock(), tmp_path / "proof.json", wait_ms=10)
        url = str(server.make_url("")).rstrip("/")
        found = [prover.retry_seconds]
        for _ in range(6):
            assert await prover.prove("west-2", url, {"east": url}) is not None
            found.append(prover.retry_seconds)
    assert found == [1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0]
