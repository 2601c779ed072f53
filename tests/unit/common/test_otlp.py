"""Sampled spans reach a real OTLP receiver with parents and attributes; a receiver that is down costs nothing."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.common.otlp import OtlpExport
from services.common.tracing import Tracer, opened
from services.common.tracing_settings import TracingSettings
from tests.support.inference_worker import free_port
from tests.support.poll import wait_until_async

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "rojo=1"}


@asynccontextmanager
async def collector(received: list[ExportTraceServiceRequest], status: int = 200) -> AsyncIterator[str]:
    """A receiver on this machine; yields its address."""

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        received.append(ExportTraceServiceRequest.FromString(body))
        return web.Response(status=status, content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}/v1/traces"
    finally:
        await runner.cleanup()


def settings(endpoint: str, **more: Any) -> TracingSettings:
    """Impatient ones, but for an answer that will come: the machine may be busy."""
    return TracingSettings(otlp_endpoint=endpoint, export_interval_ms=20, **{"export_timeout_ms": 10_000, **more})


def request_once(tracer: Tracer) -> None:
    """One request with a step, a link and a fact."""
    trace = tracer.begin(HEADERS, "share")
    with trace.step("score", kind="client", candidates=3):
        pass
    trace.add("compute", trace.began, links=[("ab" * 16, "cd" * 8)], error="too slow")
    trace.note(rung="model")
    trace.facts["http.response.status_code"] = 200
    trace.end("POST /v1/search", kind="server")


async def test_spans_arrive_with_parents_attributes_links_and_times() -> None:
    """Decoded from what was really sent, by OpenTelemetry's own definition of it."""
    received: list[ExportTraceServiceRequest] = []
    async with collector(received) as endpoint:
        tracer = opened("gateway", settings(endpoint), region="east")
        before = time.time_ns()
        request_once(tracer)
        await wait_until_async(lambda: _count(received) == 3, 10, "three spans")
        await tracer.close()
    resource = received[0].resource_spans[0].resource
    said = {each.key: each.value.string_value for each in resource.attributes}
    assert (said["service.name"], said["meridian.region"]) == ("meridian-gateway", "east")
    spans = {s.name: s for r in received for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans}
    whole, score, compute = spans["POST /v1/search"], spans["score"], spans["compute"]
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert whole.parent_span_id.hex() == CALLER
    assert score.parent_span_id == compute.parent_span_id == whole.span_id
    assert (whole.kind, score.kind) == (whole.SPAN_KIND_SERVER, whole.SPAN_KIND_CLIENT)
    facts = {each.key: each.value for each in whole.attributes}
    assert facts["meridian.rung"].string_value == "model"
    assert facts["http.response.status_code"].int_value == 200
    assert (compute.links[0].trace_id.hex(), compute.links[0].span_id.hex()) == ("ab" * 16, "cd" * 8)
    assert (compute.status.code, compute.status.message) == (compute.status.STATUS_CODE_ERROR, "too slow")
    assert whole.trace_state == "rojo=1"
    assert before - 1_000_000 <= whole.start_time_unix_nano <= whole.end_time_unix_nano <= time.time_ns()
    assert tracer.export is not None
    assert tracer.export.exported == 3


async def test_a_collector_that_is_down_costs_no_request_anything() -> None:
    """The queue is bounded, what does not fit or is not taken is counted, and closing takes a bounded time."""
    nobody = f"http://127.0.0.1:{free_port()}/v1/traces"
    down = settings(nobody, export_queue_spans=50, export_timeout_ms=300)
    export = OtlpExport("gateway", "east", down)
    tracer = Tracer("gateway", TracingSettings(), export=export)
    slowest = 0.0
    for _ in range(100):
        began = time.process_time()
        request_once(tracer)
        slowest = max(slowest, time.process_time() - began)
    assert slowest < 0.1
    began = time.monotonic()
    await tracer.close()
    assert time.monotonic() - began < 10.0
    assert export.exported == 0
    assert export.dropped["queue_full"] > 0
    assert export.dropped["queue_full"] + export.dropped["not_taken"] + len(export._queue) == 300


async def test_a_collector_that_refuses_is_not_asked_for_ever() -> None:
    """What it does not take is dropped and counted; the next spans are sent all the same."""
    received: list[ExportTraceServiceRequest] = []
    async with collector(received, status=400) as endpoint:
        export = OtlpExport("gateway", "east", settings(endpoint))
        tracer = Tracer("gateway", TracingSettings(), export=export)
        for wanted in (3, 6):
            request_once(tracer)
            await wait_until_async(lambda count=wanted: export.dropped["not_taken"] == count, 10, "the refusal")
        await asyncio.wait_for(tracer.close(), 15)
    assert _count(received) == 6


def _count(received: list[ExportTraceServiceRequest]) -> int:
    return sum(len(ss.spans) for r in received for rs in r.resource_spans for ss in rs.scope_spans)
