"""HTTP without sockets: what the shipped shells ask of an aiohttp session, over the simulated network.

A request is dispatched by its URL to the handlers that a process has registered, which are the shipped ones: they get
something shaped like a `web.Request` and return a `web.Response`. Only what the shells use is there. A caller waits
for as long as its own time-out allows; a dead process refuses at once, one that is stopped says nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Self, cast
from urllib.parse import parse_qsl, urlencode

import aiohttp
import msgspec
from aiohttp import web

from region_sim.memory.network import Unreachable
from services.common.deployment import PORT_OFFSETS
from services.common.problem import Problem

if TYPE_CHECKING:
    from region_sim.memory.world import World

BASE_PORT: Final = 10_000
LISTENERS: Final = {offset: name for name, offset in PORT_OFFSETS.items()}
PROCESS_OF: Final = {"control": "controller"}
"""Where a listener's name is not that of its process."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SimRequest:
    """The part of `web.Request` that the shipped handlers read."""

    __slots__ = ("_body", "headers", "match_info", "method", "path", "query", "query_string")

    def __init__(
        self, method: str, path: str, params: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> None:
        self.method = method
        self.path = path
        self.query = params
        self.query_string = urlencode(params) if params else ""
        self.headers = headers
        self.match_info: dict[str, str] = {}
        self._body = body

    @property
    def content_length(self) -> int:
        """Bytes of the body."""
        return len(self._body)

    async def read(self) -> bytes:
        """The body."""
        return self._body


class SimResponse:
    """The part of `aiohttp.ClientResponse` that the shipped clients read."""

    __slots__ = ("_body", "headers", "status", "url")

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str], url: str) -> None:
        self.status = status
        self.headers = headers
        self.url = url
        self._body = body

    async def read(self) -> bytes:
        """The body."""
        return self._body

    async def text(self) -> str:
        """The body as text."""
        return self._body.decode()

    async def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self._body)

    def raise_for_status(self) -> None:
        """Raise aiohttp.ClientResponseError for 400 and above."""
        if self.status >= 400:
            asked = cast("aiohttp.RequestInfo", SimpleNamespace(real_url=self.url))
            said = self._body[:200].decode(errors="replace")
            raise aiohttp.ClientResponseError(asked, (), status=self.status, message=said)


class _Call:
    """A request under way: `async with session.get(...) as response`, or awaited."""

    __slots__ = ("_arguments", "_session")

    def __init__(
        self, session: SimSession, arguments: tuple[str, str, Mapping[str, str], Mapping[str, str], bytes]
    ) -> None:
        self._session = session
        self._arguments = arguments

    async def __aenter__(self) -> SimResponse:
        return await self._session.ask(*self._arguments)

    async def __aexit__(self, *_: object) -> None:
        return None

    def __await__(self) -> Any:
        return self._session.ask(*self._arguments).__await__()


class SimSession:
    """Shaped like an `aiohttp.ClientSession` at `site`; hand it on with `as_session`."""

    def __init__(self, world: World, site: str) -> None:
        self._world = world
        self._site = site

    def get(
        self, url: str, *, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, **_: Any
    ) -> _Call:
        """See aiohttp."""
        return _Call(self, ("GET", url, params or {}, headers or {}, b""))

    def post(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        data: bytes = b"",
        json: object = None,
        **_: Any,
    ) -> _Call:
        """See aiohttp."""
        said = dict(headers or {})
        if json is not None:
            data = msgspec.json.encode(json)
            said.setdefault("Content-Type", "application/json")
        return _Call(self, ("POST", url, params or {}, said, data))

    async def ask(
        self, method: str, url: str, params: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> SimResponse:
        """Send, and return the answer. Raises aiohttp.ClientConnectionError when nobody listens there."""
        site, process, path = _place(url)
        if "?" in path:
            path, _, query = path.partition("?")
            params = {**dict(parse_qsl(query, keep_blank_values=True)), **params}
        request = SimRequest(method, path, params, headers, body)
        try:
            response = await self._world.request(self._site, site, process, request)
        except Unreachable as refused:
            raise aiohttp.ClientConnectionError(str(refused)) from refused
        return SimResponse(response.status, _body(response), response.headers, url)

    async def close(self) -> None:
        """See aiohttp."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


def as_session(world: World, site: str) -> aiohttp.ClientSession:
    """A session at a site, under the type that the shipped shells ask for."""
    return cast("aiohttp.ClientSession", SimSession(world, site))


_places: dict[str, tuple[str, str, str]] = {}


def _place(url: str) -> tuple[str, str, str]:
    """Site, process and path: `http://east:10004/v1/lease` is (east, controller, /v1/lease)."""
    found = _places.get(url)
    if found is None:
        where, slash, path = url.removeprefix("http://").partition("/")
        site, _, port = where.partition(":")
        listener = LISTENERS[int(port) - BASE_PORT]
        found = site, PROCESS_OF.get(listener, listener), slash + path
        if len(_places) < 10_000:
            _places[url] = found
    return found


def _body(response: web.StreamResponse) -> bytes:
    body = response.body if isinstance(response, web.Response) else None
    return bytes(body) if isinstance(body, bytes | bytearray) else b""


class RouteBook:
    """Takes routes as a `web.Application` does: what the shipped `add_routes` methods are given."""

    def __init__(self) -> None:
        self.router = self
        self.routes: dict[tuple[str, str], Handler] = {}

    def add_get(self, path: str, handler: Handler) -> None:
        """See aiohttp."""
        self.routes["GET", path] = handler

    def add_post(self, path: str, handler: Handler) -> None:
        """See aiohttp."""
        self.routes["POST", path] = handler

    def add_route(self, method: str, path: str, handler: Handler) -> None:
        """See aiohttp."""
        self.routes[method.upper(), path] = handler

    def as_application(self) -> web.Application:
        """Under the type that `add_routes` asks for."""
        return cast("web.Application", self)

    async def answer(self, request: SimRequest) -> web.StreamResponse:
        """What the process answers; a refusal becomes its problem document."""
        handler = self.routes.get((request.method, request.path))
        if handler is None:
            head, _, tail = request.path.rpartition("/")
            handler = self.routes.get((request.method, head + "/{id}"))
            if handler is None:
                return web.Response(status=404)
            request.match_info["id"] = tail
        try:
            return await handler(cast("web.Request", request))
        except Problem as problem:
            return problem.response()
