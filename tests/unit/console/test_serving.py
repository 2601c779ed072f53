"""The console over HTTP: what it gives out, to whom, and what it passes on for an operator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from yarl import URL

from services.common.clock import SystemClock
from services.common.deployment import Deployment
from services.common.settings import Secret
from services.console.page_files import POLICY
from services.console.server import Console, running
from services.console.settings import ConsoleSettings
from services.controller.client import Leader
from tests.support.fake_controller import FakeController
from tests.support.poll import wait_until_async
from tests.support.small_region import deployment_of

WISH = {"operation_id": "a1", "by": "sam", "reason": "because", "to": "west", "typed": "west"}


class Operated:
    """What a controller would be asked to do, and what it answers."""

    def __init__(self, status: int = 202, body: dict[str, Any] | None = None) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.status = status
        self.body = body or {"operation_id": "a1", "kind": "switchover", "target": "west", "state": "asked"}

    @asynccontextmanager
    async def listening(self, deployment: Deployment, region: str) -> AsyncIterator[None]:
        """At the controller's place."""
        app = web.Application()
        app.router.add_post("/v1/{verb}", self._take)
        runner = web.AppRunner(app)
        await runner.setup()
        site = deployment.site(region)
        await web.TCPSite(runner, site.host, site.port("control")).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.asked.append((request.match_info["verb"], await request.json()))
        kind = "application/problem+json" if self.status >= 400 else "application/json"
        return web.Response(body=msgspec.json.encode(self.body), status=self.status, content_type=kind)


@asynccontextmanager
async def console_of(
    deployment: Deployment, tmp_path: Path, **settings: Any
) -> AsyncIterator[tuple[Console, str, aiohttp.ClientSession]]:
    """A console at a free port, and somebody who asks it."""
    wanted = ConsoleSettings(drills=tmp_path / "drills", look_ms=100, **settings)
    async with (
        running(deployment, wanted, SystemClock(), port=0) as (console, url),
        aiohttp.ClientSession(url) as session,
    ):
        yield console, url.rstrip("/"), session


async def headers_of_page(session: aiohttp.ClientSession, url: str) -> dict[str, str]:
    """What the page sends with a wish."""
    async with session.get("/v1/session") as answer:
        found = await answer.json()
    return {"Origin": url, "X-Meridian-Session": found["session"], "Content-Type": "application/json"}


async def ask(session: aiohttp.ClientSession, verb: str, wish: object, headers: dict[str, str]) -> tuple[int, Any]:
    """One wish, and what became of it."""
    async with session.post(f"/v1/operate/{verb}", data=msgspec.json.encode(wish), headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_a_wish_is_passed_on_word_for_word(tmp_path: Path) -> None:
    """With who, why and the target; what was typed stays here."""
    deployment, operated = deployment_of(tmp_path, "east", "west"), Operated()
    async with operated.listening(deployment, "east"), console_of(deployment, tmp_path) as (_, url, session):
        status, said = await ask(session, "switchover", WISH, await headers_of_page(session, url))
    assert (status, said["state"]) == (202, "asked")
    assert operated.asked == [("switchover", {"operation_id": "a1", "by": "sam", "reason": "because", "to": "west"})]


async def test_the_accepted_loss_is_passed_on_and_a_refusal_comes_back(tmp_path: Path) -> None:
    """In the controller's words, with the number that is to be typed."""
    body = {"status": 409, "detail": "west is known to lack 40 events", "loss_events": 40, "remedy": "accept it"}
    deployment, operated = deployment_of(tmp_path, "east", "west"), Operated(409, body)
    async with operated.listening(deployment, "west"), console_of(deployment, tmp_path) as (_, url, session):
        headers = await headers_of_page(session, url)
        first = await ask(session, "failover", WISH, headers)
        await ask(session, "failover", {**WISH, "accept_loss_events": 40}, headers)
    assert first == (409, body)
    assert [sent.get("accept_loss_events") for _, sent in operated.asked] == [None, 40]


async def test_a_silent_store_is_no_answer_while_another_region_may_know_more(tmp_path: Path) -> None:
    """The first controller refuses with 503, the second one takes it."""
    deployment = deployment_of(tmp_path, "east", "west")
    silent, able = Operated(503, {"status": 503, "detail": "no quorum"}), Operated()
    async with (
        silent.listening(deployment, "east"),
        able.listening(deployment, "west"),
        console_of(deployment, tmp_path) as (_, url, session),
    ):
        status, _ = await ask(session, "switchover", WISH, await headers_of_page(session, url))
    assert (status, len(silent.asked), len(able.asked)) == (202, 1, 1)


async def test_nobody_to_pass_it_on_to(tmp_path: Path) -> None:
    """It is not known whether it was taken, and asking again is safe: the answer says both."""
    deployment = deployment_of(tmp_path, "east", "west")
    async with console_of(deployment, tmp_path) as (console, url, session):
        status, said = await ask(session, "pause", {**WISH, "seconds": 60}, await headers_of_page(session, url))
        counted = console.metrics.operations.labels("pause", "unreachable")._value.get()
    assert (status, said["type"], counted) == (503, "urn:meridian:problem:no-controller", 1.0)
    assert "lost-quorum.md" in said["remedy"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": None}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"X-Meridian-Session": "guessed"}, 403),
        ({"X-Meridian-Session": None}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({}, 202),
    ],
)
async def test_only_the_own_page_may_ask(tmp_path: Path, change: dict[str, str | None], status: int) -> None:
    """Another site's script can send neither the header nor the origin."""
    deployment, operated = deployment_of(tmp_path, "east", "west"), Operated()
    async with operated.listening(deployment, "east"), console_of(deployment, tmp_path) as (_, url, session):
        headers: dict[str, Any] = {**await headers_of_page(session, url), **change}
        found, _ = await ask(session, "switchover", WISH, {k: v for k, v in headers.items() if v is not None})
    assert found == status
    assert len(operated.asked) == (status == 202)


@pytest.mark.parametrize(
    "wish", [{"typed": ""}, {"typed": "east"}, {"to": "", "typed": ""}, {"reason": ""}, {"by": ""}]
)
async def test_without_confirmation_nothing_is_passed_on(tmp_path: Path, wish: dict[str, str]) -> None:
    """The page asks for all of it; the server does not rely on that."""
    deployment, operated = deployment_of(tmp_path, "east", "west"), Operated()
    async with operated.listening(deployment, "east"), console_of(deployment, tmp_path) as (_, url, session):
        status, _ = await ask(session, "switchover", {**WISH, **wish}, await headers_of_page(session, url))
    assert (status, operated.asked) == (400, [])


async def test_where_others_reach_it_a_token_is_wanted(tmp_path: Path) -> None:
    """Without one it is read-only; with one, the operator types it."""
    deployment, operated = deployment_of(tmp_path, "east", "west"), Operated()
    async with operated.listening(deployment, "east"):
        async with console_of(deployment, tmp_path, host="0.0.0.0") as (console, url, session):
            status, said = await ask(session, "switchover", WISH, await headers_of_page(session, url))
            assert (status, said["type"]) == (403, "urn:meridian:problem:read-only")
            assert not console.operating.operating.allowed
        async with console_of(deployment, tmp_path, host="0.0.0.0", token=Secret("s3cret")) as (_, url, session):
            headers = await headers_of_page(session, url)
            assert (await ask(session, "switchover", WISH, headers))[0] == 401
            assert (await ask(session, "switchover", WISH, {**headers, "Authorization": "Bearer no"}))[0] == 401
            assert operated.asked == []
            given = {**headers, "Authorization": "Bearer s3cret"}
            assert (await ask(session, "switchover", WISH, given))[0] == 202


async def test_read_only_when_asked_for(tmp_path: Path) -> None:
    """Also on loopback."""
    deployment, operated = deployment_of(tmp_path, "east", "west"), Operated()
    async with (
        operated.listening(deployment, "east"),
        console_of(deployment, tmp_path, operate=False) as (_, url, session),
    ):
        status, said = await ask(session, "resume", WISH, await headers_of_page(session, url))
    assert (status, said["detail"], operated.asked) == (403, "this console was started read-only", [])


async def test_it_is_read_under_its_own_name_only(tmp_path: Path) -> None:
    """A site that points its name to this machine must not read the page as its own."""
    deployment = deployment_of(tmp_path, "east", "west")
    async with console_of(deployment, tmp_path) as (_, _, session):
        for path in ("/", "/v1/state", "/v1/session"):
            async with session.get(path, headers={"Host": "evil.example:8190"}) as answer:
                assert answer.status == 421
            async with session.get(path, headers={"Host": "localhost:8190"}) as answer:
                assert answer.status == 200


async def test_every_answer_carries_the_policy(tmp_path: Path) -> None:
    """Strict for the page; a report of a drill is a document of its own that reaches nothing."""
    run = tmp_path / "drills" / "wipe" / "r1"
    run.mkdir(parents=True)
    (run / "report.html").write_text("<!doctype html><script>1</script>")
    deployment = deployment_of(tmp_path, "east", "west")
    async with console_of(deployment, tmp_path) as (_, _, session):
        for path in ("/", "/page/main.js", "/page/console.css", "/v1/state", "/page/none.js"):
            async with session.get(path) as answer:
                assert answer.headers["Content-Security-Policy"] == POLICY
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                etag = answer.headers.get("ETag")
        async with session.get("/page/main.js") as answer:
            etag = answer.headers["ETag"]
        async with session.get("/page/main.js", headers={"If-None-Match": etag}) as answer:
            assert answer.status == 304
        async with session.get("/drills/wipe/r1/report.html") as answer:
            assert answer.headers["Content-Security-Policy"].startswith("sandbox allow-scripts; default-src 'none'")
        for path in ("/drills/wipe/r1/..%2f..%2fsecret", "/drills/..%2f/r1/report.html", "/page/..%2fserver.py"):
            async with session.get(path) as answer:
                assert answer.status == 404


async def test_pages_are_bounded_and_said_so(tmp_path: Path) -> None:
    """One too many is refused in words; when one goes, there is room again."""
    deployment = deployment_of(tmp_path, "east", "west")
    async with console_of(deployment, tmp_path, watchers_max=2) as (console, _, session):
        first, second = await session.get("/v1/watch"), await session.get("/v1/watch")
        assert (await first.content.readline()) == b"event: state\n"
        async with session.get("/v1/watch") as third:
            assert (third.status, third.headers["Retry-After"]) == (503, "5")
            assert "2 pages are open" in (await third.json(content_type=None))["detail"]
        second.close()
        await wait_until_async(lambda: console.metrics.watchers._value.get() == 1, 5, "the page to be gone")
        async with session.get("/v1/watch") as fourth:
            assert fourth.status == 200
        first.close()


async def test_a_change_of_the_lease_reaches_the_page_at_once(tmp_path: Path) -> None:
    """By the long poll of any controller that learns of it, well below the pace of looking."""
    deployment = deployment_of(tmp_path, "east", "west")
    fake = FakeController("west")
    site = deployment.site("west")
    async with fake:
        moved = msgspec.structs.replace(site, host="127.0.0.1", base_port=fake.port - 6)
        deployment = msgspec.structs.replace(deployment, sites=[deployment.site("east"), moved])
        async with console_of(deployment, tmp_path, lease_wait_ms=5000) as (console, _, session):
            await wait_until_async(lambda: fake.asked > 1, 5, "the long poll")
            watching = await session.get("/v1/watch")
            fake.take(Leader(region="west", epoch=(0, 9), gateway_url="http://w", serving=True))
            at = asyncio.get_running_loop().time()
            async with asyncio.timeout(5):
                while b'"active":"west"' not in await watching.content.readline():
                    pass
            took = asyncio.get_running_loop().time() - at
            watching.close()
            assert console.watch.seen.regions["east"].lease.problem
    assert took < 2.5


async def test_probes_and_metrics(tmp_path: Path) -> None:
    """A console that hears nobody is ready: saying so is its work. It has few series, and no label grows."""
    deployment = deployment_of(tmp_path, "east", "west")
    async with console_of(deployment, tmp_path) as (_, _, session):
        async with session.get("/livez") as answer:
            assert answer.status == 200
        async with session.get("/readyz?verbose") as answer:
            assert (answer.status, await answer.text()) == (200, "[~] controllers: no controller answers\nready\n")
        async with session.get("/metrics") as answer:
            lines = (await answer.text()).splitlines()
    ours = [line for line in lines if line.startswith("meridian_console")]
    assert "meridian_console_controllers_answering 0.0" in ours
    assert len(ours) < 40


async def test_a_console_that_stops_watching_ends(tmp_path: Path) -> None:
    """It would go on serving a page that is never right again."""
    deployment = deployment_of(tmp_path, "east", "west")
    async with console_of(deployment, tmp_path) as (console, _, _):

        def broken() -> None:
            raise RuntimeError("a bug")

        console.feed.refresh = broken  # type: ignore[method-assign]
        with pytest.raises(ExceptionGroup):
            async with asyncio.timeout(5):
                await console.until(asyncio.Event())


@pytest.mark.parametrize("name", ["..%2Fstatus", "..%2F..%2Fmetrics", "a1%3Fwait_ms=9", "..", "a%20b"])
async def test_the_name_of_an_operation_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    """It becomes part of an address within the deployment."""
    deployment, asked = deployment_of(tmp_path, "east", "west"), []

    async def take(request: web.Request) -> web.Response:
        asked.append(request.raw_path)
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/{path:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = deployment.site("east")
    await web.TCPSite(runner, site.host, site.port("control")).start()
    try:
        async with console_of(deployment, tmp_path) as (_, url, session):
            async with session.get(URL(f"{url}/v1/operations/{name}", encoded=True)) as answer:
                assert answer.status == 404
            async with session.get("/v1/operations/a1.b-2") as answer:
                assert answer.status == 200
    finally:
        await runner.cleanup()
    known = ("/v1/lease", "/v1/status", "/v1/explain", "/v1/history", "/v1/receipts", "/readyz")
    assert [path for path in asked if not path.startswith(known)] == ["/v1/operations/a1.b-2"]
    assert not [path for path in asked if "metrics" in path]


@pytest.mark.parametrize("header", [b"X-Meridian-Session", b"Authorization"])
async def test_a_header_that_is_no_text_is_a_wrong_one(tmp_path: Path, header: bytes) -> None:
    """And no fault of the server. No client of ours would send it."""
    deployment = deployment_of(tmp_path, "east", "west")
    async with console_of(deployment, tmp_path, token=Secret("s3cret")) as (_, url, session):
        right = {name.encode(): value.encode() for name, value in (await headers_of_page(session, url)).items()}
        head = {**right, b"Host": url.removeprefix("http://").encode(), b"Connection": b"close", header: b"\xff"}
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        lines = [b"POST /v1/operate/pause HTTP/1.1", *(name + b": " + value for name, value in head.items())]
        writer.write(b"\r\n".join([*lines, b"Content-Length: 0", b"", b""]))
        status = (await reader.read()).split(maxsplit=2)[1]
        writer.close()
    assert status in {b"401", b"403"}


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("192.0.2.7:8190", 200),
        ("[2001:db8::7]:8190", 200),
        ("localhost:8190", 200),
        ("console.example.com", 200),
        ("evil.example:8190", 421),
        ("console.example.com.evil.example", 421),
        ("[", 421),
    ],
)
async def test_where_others_reach_it_a_foreign_name_is_refused_as_well(tmp_path: Path, name: str, status: int) -> None:
    """A container listens on every address and is published on this machine: a site may point its name there too."""
    deployment = deployment_of(tmp_path, "east", "west")
    names = ("console.example.com",)
    async with (
        console_of(deployment, tmp_path, host="0.0.0.0", names=names) as (_, _, session),
        session.get("/v1/state", headers={"Host": name}) as answer,
    ):
        assert answer.status == status
        if status == 421:
            assert "MERIDIAN_CONSOLE_NAMES" in (await answer.json(content_type=None))["remedy"]
