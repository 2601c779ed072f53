"""Sampled spans to an OpenTelemetry collector, over HTTP; needs the extra `otel`.

A thread of its own takes what is queued, so that a collector that is slow or down costs a request nothing: the queue
has a bound, what does not fit is dropped and counted, and a sending that fails is not tried for longer than its time.
Spans become the SDK's only here, in that thread. The SDK's own batch processor was turned down: it does not say how
many spans it dropped.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from services.common.logging import get_logger
from services.common.spans import Span
from services.common.tracing_settings import TracingSettings

log = get_logger(__name__)

BATCH_SPANS_MAX: Final = 512
_KINDS: Final = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_SCOPE: Final = InstrumentationScope("meridian")
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


class OtlpExport:
    """See Export. `put` belongs to the event loop; the rest happens in the thread."""

    def __init__(self, service: str, region: str, settings: TracingSettings) -> None:
        self.exported = 0
        self.dropped = {"queue_full": 0, "not_taken": 0}
        self._queue: deque[Span] = deque()
        self._queue_max = settings.export_queue_spans
        self._interval_seconds = settings.export_interval_ms / 1000
        self._timeout_seconds = settings.export_timeout_ms / 1000
        self._resource = Resource(
            {"service.namespace": "meridian", "service.name": f"meridian-{service}", "meridian.region": region}
        )
        self._exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint, timeout=self._timeout_seconds)
        self._endpoint = settings.otlp_endpoint
        self._failing = False
        # The exporter would say of each try what is said here once, when it changes.
        logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").setLevel(logging.CRITICAL)
        self._wake = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="spans-export", daemon=True)
        self._thread.start()

    def put(self, span: Span) -> None:
        """See Export."""
        if len(self._queue) >= self._queue_max:
            self.dropped["queue_full"] += 1
            return
        self._queue.append(span)
        if len(self._queue) >= BATCH_SPANS_MAX:
            self._wake.set()

    async def close(self) -> None:
        """See Export. What cannot be sent within one sending's time is dropped."""
        self._ending = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join, self._timeout_seconds + 0.5)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _run(self) -> None:
        while not self._ending:
            self._wake.wait(self._interval_seconds)
            self._wake.clear()
            while self._queue and self._send():
                pass
        self._send()

    def _send(self) -> bool:
        """Send one batch; whether it was taken."""
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_SPANS_MAX))]
        if not batch:
            return True
        try:
            taken = self._exporter.export([self._readable(span) for span in batch]) is SpanExportResult.SUCCESS
            why = "it refuses them, or cannot be reached"
        except Exception as problem:  # noqa: BLE001 - the outermost loop of this thread, which must live on
            taken, why = False, f"{type(problem).__name__}: {problem}"
        if taken:
            self.exported += len(batch)
        else:
            self.dropped["not_taken"] += len(batch)
        if taken is self._failing:
            self._failing = not taken
            if taken:
                log.info("the collector takes spans again", endpoint=self._endpoint)
            else:
                log.warning("the collector takes no spans; they are dropped", endpoint=self._endpoint, reason=why)
        return taken

    def _readable(self, span: Span) -> ReadableSpan:
        state = TraceState.from_header([span.state]) if span.state else None
        began_ns = span.began_us * 1_000
        attributes: dict[str, Any] = {_named(name): value for name, value in span.attributes.items()}
        return ReadableSpan(
            name=span.name,
            context=_context(span.trace_id, span.span_id, state),
            parent=_context(span.trace_id, span.parent_id) if span.parent_id else None,
            resource=self._resource,
            attributes=attributes,
            links=[Link(_context(*link)) for link in span.links],
            kind=_KINDS[span.kind],
            instrumentation_scope=_SCOPE,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=began_ns,
            end_time=began_ns + span.lasted_us * 1_000,
        )


def _named(attribute: str) -> str:
    """Names with a dot are OpenTelemetry's own."""
    return attribute if "." in attribute else f"meridian.{attribute}"


def _context(trace_id: str, span_id: str, state: TraceState | None = None) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=_SAMPLED, trace_state=state)
