"""What a controller answers to processes, load balancers and people who look."""

from __future__ import annotations

import msgspec
from aiohttp import web

from services.common.problem import Problem
from services.controller.blockers import promotion_blocker, right_to_act
from services.controller.board import leader_of
from services.controller.controller import Controller

_encode = msgspec.json.Encoder().encode


class LeaseApi:
    """`/v1/lease`, `/leader`, `/replica`."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def add_routes(self, app: web.Application) -> None:
        """The routes."""
        app.router.add_get("/v1/lease", self._lease)
        app.router.add_get("/leader", self._leader)
        app.router.add_get("/replica", self._replica)

    async def _lease(self, request: web.Request) -> web.Response:
        """May the region act? With `since` and `wait_ms`, answered when that changes."""
        since = _number(request, "since")
        if since is None:
            return json_response(self._controller.board.answer())
        wait_ms = _number(request, "wait_ms") or 0
        return json_response(await self._controller.board.wait(since, wait_ms / 1000))

    async def _leader(self, _: web.Request) -> web.Response:
        """200 in the region that serves, 503 in every other: for load balancers."""
        if self._controller.is_serving():
            return json_response(leader_of(self._controller.view()))
        view = self._controller.view()
        reason = right_to_act(view, self._controller.now()) or "its gate is not open yet"
        return Problem(503, "not-leader", f"{view.region} does not serve: {reason}").response()

    async def _replica(self, request: web.Request) -> web.Response:
        """200 in a passive region that could take over and is at most `lag` events behind."""
        view = self._controller.view()
        lag = view.data.lag
        wanted = _number(request, "lag")
        reason = promotion_blocker(view, self._controller.limits, self._controller.now())
        if view.term is not None:
            reason = "it is active"
        elif reason is None and wanted is not None and (lag.events is None or lag.events > wanted):
            reason = f"{lag.events} events behind, at most {wanted} were asked for"
        if reason is not None:
            return Problem(503, "not-a-replica", f"{view.region} is no replica to use: {reason}").response()
        return json_response({"region": view.region, "lag_events": lag.events, "lag_seconds": lag.seconds})


def json_response(value: object, status: int = 200) -> web.Response:
    """An answer in JSON."""
    return web.Response(body=_encode(value), content_type="application/json", status=status)


def _number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not text.isdecimal():
        raise Problem(400, "bad-query", f"{name}={text[:32]!r} is no number", remedy=f"Send {name} as a whole number.")
    return int(text)
