"""The replicator's HTTP: its report, checksums, holes, health and metrics."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from services.common.health import Health
from services.common.metrics import add_metrics_route, new_registry
from services.common.pages import refuse_pages
from services.common.problem import Problem, problem_middleware
from services.replicator.client import HoleRequest
from services.replicator.compare import ChecksumReport, Ledger
from services.replicator.errors import HoleRefused
from services.replicator.metrics import ReplicationMetrics
from services.replicator.replicator import Replicator
from streams.errors import DECODE_ERRORS


def new_app(
    replicator: Replicator, ledger: Ledger, instance: str, notices: Callable[[], str | None]
) -> web.Application:
    """The application; `notices` says what is wrong but keeps nobody from working."""

    async def replication(_: web.Request) -> web.Response:
        return _json(replicator.report())

    async def checksums(request: web.Request) -> web.Response:
        after = request.query.get("after", "0")
        if not after.isdecimal():
            raise Problem(400, "bad-request", f"after={after!r} is no number", remedy="Use `next` of the last answer.")
        rows, following = ledger.after(int(after), request.query.getall("log", []))
        report = ChecksumReport(region=replicator.region.name, instance=instance, next=following, blocks=rows)
        return _json(report)

    async def holes(request: web.Request) -> web.Response:
        try:
            wanted = msgspec.json.decode(await request.read(), type=HoleRequest)
        except DECODE_ERRORS as error:
            raise Problem(
                400, "bad-request", str(error), remedy="Send log, partition, start, end, by, reason."
            ) from None
        try:
            offset = await replicator.accept_hole(wanted)
        except HoleRefused as refused:
            raise Problem(
                409, "hole-refused", str(refused), remedy="GET /v1/replication says what is held and what is missing."
            ) from None
        return _json({"log": wanted.log, "partition": wanted.partition, "copy_offset": offset})

    app = web.Application(middlewares=[problem_middleware, refuse_pages])
    app.router.add_get("/v1/replication", replication)
    app.router.add_get("/v1/checksums", checksums)
    app.router.add_post("/v1/holes", holes)
    health = Health()
    health.add("lives", lambda: replicator.phase or None)
    health.add("copies", replicator.walk_blocker)
    health.add_notice("alarms", notices)
    health.add_routes(app)
    registry = new_registry()
    ReplicationMetrics(replicator, registry)
    add_metrics_route(app, registry)
    return app


def _json(body: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")
