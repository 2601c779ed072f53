"""A herd asks a real HTTP server at once, and counts what becomes of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from region_sim.backends.process import ProcessBackend
from region_sim.faults.base import Scene
from region_sim.faults.plays import play_of
from region_sim.spec import Herd
from services.common.clock import SystemClock
from services.common.deployment import Deployment, Site


class Door:
    """A gateway that answers the first two searches, sheds the next two, and sends the rest to itself once more."""

    def __init__(self, *, redirect: bool = False) -> None:
        self.asked: list[str] = []
        self.open_at_once = 0
        self.most_at_once = 0
        self.knocked = 0
        self.over = asyncio.Event()
        self._redirect = redirect

    async def ready(self, request: web.Request) -> web.Response:
        """From the third question on."""
        self.knocked += 1
        return web.Response(status=200 if self.knocked > 2 else 503)

    async def search(self, request: web.Request) -> web.Response:
        """Answer by how many came before."""
        self.open_at_once += 1
        self.most_at_once = max(self.most_at_once, self.open_at_once)
        await asyncio.sleep(0.05)
        self.open_at_once -= 1
        self.asked.append((await request.json())["user"])
        if self._redirect:
            return web.Response(status=307, headers={"Location": str(request.url)})
        if len(self.asked) <= 2:
            return web.json_response({})
        if len(self.asked) == 3:
            return web.Response(status=429, headers={"Retry-After": "1"})
        return web.Response(status=503 if len(self.asked) == 4 else 500)


async def told(door: Door, herd: Herd, directory: Path) -> str:
    """What the play says of a herd at this door."""
    app = web.Application()
    app.router.add_post("/v1/search", door.search)
    app.router.add_get("/readyz", door.ready)
    async with TestServer(app) as server:
        assert server.port is not None
        sites = [Site(name="east", kind="region", host="127.0.0.1", base_port=server.port)]
        deployment = Deployment(deployment_id="d", network="loopback", sites=sites, directory=str(directory))
        play = play_of(Scene(ProcessBackend(deployment), SystemClock(), "east", ["east"]), herd, "")
        assert await play.not_injected() == "nobody asked"
        said = await play.inject()
        assert await play.not_injected() is None
        assert await play.not_healed() is None
        door.over.set()
        return said


async def test_all_ask_at_once_and_every_answer_is_counted(tmp_path: Path) -> None:
    """With and without a word on when to come back."""
    door = Door()
    said = await told(door, Herd(clients=5, searches_each=1), tmp_path)
    assert door.knocked == 3, "they wait until it is ready"
    assert door.most_at_once == 5
    assert sorted(door.asked) == [f"herd-{number}" for number in range(5)]
    assert said.startswith(
        "5 clients asked east 1 times each at once: 2 answered, 1 answered 500, 1 refused with 429 with Retry-After, "
        "1 refused with 503 without Retry-After, in "
    )


async def test_a_redirect_is_followed_once_and_each_client_asks_as_often_as_it_should(tmp_path: Path) -> None:
    """A gateway that sends everybody round in circles is shown as that."""
    door = Door(redirect=True)
    said = await told(door, Herd(clients=2, searches_each=3), tmp_path)
    assert "6 redirected twice" in said
    assert len(door.asked) == 12


async def test_a_herd_that_nobody_answers_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is still waiting is given up, and counted as that."""
    monkeypatch.setattr("region_sim.faults.herd.ALL_SECONDS_MAX", 0.2)

    class Mute(Door):
        async def search(self, request: web.Request) -> web.Response:
            await self.over.wait()
            return web.json_response({})

    said = await told(Mute(), Herd(clients=4, searches_each=1), tmp_path)
    assert "4 given up" in said


async def test_a_door_that_stays_shut_is_a_failure_of_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that are refused are answers too, and nobody waits for ever."""
    monkeypatch.setattr("region_sim.faults.herd.OPEN_SECONDS_MAX", 0.3)
    sites = [Site(name="east", kind="region", host="127.0.0.1", base_port=1)]
    deployment = Deployment(deployment_id="d", network="loopback", sites=sites, directory=str(tmp_path))
    play = play_of(Scene(ProcessBackend(deployment), SystemClock(), "east", ["east"]), Herd(clients=3), "")
    said = await play.inject()
    assert "9 failed (ClientConnectorError)" in said
    assert said.endswith("(east did not answer)")
    said = play.said  # type: ignore[attr-defined]
    assert len({one.id for one in said}) == 9
    assert {one.user for one in said} == {"herd-0", "herd-1", "herd-2"}
