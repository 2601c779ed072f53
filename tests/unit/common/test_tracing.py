"""Requests leave spans behind, as many as there is room for; lines say which request and process they are of."""

from __future__ import annotations

import asyncio
import io
import json
import logging as standard
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDict
from prometheus_client import CollectorRegistry, generate_latest

from services.common import logging
from services.common.spans import PATH, Span
from services.common.tracing import NO_TRACE, NO_TRACER, SpanFigures, Tracer, current, entered
from services.common.tracing_settings import TracingSettings

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
UNSAMPLED = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-00"}


class Exported:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.exported = 0
        self.dropped = {"queue_full": 2}
        self.spans: list[Span] = []

    def put(self, span: Span) -> None:
        self.spans.append(span)

    async def close(self) -> None:
        """Nothing waits."""


def tracer(export: Exported | None = None, **settings: Any) -> Tracer:
    """A gateway's."""
    return Tracer("gateway", TracingSettings(**settings), region="east", incarnation="east-1", export=export)


def one_request(traces: Tracer, headers: dict[str, str], *keys: str) -> str:
    """A request with two steps, one inside the other; returns its trace id."""
    trace = traces.begin(CIMultiDict(headers), "share")
    with trace.step("outer"), trace.step("inner"):
        pass
    trace.findable(*keys)
    trace.end("POST /v1/search", kind="server")
    return trace.trace_id


def test_a_request_continues_its_callers_trace() -> None:
    """The parents lead from the innermost step to the caller."""
    traces = tracer()
    one_request(traces, SAMPLED)
    inner, outer, whole = sorted(traces.ring.find(TRACE)[0], key=lambda span: span.name != "inner")
    if outer.name != "outer":
        outer, whole = whole, outer
    assert (inner.parent_id, outer.parent_id) == (outer.span_id, whole.span_id)
    assert whole.parent_id == "00f067aa0ba902b7"
    assert {span.trace_id for span in (inner, outer, whole)} == {TRACE}
    assert len({inner.span_id, outer.span_id, whole.span_id}) == 3


def test_a_wrong_header_begins_a_new_trace() -> None:
    """It is neither refused nor half believed."""
    trace = tracer().begin(CIMultiDict({"traceparent": "00-zz"}), "share")
    assert trace.trace_id != TRACE
    assert len(trace.trace_id) == 32
    assert trace.parent_id == ""


def test_only_what_is_sampled_is_exported() -> None:
    """The caller's flag is honoured both ways; the own share decides only where there is no caller."""
    export = Exported()
    traces = tracer(export, sample_share=1.0)
    one_request(traces, UNSAMPLED)
    assert export.spans == []
    assert len(traces.ring.find(TRACE)[0]) == 3, "it is kept here all the same"
    one_request(traces, SAMPLED)
    assert len(export.spans) == 3
    own = one_request(traces, {})
    assert [span.trace_id for span in export.spans[3:]] == [own] * 3
    assert not tracer(sample_share=0.0).begin({}, "share").sampled


def test_processes_agree_on_what_they_record() -> None:
    """A share is decided by the trace id: what one passes on, the next one records, and no other."""
    first, second = tracer(record_share=0.5), tracer(record_share=0.5)
    recorded = 0
    for _ in range(400):
        trace = first.begin({}, "share")
        assert second.continued(trace.traceparent()).recorded == trace.recorded
        assert bool(trace.passed_on()) == trace.recorded
        recorded += trace.recorded
    assert 120 < recorded < 280


def test_events_are_recorded_when_their_caller_asks() -> None:
    """Publishing is cheap and frequent: it leaves spans behind only for a sampled trace."""
    traces = tracer()
    assert not traces.begin(CIMultiDict(UNSAMPLED), "sampled").recorded
    assert not traces.begin({}, "sampled").recorded
    assert traces.begin(CIMultiDict(SAMPLED), "sampled").recorded
    assert traces.begin(CIMultiDict(SAMPLED), "never") is NO_TRACE


def test_the_ring_forgets_the_oldest_and_says_since_when() -> None:
    """Sampled requests are kept apart: a flood of others does not push them out."""
    traces = tracer(ring_requests=3)
    one_request(traces, SAMPLED, "mine")
    assert traces.ring.forgotten_us == 0
    ids = [one_request(traces, {}, f"r{number}") for number in range(5)]
    assert [bool(traces.ring.find(trace_id)[0]) for trace_id in ids] == [False, False, True, True, True]
    assert traces.ring.find("r0") == ([], [])
    spans, matched = traces.ring.find("mine")
    assert {span.trace_id for span in spans} == {TRACE}
    assert len(matched) == 1
    assert traces.ring.forgotten_us > 0
    assert len(traces.ring) == 4


def test_without_a_ring_nothing_is_recorded() -> None:
    """A part that was given no tracer costs nothing and keeps nothing."""
    for traces in (NO_TRACER, tracer(ring_requests=0)):
        trace = traces.begin(CIMultiDict(SAMPLED), "share")
        trace.note(rung="model")
        assert (trace.recorded, trace.traceparent(), trace.facts) == (False, "", {})
        assert traces.continued(SAMPLED["traceparent"]) is NO_TRACE


def test_a_failed_step_says_why() -> None:
    """The error is on the span, and goes on to whoever called."""
    traces = tracer()
    trace = traces.begin(CIMultiDict(SAMPLED), "share")
    with pytest.raises(ValueError, match="no lamp"), trace.step("features"):
        raise ValueError("no lamp")
    assert [span.error for span in trace.spans()] == ["no lamp"]
    assert trace.calling == ""


async def test_spans_are_answered_over_http() -> None:
    """By trace, ranking or event; a question without one is refused with what to ask."""
    traces = tracer()
    one_request(traces, SAMPLED, "aa" * 16, "order-7")
    app = web.Application()
    traces.add_route(app)
    async with TestClient(TestServer(app)) as client:
        for query in ({"trace": TRACE}, {"ranking": "aa" * 16}, {"event": "order-7"}):
            async with client.get(PATH, params=query) as response:
                text = await response.text()
                found = json.loads(text)
            assert (found["service"], found["region"], len(found["spans"])) == ("gateway", "east", 3)
            assert "order-7" not in text, "an id that an app chose does not leave the process"
        async with client.get(PATH) as response:
            assert response.status == 400
            assert "meridian trace" in await response.text()


def test_figures_are_counted() -> None:
    """Spans that were kept, exported and dropped."""
    traces, registry = tracer(Exported()), CollectorRegistry()
    registry.register(SpanFigures(traces))
    one_request(traces, {})
    page = generate_latest(registry).decode()
    assert "meridian_spans_recorded_total 3.0" in page
    assert 'meridian_spans_dropped_total{reason="queue_full"} 2.0' in page


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged in a test; the set-up of before comes back."""
    before, handlers, level = structlog.get_config(), list(standard.root.handlers), standard.root.level
    output = io.StringIO()
    logging.configure("gateway", stream=output)
    try:
        yield output
    finally:
        standard.root.handlers[:] = handlers
        standard.root.setLevel(level)
        structlog.configure(**before)
        logging._process.clear()


def logged(output: io.StringIO) -> list[dict[str, Any]]:
    """The lines so far."""
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_each_line_says_its_process_also_from_other_threads(lines: io.StringIO) -> None:
    """Kafka's client logs from threads of its own, where context variables are empty; libraries log by themselves."""
    logging.bind_process(region="east", incarnation="east-1", epoch=[1, 7])
    log = logging.get_logger("test")
    log.info("here")
    thread = threading.Thread(target=lambda: standard.getLogger("library").warning("there"))
    thread.start()
    thread.join()
    logging.bind_process(epoch=[1, 9], incarnation=None)
    log.info("later", epoch=[1, 8])
    here, there, later = logged(lines)
    for line in (here, there):
        expected = {"service": "gateway", "region": "east", "incarnation": "east-1", "epoch": [1, 7]}
        assert expected.items() <= line.items()
    assert later["epoch"] == [1, 8], "a line's own word counts"
    assert "incarnation" not in later


async def test_a_line_about_a_request_says_which(lines: io.StringIO) -> None:
    """Only inside its own task, and only ids that nobody chose."""
    traces, log = tracer(), logging.get_logger("test")

    async def handle(number: int) -> str:
        with entered(traces.begin({}, "share")) as trace:
            await asyncio.sleep(0)
            trace.note(ranking_id=f"{number:032x}", event_id="ab" * 16, reason="the user asked for lamps")
            trace.findable("order-7")
            log.warning("slow")
            assert current() is trace
            return trace.trace_id

    ids = await asyncio.gather(handle(1), handle(2))
    log.warning("after")
    first, second, after = logged(lines)
    assert [first["trace_id"], second["trace_id"]] == ids
    assert (first["ranking_id"], first["event_id"]) == (f"{1:032x}", "ab" * 16)
    assert first["span_id"] != second["span_id"]
    assert "lamps" not in lines.getvalue()
    assert "order-7" not in lines.getvalue()
    assert "trace_id" not in after


def test_many_slow_requests_are_one_line_a_second(lines: io.StringIO) -> None:
    """The line has what took how long, and the next one how many were not said."""
    traces, now = tracer(slow_ms=100), [0.0]
    traces.now = lambda: now[0]
    for second in (0.0, 0.3, 0.6, 5.0):
        now[0] = second
        with entered(traces.begin({}, "share")) as trace, trace.step("features"):
            now[0] += 0.2
        trace.end("POST /v1/search", kind="server")
    first, second_line = logged(lines)
    assert (first["event"], first["ms"], first["stages_ms"]) == ("a slow request", 200.0, {"features": 200.0})
    assert (first["unsaid"], second_line["unsaid"]) == (0, 2)
