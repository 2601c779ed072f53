"""Where a request's time goes, in this process: spans that are kept in memory, and exported when they are sampled.

Whether a request is recorded follows from its trace id alone, so processes with the same settings agree without asking
each other. Recording is cheap enough to be on for every ranking, hence no OpenTelemetry SDK on this path: it costs ten
times as much a span, and 20 MB. It is loaded for exporting only (`services.common.otlp`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal, Protocol

import msgspec
from aiohttp import web
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from services.common.clock import Clock, SystemClock, unix_us
from services.common.logging import get_logger
from services.common.problem import Problem
from services.common.settings import SettingsError
from services.common.spans import PATH, Span, SpanRing, SpansAnswer, wanted_of
from services.common.trace import NO_TRACE, Stretch, Trace, current, entered, new_span_id, new_trace_id
from services.common.trace_context import (
    HEADER_PARENT,
    HEADER_STATE,
    TraceContext,
    parse_parent,
    read_parent,
    read_state,
)
from services.common.tracing_settings import TracingSettings

__all__ = ["HEADER_PARENT", "NO_TRACE", "NO_TRACER", "Recording", "Trace", "Tracer", "current", "entered", "opened"]

log = get_logger(__name__)

Recording = Literal["never", "sampled", "share"]
"""Which requests are recorded: none, those whose caller asks for it, or a share of the others too."""
SLOW_LINES_SECONDS: Final = 1.0
_WHOLE: Final = 1 << 64


class Export(Protocol):
    """Where sampled spans go."""

    exported: int
    dropped: dict[str, int]
    """By reason."""

    def put(self, span: Span) -> None:
        """Queue one; never waits."""

    async def close(self) -> None:
        """Send what is queued, within a bound."""


class Tracer:
    """Begins traces, and keeps what they say. One for each process; used from its event loop."""

    def __init__(
        self,
        service: str,
        settings: TracingSettings,
        *,
        region: str = "",
        incarnation: str = "",
        clock: Clock | None = None,
        export: Export | None = None,
        wall_us: Callable[[], int] = unix_us,
    ) -> None:
        self.service = service
        self.region = region
        self.incarnation = incarnation
        self.ring = SpanRing(settings.ring_requests)
        self.settings = settings
        self.export = export
        self.recorded = 0
        self.now = (clock or SystemClock()).monotonic
        self.unix_us = wall_us
        self._since_us = wall_us()
        self._keeps = settings.ring_requests > 0 or export is not None
        self._slow_seconds = settings.slow_ms / 1000
        self._slow_line_at = float("-inf")
        self._slow_unsaid = 0

    def lives_as(self, incarnation: str) -> None:
        """Which life the region is in became known."""
        if self._keeps:
            self.incarnation = incarnation

    def begin(self, headers: Mapping[str, str], recording: Recording) -> Trace:
        """Continue the trace of an HTTP request from outside, or begin one."""
        if recording == "never" or not self._keeps:
            return NO_TRACE
        getall = getattr(headers, "getall", None)
        values = getall(HEADER_PARENT, ()) if getall is not None else _given(headers, HEADER_PARENT)
        parent = read_parent(values) if values else None
        if parent is None:
            trace_id = new_trace_id()
            sampled = in_share(trace_id, self.settings.sample_share)
            context = TraceContext(trace_id, new_span_id(), sampled=sampled)
            return self._trace(context, "", recording)
        context = TraceContext(parent.trace_id, new_span_id(), sampled=parent.sampled)
        states = getall(HEADER_STATE, ()) if getall is not None else _given(headers, HEADER_STATE)
        state = read_state(states) if states else ""
        return self._trace(context, parent.span_id, recording, state)

    def continued(self, traceparent: str) -> Trace:
        """Continue what another process of the deployment passed on; NO_TRACE when it passed nothing."""
        if not traceparent or not self._keeps:
            return NO_TRACE
        parent = parse_parent(traceparent)
        if parent is None:
            return NO_TRACE
        context = TraceContext(parent.trace_id, new_span_id(), sampled=parent.sampled)
        return self._trace(context, parent.span_id, "share")

    def over(self, trace: Trace, stretch: Stretch) -> None:
        """See Keeps."""
        self.recorded += 1
        if trace.sampled and self.export is not None:
            self.export.put(trace.span(stretch))

    def ended(self, trace: Trace, name: str, seconds: float) -> None:
        """A request is over: say so if it was slow, but not for each of many."""
        if seconds < self._slow_seconds:
            return
        now = self.now()
        if now - self._slow_line_at < SLOW_LINES_SECONDS:
            self._slow_unsaid += 1
            return
        self._slow_line_at = now
        took = {each.name: _milliseconds(each.ended - each.began) for each in trace.stretches[:-1]}
        log.info("a slow request", request=name, ms=_milliseconds(seconds), stages_ms=took, unsaid=self._slow_unsaid)
        self._slow_unsaid = 0

    def answer(self, wanted: str) -> SpansAnswer:
        """What is known of a trace, a ranking or an event."""
        spans, matched = self.ring.find(wanted)
        return SpansAnswer(
            service=self.service,
            region=self.region,
            incarnation=self.incarnation,
            now_us=self.unix_us(),
            since_us=self._since_us,
            forgotten_us=self.ring.forgotten_us,
            requests_kept=len(self.ring),
            requests_max=self.ring.requests_max,
            record_share=self.settings.record_share,
            spans=spans,
            matched=matched,
        )

    async def spans(self, request: web.Request) -> web.Response:
        """`GET /v1/spans`."""
        try:
            body = msgspec.json.encode(self.answer(wanted_of(request)))
        except Problem as problem:
            return problem.response()
        return web.Response(body=body, content_type="application/json")

    def add_route(self, app: web.Application) -> None:
        """Serve the spans to whoever can reach the process."""
        app.router.add_get(PATH, self.spans)

    async def close(self) -> None:
        """Send what waits for being exported."""
        if self.export is not None:
            await self.export.close()

    def _trace(self, context: TraceContext, parent_id: str, recording: Recording, state: str = "") -> Trace:
        share = self.settings.record_share
        recorded = context.sampled or (recording == "share" and in_share(context.trace_id, share))
        trace = Trace(self, context, parent_id=parent_id, recorded=recorded, state=state)
        if recorded:
            self.ring.put(trace)
        return trace


class SpanFigures(Collector):
    """The tracer's counts for Prometheus; read when they are asked for, so that counting costs an addition."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        recorded = CounterMetricFamily("meridian_spans_recorded", "Spans that were kept in memory.")
        recorded.add_metric([], self._tracer.recorded)
        yield recorded
        export = self._tracer.export
        if export is None:
            return
        exported = CounterMetricFamily("meridian_spans_exported", "Spans that the collector took.")
        exported.add_metric([], export.exported)
        yield exported
        dropped = CounterMetricFamily("meridian_spans_dropped", "Sampled spans not exported.", labels=["reason"])
        for reason, count in export.dropped.items():
            dropped.add_metric([reason], count)
        yield dropped


def opened(
    service: str, settings: TracingSettings, *, region: str, incarnation: str = "", clock: Clock | None = None
) -> Tracer:
    """Return the tracer of a process as its settings say. Raises SettingsError when it should export and cannot."""
    export: Export | None = None
    if settings.otlp_endpoint:
        try:
            from services.common.otlp import OtlpExport
        except ModuleNotFoundError as missing:
            raise SettingsError(
                f"[tracing] otlp_endpoint is set, but {missing.name} is not installed. Install the extra: "
                "pip install 'meridian[otel]', or unset it."
            ) from None
        export = OtlpExport(service, region, settings)
    return Tracer(service, settings, region=region, incarnation=incarnation, clock=clock, export=export)


def in_share(trace_id: str, share: float) -> bool:
    """Say whether a trace belongs to this share of all: every process says the same."""
    return share >= 1.0 or (share > 0.0 and int(trace_id[16:], 16) < share * _WHOLE)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _given(headers: Mapping[str, str], name: str) -> list[str]:
    return [headers[name]] if name in headers else []


NO_TRACER: Final = Tracer("", TracingSettings(ring_requests=0), wall_us=lambda: 0)
"""Records nothing: what parts have that are not given another, as in the simulator."""
