"""What a span is, and the ring in which a process keeps those of the newest requests for whoever asks.

A span is one stretch of work in one process. The ring is plain memory with a bound: putting something in costs an
append, and looking something up walks through all of it, because many go in and hardly anybody asks.

Requests that somebody wants to see (sampled) have a ring of their own, so that a busy hour does not push them out. What
a request can be found by besides its trace never leaves the process: ids that apps chose are among it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, Literal, Protocol

import msgspec
from aiohttp import web

from services.common.problem import Problem

SpanKind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | int | float | bool
Link = tuple[str, str]
"""(trace id, span id) of another span that had to do with this one without being its parent."""
PATH: Final = "/v1/spans"
SPANS_ANSWERED_MAX: Final = 2_000


class Span(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One stretch of work. Times are of the process's own wall clock."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty for a trace that began here."""
    name: str
    began_us: int
    """Unix microseconds."""
    lasted_us: int
    kind: SpanKind = "internal"
    sampled: bool = False
    """Whether it is exported."""
    error: str = ""
    """Why it failed, in words; empty when it did not."""
    attributes: dict[str, Value] = {}
    links: list[Link] = []
    state: str = ""
    """The `tracestate` that came with the request."""


class SpansAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/spans`: what was found, and why there may be no more of it."""

    service: str
    region: str
    incarnation: str
    now_us: int
    """The process's wall clock while it answered: the asker learns how far their clocks differ."""
    since_us: int
    """Since when spans are kept: when the process started."""
    forgotten_us: int
    """When the newest request began that had to give way to others; 0 when none had to."""
    requests_kept: int
    requests_max: int
    record_share: float
    spans: list[Span]
    matched: list[str] = []
    """Ids of the spans of those requests that were asked for: a trace may hold others too."""


class Kept(Protocol):
    """One request in this process; `services.common.trace.Trace`."""

    trace_id: str
    span_id: str
    keys: tuple[str, ...]
    sampled: bool

    @property
    def began_us(self) -> int:
        """Unix microseconds."""

    def spans(self) -> Iterable[Span]:
        """Its spans that are over."""


class SpanRing:
    """The newest requests of a process."""

    def __init__(self, requests_max: int) -> None:
        self.requests_max = requests_max
        self._others: deque[Kept] = deque(maxlen=requests_max)
        self._sampled: deque[Kept] = deque(maxlen=requests_max)
        self.forgotten_us = 0
        """When the newest request began that had to give way to others; 0 when none had to."""

    def __len__(self) -> int:
        return len(self._others) + len(self._sampled)

    def put(self, request: Kept) -> None:
        """Keep a request from its beginning on; the oldest gives way."""
        ring = self._sampled if request.sampled else self._others
        if len(ring) == self.requests_max and ring:
            self.forgotten_us = max(self.forgotten_us, ring[0].began_us)
        ring.append(request)

    def find(self, wanted: str) -> tuple[list[Span], list[str]]:
        """Return all spans of the traces in which a request has this trace id or key, and which requests have it.

        At most SPANS_ANSWERED_MAX spans, the newest.
        """
        kept = [*self._sampled, *self._others]
        matched = [one for one in kept if wanted == one.trace_id or wanted in one.keys]
        traces = {one.trace_id for one in matched}
        found = [span for one in kept if one.trace_id in traces for span in one.spans()]
        newest = sorted(found, key=lambda span: span.began_us)[-SPANS_ANSWERED_MAX:]
        return newest, [one.span_id for one in matched]


def wanted_of(request: web.Request) -> str:
    """Return what a request for spans looks for. Raises Problem (400)."""
    given = [request.query[name] for name in ("trace", "ranking", "event") if name in request.query]
    if len(given) != 1 or not given[0]:
        raise Problem(
            400,
            "bad-request",
            "which spans are wanted is said by exactly one of trace, ranking and event",
            remedy=f"Ask GET {PATH}?ranking=ID, or run `meridian trace ID`.",
        )
    return given[0]
