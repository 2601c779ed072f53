"""The files of the page and of drills, and the headers that keep a browser from anything else.

The page asks nobody but this console: no script, style, font or picture from elsewhere, none inside the page. A drill's
report has its script inside, so it is served as a document of its own that may run it and do nothing with the page.
"""

from __future__ import annotations

import asyncio
import hashlib
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from services.common.problem import Handler, Problem
from services.console.operating import LOCAL_NAMES
from services.console.settings import ConsoleSettings
from services.console.watch import Watch

PAGE_DIRECTORY: Final = Path(__file__).parent / "page"
CONTENT_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
REPORT_POLICY: Final = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def only_under_own_name(settings: ConsoleSettings) -> Middleware:
    """Refuse to be called by a name that is not this console's; plain addresses are, but for one that is only local.

    A site that lets its own name point to where the console listens would otherwise read the page as its own.
    """
    known = LOCAL_NAMES | {settings.host, *settings.names}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        name = _name_in(request.host)
        if name not in known and (settings.is_local or not _is_address(name)):
            raise Problem(
                421,
                "foreign-name",
                f"this console was called {request.host[:64]!r}, which is none of its names",
                remedy=f"Open http://127.0.0.1:{settings.port}/ instead, or add the name to MERIDIAN_CONSOLE_NAMES.",
            )
        return await handler(request)

    return check


def _name_in(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


@web.middleware
async def with_headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every answer the headers that all of them have; those that stream add theirs before they begin."""
    response = await handler(request)
    if not response.prepared:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("Cache-Control", "no-store")
    return response


class PageFiles:
    """The page's own files, read once; and the files of drills."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._files = {
            path.name: (path.read_bytes(), CONTENT_TYPES[path.suffix])
            for path in PAGE_DIRECTORY.iterdir()
            if path.suffix in CONTENT_TYPES
        }
        self._tags = {name: f'"{hashlib.sha256(raw).hexdigest()[:16]}"' for name, (raw, _) in self._files.items()}

    def add_routes(self, app: web.Application) -> None:
        """The routes."""
        app.router.add_get("/", self._page)
        app.router.add_get("/page/{name}", self._file)
        app.router.add_get("/drills/{drill}/{run}/{name}", self._drill)

    async def _page(self, request: web.Request) -> web.Response:
        return self._answer(request, "index.html")

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._files:
            raise Problem(404, "no-such-file", f"the page has no file {name[:64]!r}")
        return self._answer(request, name)

    def _answer(self, request: web.Request, name: str) -> web.Response:
        raw, kind = self._files[name]
        headers = {"ETag": self._tags[name], "Cache-Control": "no-cache", "Content-Type": kind}
        if request.headers.get("If-None-Match") == self._tags[name]:
            return web.Response(status=304, headers=headers)
        return web.Response(body=raw, headers=headers)

    async def _drill(self, request: web.Request) -> web.Response:
        info = request.match_info
        try:
            found = await asyncio.to_thread(self._watch.drill_file, info["drill"], info["run"], info["name"])
        except OSError as error:
            raise Problem(404, "unreadable", f"the file cannot be read: {error.strerror}") from error
        if found is None:
            raise Problem(404, "no-such-file", "there is no such file of a drill", remedy="The page lists the drills.")
        raw, kind = found
        return web.Response(body=raw, headers={"Content-Type": kind, "Content-Security-Policy": REPORT_POLICY})
