"""The routes of the public API: what is served, and from the same table what `/openapi.json` says is served."""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aiohttp import web

from services.common.clock import Clock
from services.common.problem import Problem
from services.common.spans import PATH as SPANS_PATH
from services.common.spans import SpansAnswer
from services.common.tracing import HEADER_PARENT, NO_TRACER, Recording, Trace, Tracer, entered
from services.gateway.client import CanaryAnswer, CanaryRequest, HeldAnswer, HeldRequest
from services.gateway.metrics import GatewayMetrics
from services.gateway.settings import GatewaySettings
from services.gateway.wire import (
    Elsewhere,
    EventsAnswer,
    EventsProblem,
    ProblemDocument,
    RankingAnswer,
    RankingProblem,
    RecommendationsRequest,
    RegionsAnswer,
    SearchRequest,
    SimilarRequest,
)

Handler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation as it is described. `answers` maps a status to a sentence and the type of the body."""

    path: str
    name: str
    summary: str
    answers: dict[int, tuple[str, Any]] = field(default_factory=dict)
    takes: Any = None
    """The type of a JSON request; None for CloudEvents, which are described by hand, and for GET."""
    method: Literal["post", "get"] = "post"
    headers: tuple[tuple[str, str], ...] = ()
    """Optional headers of the request, and what they say."""
    recording: Recording = "never"
    """Which requests leave spans behind."""


_REFUSALS: Final[dict[int, tuple[str, Any]]] = {
    400: ("What the request says is wrong; `field` and `remedy` say what and what next.", ProblemDocument),
    408: ("The body did not arrive in time.", ProblemDocument),
    413: ("The body is too large.", ProblemDocument),
    415: ("The body has a type that is not taken here.", ProblemDocument),
    429: ("Too much is under way: come back after Retry-After. Nothing was kept.", ProblemDocument),
    503: ("No answer now: come back after Retry-After.", ProblemDocument),
}
_ACK: Final = ("Meridian-Ack", "When an event counts as accepted: local, remote or bounded. Default: the setting.")
_TRACE: Final = ("traceparent", "W3C trace context; the answer names the span that the request had here.")
_RANKING: Final[dict[int, tuple[str, Any]]] = {
    200: ("The ranking. The headers Meridian-Epoch and Meridian-Region repeat who made it.", RankingAnswer),
    307: ("Another region is active: ask at Location.", Elsewhere),
    **_REFUSALS,
}
UNAUTHORIZED: Final = (401, ("A bearer token is required, and this one is none.", ProblemDocument))

ROUTES: Final = (
    Route(
        "/v1/events",
        "publish",
        "Publish one event or a batch, as CloudEvents.",
        {
            200: ("All were accepted: they are in the log for good.", EventsAnswer),
            207: ("Some were accepted; each result says what became of it.", EventsAnswer),
            **_REFUSALS,
            400: ("None was accepted.", EventsProblem),
            503: ("None is known to be kept. Send them again with the same ids: they count once.", EventsProblem),
            504: (
                "Kept here, but no other region confirmed it in time, as `Meridian-Ack: remote` asks.",
                EventsProblem,
            ),
        },
        headers=(_ACK, _TRACE),
        recording="sampled",
    ),
    Route(
        "/v1/search",
        "search",
        "What should this user see for this query? Writes the search event itself.",
        {
            **_RANKING,
            504: ("The search is kept here, but no other region confirmed it in time.", RankingProblem),
        },
        SearchRequest,
        headers=(_ACK, _TRACE),
        recording="share",
    ),
    Route(
        "/v1/recommendations",
        "recommendations",
        "What should this user see on the home page?",
        _RANKING,
        RecommendationsRequest,
        headers=(_TRACE,),
        recording="share",
    ),
    Route(
        "/v1/similar",
        "similar",
        "What is like this item?",
        _RANKING,
        SimilarRequest,
        headers=(_TRACE,),
        recording="share",
    ),
    Route(
        "/v1/regions",
        "regions",
        "Which region is active, and where the gateways of all regions are.",
        {200: ("As this gateway knows it.", RegionsAnswer)},
        method="get",
    ),
    Route(
        "/v1/canary",
        "canary",
        "Is it serving? Sends a heartbeat search through this region, to an answer or up to the closed gate.",
        {200: ("How far it came, lost or not. Items are never shown.", CanaryAnswer), **_REFUSALS},
        CanaryRequest,
    ),
    Route(
        "/v1/replication/held",
        "held",
        "For replicators: how far a copy of this region's log reaches. Answers how far the log itself does.",
        {
            200: ("The ends of the log.", HeldAnswer),
            400: _REFUSALS[400],
            409: ("The reporting region has a newer life.", ProblemDocument),
            413: _REFUSALS[413],
            503: _REFUSALS[503],
        },
        HeldRequest,
    ),
    Route(
        SPANS_PATH,
        "spans",
        "For `meridian trace`: where a request spent its time, by `?trace=`, `?ranking=` or `?event=`.",
        {200: ("The spans that are kept of it here; none when it is not known.", SpansAnswer), 400: _REFUSALS[400]},
        method="get",
    ),
)
PLAIN_ROUTES: Final = {
    "/livez": "The process runs.",
    "/readyz": "Everything that is needed works; `?verbose` lists the checks.",
    "/metrics": "Figures for Prometheus.",
    "/openapi.json": "This description.",
}


class Door:
    """What stands before every handler: the token check, and after it the count of what was answered."""

    def __init__(
        self, settings: GatewaySettings, metrics: GatewayMetrics, clock: Clock, tracer: Tracer = NO_TRACER
    ) -> None:
        self._tracer = tracer
        self._tokens = tuple(token.encode() for token in settings.tokens())
        self._metrics = metrics
        self._clock = clock

    def behind(self, route: Route, handler: Handler) -> Handler:
        """The handler as it is served."""
        seconds = self._metrics.request_seconds.labels(route.name)
        requests, refused = self._metrics.requests, self._metrics.refused

        async def answer(request: web.Request) -> web.Response:
            began = self._clock.monotonic()
            with entered(self._tracer.begin(request.headers, route.recording)) as trace:
                try:
                    self._check_token(request)
                    response = await handler(request)
                except Problem as problem:
                    refused.labels(problem.kind).inc()
                    response = problem.response()
                    trace.note(problem=problem.kind)
                except BaseException as bug:
                    # The server answers for it (500), or nobody listens any more; a request without an end is no trace.
                    trace.end(_name_of(route), kind="server", error=type(bug).__name__)
                    raise
                _finish(trace, route, response)
            seconds.observe(self._clock.monotonic() - began)
            requests.labels(route.name, str(response.status)).inc()
            return response

        return answer

    def _check_token(self, request: web.Request) -> None:
        if not self._tokens:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        found = given.strip().encode("utf-8", "surrogateescape")
        # Every token is compared, each in constant time: the time taken says nothing about which one was nearly right.
        matches = [hmac.compare_digest(found, token) for token in self._tokens]
        if scheme.lower() != "bearer" or not any(matches):
            raise Problem(401, "unauthorized", "a bearer token is required", remedy="Send Authorization: Bearer TOKEN.")


def _finish(trace: Trace, route: Route, response: web.Response) -> None:
    """Say in the answer which trace it belongs to, and keep the span of the request."""
    if not trace.trace_id:
        return
    if not response.prepared:
        response.headers[HEADER_PARENT] = trace.traceparent()
    if trace.recorded:
        error = str(trace.facts.get("problem", response.status)) if response.status >= 500 else ""
        trace.facts["http.route"] = route.path
        trace.facts["http.response.status_code"] = response.status
        trace.end(_name_of(route), kind="server", error=error)


def _name_of(route: Route) -> str:
    return f"{route.method.upper()} {route.path}"
