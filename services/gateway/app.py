"""The gateway's web application: routes, probes, figures, description."""

import msgspec
from aiohttp import web

from services.common.health import Health
from services.common.metrics import add_metrics_route
from services.common.problem import problem_middleware
from services.common.tracing import SpanFigures
from services.gateway.canary_api import CanaryApi
from services.gateway.core import Core
from services.gateway.events_api import EventsApi
from services.gateway.openapi import document
from services.gateway.rankings_api import RankingsApi
from services.gateway.replication_api import ReplicationApi
from services.gateway.routes import ROUTES, Door, Handler
from services.gateway.served import ServedEvents


def add_api_routes(app: web.Application, core: Core, health: Health) -> None:
    """Serve the public API and the probes."""
    events = EventsApi(core)
    rankings = RankingsApi(core, ServedEvents(core))
    handlers: dict[str, Handler] = {
        "publish": events.publish,
        "search": rankings.search,
        "recommendations": rankings.recommendations,
        "similar": rankings.similar,
        "regions": core.directory.regions,
        "canary": CanaryApi(core).canary,
        "spans": core.tracer.spans,
        "held": ReplicationApi(core).held,
    }
    door = Door(core.settings, core.metrics, core.clock, core.tracer)
    for route in ROUTES:
        app.router.add_route(route.method, route.path, door.behind(route, handlers[route.name]))
    health.add_routes(app)


def web_app(core: Core, health: Health) -> web.Application:
    """Everything that is served over HTTP."""
    app = web.Application(client_max_size=core.settings.body_bytes_max, middlewares=[problem_middleware])
    add_api_routes(app, core, health)
    core.metrics.registry.register(SpanFigures(core.tracer))
    add_metrics_route(app, core.metrics.registry)
    description = msgspec.json.encode(document(secured=bool(core.settings.tokens())))

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(body=description, content_type="application/json")

    app.router.add_get("/openapi.json", openapi)
    return app
