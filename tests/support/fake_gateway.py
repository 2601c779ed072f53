"""A gateway in memory that speaks the public API and misbehaves on request.

It keeps what it accepts in one log, so that a test can ask what an upstream app really left behind. A script
of `Behaviour`s decides how the next requests are answered; when the script is empty it behaves."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from aiohttp.test_utils import TestServer

Json = dict[str, Any]
TYPES = {
    f"meridian.{kind}.v1" for kind in ("search", "click", "cart", "purchase", "view", "item", "impression", "feedback")
}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How to answer one request instead of properly."""

    status: int = 0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    refuse_ids: frozenset[str] = frozenset()
    unknown_ids: frozenset[str] = frozenset()
    hang: bool = False
    drop_connection: bool = False
    keep_then_drop: bool = False
    """Keep the events, then lose the answer."""


def problem(status: int, title: str, **more: str) -> bytes:
    """An RFC 9457 document."""
    return json.dumps({"type": "about:blank", "status": status, "title": title, **more}).encode()


class FakeGateway:
    """Use with `async with`; `url` is where it listens."""

    def __init__(self, rank: Callable[[Json], list[str]] | None = None, log: str = "east-1.events") -> None:
        self.log_name = log
        self.regions: Json | None = None
        """What `GET /v1/regions` answers; 404 when None."""
        self.epoch = [0, 1]
        self.script: deque[Behaviour] = deque()
        self.requests: list[tuple[str, Any, dict[str, str]]] = []
        self.log: list[Json] = []
        self.released = asyncio.Event()
        self._rank = rank or (lambda request: ["item-1", "item-2"])
        app = web.Application()
        app.router.add_post("/v1/events", self._events)
        for path in ("/v1/search", "/v1/recommendations", "/v1/similar"):
            app.router.add_post(path, self._ranking)
        app.router.add_get("/v1/regions", self._regions)
        self._server = TestServer(app)

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.released.set()
        await self._server.close()

    @property
    def url(self) -> str:
        """Address of the running server."""
        return str(self._server.make_url("")).rstrip("/")

    def bodies(self, path: str) -> list[Any]:
        """The decoded bodies of the requests to `path`, in order."""
        return [body for where, body, _ in self.requests if where == path]

    def identities(self) -> list[tuple[str, str, str]]:
        """(source, id, time) of all that was kept, once for each time it was kept."""
        return [(event["source"], event["id"], event["time"]) for event in self.log]

    def keep(self, event: Json) -> Json:
        """Write an event to the log; returns its coordinates."""
        self.log.append(event)
        return {"log": self.log_name, "partition": 0, "offset": len(self.log) - 1, "index": 0}

    def ranking_fields(self, request: Json) -> Json:
        """Fields of an answer to replace; for a test to override."""
        return {}

    async def _regions(self, request: web.Request) -> web.Response:
        return web.Response(status=404) if self.regions is None else web.json_response(self.regions)

    async def _misbehave(self, request: web.Request, behaviour: Behaviour) -> web.Response | None:
        if behaviour.hang:
            await self.released.wait()
            return web.Response(status=503)
        if behaviour.drop_connection:
            assert request.transport is not None
            request.transport.abort()
            return web.Response(status=503)
        if behaviour.status:
            return web.Response(status=behaviour.status, body=behaviour.body, headers=behaviour.headers)
        return None

    async def _received(self, request: web.Request) -> tuple[Any, Behaviour]:
        body = json.loads(await request.read())
        self.requests.append((request.path, body, dict(request.headers)))
        return body, self.script.popleft() if self.script else Behaviour()

    async def _events(self, request: web.Request) -> web.Response:
        events, behaviour = await self._received(request)
        answer = await self._misbehave(request, behaviour)
        if answer is not None:
            return answer
        results: list[Json] = []
        for event in events:
            known = event["type"] in TYPES and event["data"].get("user") != ""
            if event["id"] in behaviour.refuse_ids or not known:
                refusal = {
                    "type": "about:blank",
                    "status": 400,
                    "title": "bad event",
                    "detail": "no such kind",
                }
                results.append({"id": event["id"], "status": "refused", "problem": refusal})
            elif event["id"] in behaviour.unknown_ids:
                results.append({"id": event["id"], "status": "unknown"})
            else:
                coordinates = self.keep(event)
                results.append({"id": event["id"], "status": "accepted", "coordinates": coordinates})
        if behaviour.keep_then_drop:
            assert request.transport is not None
            request.transport.abort()
        states = {result["status"] for result in results}
        status = 200 if states <= {"accepted"} else 400 if states == {"refused"} else 207
        return web.json_response({"results": results}, status=status)

    async def _ranking(self, request: web.Request) -> web.Response:
        asked, behaviour = await self._received(request)
        answer = await self._misbehave(request, behaviour)
        if answer is not None:
            return answer
        coordinates = None
        if request.path == "/v1/search":
            event = {"id": asked["id"], "source": asked["source"], "time": asked["time"]}
            data = {"user": asked["user"], "query": asked["query"]}
            coordinates = self.keep({**event, "type": "meridian.search.v1", "data": data})
        items = self._rank(asked)
        return web.json_response(
            {
                "ranking_id": f"{len(self.requests):032x}",
                "items": items,
                "scores": [1.0] * len(items),
                "rung": "model",
                "model_version": "fake/1",
                "region": "east",
                "epoch": self.epoch,
                "feature_age_ms": 3,
                "at": asked.get("at"),
                "event": coordinates,
                "after_reached": True,
                **self.ranking_fields(asked),
            }
        )
