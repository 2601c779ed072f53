"""A web page that an operator has open must not move the activity, though its browser reaches a controller."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.common.metrics import new_registry
from services.controller import server
from services.controller.metrics import ControllerMetrics
from services.replicator import surface

PAGE = {"Origin": "https://elsewhere.example", "Content-Type": "text/plain"}


def _controller() -> web.Application:
    """A controller's application; nothing behind it is reached here."""
    controller: Any = SimpleNamespace(metrics=ControllerMetrics(new_registry()), sentence="")
    nothing: Any = SimpleNamespace()
    settings: Any = SimpleNamespace(rto_target_seconds=10.0)
    return server._web_app(controller, nothing, nothing, nothing, settings)


def _replicator(monkeypatch: pytest.MonkeyPatch) -> web.Application:
    monkeypatch.setattr(surface, "ReplicationMetrics", lambda *_: None)
    nothing: Any = SimpleNamespace(walk_blocker=lambda: None, phase="")
    return surface.new_app(nothing, nothing, "instance", lambda: None)


@pytest.mark.parametrize(
    ("path", "of"),
    [(f"/v1/{verb}", "controller") for verb in ("switchover", "failover", "pause", "resume")]
    + [("/v1/holes", "replicator")],
)
async def test_a_page_is_refused_and_a_program_is_heard(path: str, of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser sends the page's POST without asking first, and names the page; a program sends no Origin."""
    app = _controller() if of == "controller" else _replicator(monkeypatch)
    async with TestServer(app) as listening, aiohttp.ClientSession() as session:
        url = listening.make_url(path)
        async with session.post(url, data=b"no JSON", headers=PAGE) as answer:
            assert answer.status == 403
            assert "meridian --help" in (await answer.json(content_type=None))["remedy"]
        async with session.post(url, data=b"no JSON") as answer:
            assert answer.status == 400
        async with session.get(listening.make_url("/livez"), headers=PAGE) as answer:
            assert answer.status == 200
