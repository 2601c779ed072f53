"""What every process serves: health, metrics, problem documents; and how it stops."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from infra.runtime.kafka import free_ports
from services.common.health import Health
from services.common.http import serving
from services.common.metrics import add_metrics_route, new_registry
from services.common.problem import CONTENT_TYPE, Problem, problem_middleware
from services.common.settings import SettingsError


async def get(app: web.Application, path: str, method: str = "GET") -> tuple[int, str, dict[str, str]]:
    """One request to an application served for it alone."""
    async with (
        serving(app, "127.0.0.1", 0) as port,
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{port}{path}") as answer,
    ):
        return answer.status, await answer.text(), dict(answer.headers)


def application(handler: object = None) -> web.Application:
    """An application with the middleware, and `/x` if a handler is given."""
    app = web.Application(middlewares=[problem_middleware])
    if handler is not None:
        app.router.add_get("/x", handler)  # type: ignore[arg-type]
    return app


async def test_readiness_gives_the_reason_in_the_check_s_own_words() -> None:
    """503 with the reason while one check objects, 200 when none does."""
    reasons: dict[str, str | None] = {"log": None, "model": "no version passed its golden set"}
    health = Health()
    health.add("log", lambda: reasons["log"])
    health.add("model", lambda: reasons["model"])
    app = application()
    health.add_routes(app)
    status, text, _ = await get(app, "/readyz?verbose")
    assert status == 503
    assert text.splitlines() == ["[+] log ok", "[-] model: no version passed its golden set", "not ready"]
    assert health.blocker() == "model: no version passed its golden set"
    reasons["model"] = None
    app = application()
    health.add_routes(app)
    assert (await get(app, "/readyz"))[:2] == (200, "ready\n")
    app = application()
    health.add_routes(app)
    assert (await get(app, "/livez"))[0] == 200


async def test_a_problem_is_a_document_with_the_next_step() -> None:
    """RFC 9457's members, the remedy, and Retry-After in whole seconds, rounded up."""

    async def refuse(_: web.Request) -> web.Response:
        raise Problem(429, "queue-full", "the queue is full", remedy="send less", retry_after_seconds=1.2)

    status, text, headers = await get(application(refuse), "/x")
    assert status == 429
    assert headers["Content-Type"].startswith(CONTENT_TYPE)
    assert headers["Retry-After"] == "2"
    assert '"type":"urn:meridian:problem:queue-full"' in text
    assert '"detail":"the queue is full","remedy":"send less"' in text


async def test_what_nobody_foresaw_says_nothing_of_the_inside() -> None:
    """A bug is 500 without a traceback or a message."""

    async def fail(_: web.Request) -> web.Response:
        raise RuntimeError("the password is swordfish")

    status, text, headers = await get(application(fail), "/x")
    assert status == 500
    assert headers["Content-Type"].startswith(CONTENT_TYPE)
    assert "swordfish" not in text


@pytest.mark.parametrize(("path", "method", "status"), [("/absent", "GET", 404), ("/x", "PUT", 405)])
async def test_the_library_s_own_refusals_are_problems_too(path: str, method: str, status: int) -> None:
    """An unknown path and a wrong method come as problem documents."""

    async def ok(_: web.Request) -> web.Response:
        return web.Response()

    found, _, headers = await get(application(ok), path, method)
    assert found == status
    assert headers["Content-Type"].startswith(CONTENT_TYPE)
    assert ("Allow" in headers) == (status == 405)


async def test_metrics_come_from_the_given_registry() -> None:
    """The page shows what was counted, and facts of the process where asked for."""
    registry = CollectorRegistry()
    Counter("meridian_test_total", "A count", registry=registry).inc(3)
    app = application()
    add_metrics_route(app, registry)
    assert "meridian_test_total 3.0" in (await get(app, "/metrics"))[1]
    app = application()
    add_metrics_route(app, new_registry())
    assert "process_resident_memory_bytes" in (await get(app, "/metrics"))[1]


async def test_a_taken_port_is_a_setting_to_correct() -> None:
    """The message names the port and two ways on."""
    (port,) = free_ports(1)
    async with serving(application(), "127.0.0.1", port):
        with pytest.raises(SettingsError, match=f"port {port} .* is taken .*--base-port"):
            async with serving(application(), "127.0.0.1", port):
                pass


async def test_a_request_under_way_is_answered_before_the_end() -> None:
    """Closing waits for the answer that was begun."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        begun.set()
        await go_on.wait()
        return web.Response(text="done")

    async with aiohttp.ClientSession() as session:
        async with serving(application(slow), "127.0.0.1", 0) as port:
            pending = asyncio.create_task(session.get(f"http://127.0.0.1:{port}/x"))
            await begun.wait()
            asyncio.get_running_loop().call_later(0.05, go_on.set)
        assert await (await pending).text() == "done"
