"""Keeping web pages away from processes that ask for no password: a browser on the machine reaches them too."""

from __future__ import annotations

from aiohttp import web

from services.common.problem import Handler, Problem


@web.middleware
async def refuse_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse whatever a page asks to be done; to go under `problem_middleware`.

    A browser sends a page's POST to any address it reaches, without asking, and names the page in `Origin`. Programs
    send none. The console is a page, and passes on with a header of its own what its operator confirmed.
    """
    if request.method not in {"GET", "HEAD"} and "Origin" in request.headers:
        raise Problem(
            403,
            "asked-by-a-page",
            f"a web page ({request.headers['Origin'][:64]!r}) asked for this, and pages may not",
            remedy="Use the command line (`meridian --help`) or the console (`meridian console`).",
        )
    return await handler(request)
