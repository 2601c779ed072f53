"""A frame's span: whose it is, what its record says, and how the others that ride on it find it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from services.common.settings import Secret
from services.common.spans import Span
from services.common.tracing import Tracer, current
from services.common.tracing_settings import TracingSettings
from streams.asks import decode_asks
from streams.frame import HEADER_ASKS, HEADER_TRACE, header
from tests.support.gateway_parts import JSON, LOG, GatewayParts, event
from tests.support.poll import wait_until_async

BATCH = {"Content-Type": "application/cloudevents-batch+json"}


def parent(number: int, flags: str = "01") -> dict[str, str]:
    """A caller's header."""
    return {"traceparent": f"00-{number:032x}-{number:016x}-{flags}"}


def traced(gateway: GatewayParts, **settings: Any) -> Tracer:
    """Give a gateway a tracer; call it before it is entered."""
    tracer = Tracer("gateway", TracingSettings(**settings), region="east")
    gateway.tracer = tracer
    return tracer


def named(tracer: Tracer, number: int) -> dict[str, Span]:
    """The spans of a caller's trace."""
    return {span.name: span for span in tracer.ring.find(f"{number:032x}")[0]}


def headers_of(gateway: GatewayParts) -> list[Any]:
    """Of all records, in the order in which they were sent."""
    return [headers for records in gateway.sink.records.values() for _, headers in records]


async def test_a_search_is_one_tree_and_the_answer_names_it() -> None:
    """The ask and the frame carry the trace; the answer's traceparent is the gateway's span."""
    gateway = GatewayParts()
    tracer = traced(gateway)
    async with gateway:
        asking = asyncio.ensure_future(
            gateway.post("/v1/search", {"user": "ann", "query": "lamp"}, {**JSON, **parent(7)})
        )
        await wait_until_async(lambda: bool(headers_of(gateway)), 5, "the record")
        (record,) = headers_of(gateway)
        (ask,) = decode_asks(header(record, HEADER_ASKS) or b"")
        gateway.answer(ask)
        status, headers, body = await asking
    spans = named(tracer, 7)
    whole, frame = spans["POST /v1/search"], spans["frame"]
    assert status == 200
    assert headers["traceparent"] == f"00-{7:032x}-{whole.span_id}-01" == ask.trace
    assert header(record, HEADER_TRACE) == f"00-{7:032x}-{frame.span_id}-01".encode()
    assert (whole.parent_id, frame.parent_id) == (f"{7:016x}", whole.span_id)
    assert spans["kafka.acknowledge"].parent_id == spans["disk.keep"].parent_id == frame.span_id
    assert set(spans) >= {"prepare", "ranking.wait", "check", "write"}
    assert whole.attributes["ranking_id"] == body["ranking_id"]
    assert (whole.attributes["rung"], whole.attributes["http.response.status_code"]) == ("model", 200)
    assert frame.attributes["position"] == f"{LOG}/{body['event']['partition']}/{body['event']['offset']}"
    assert "ann" not in str(whole)
    assert "lamp" not in str(whole)
    for known in (body["ranking_id"], str(frame.attributes["position"]), str(whole.attributes["event_id"])):
        assert tracer.ring.find(known)[0], known


async def test_batches_that_share_a_frame_are_links() -> None:
    """The first one's trace has the frame, the other one finds it by a span that links to it."""
    gateway = GatewayParts(frame_age_ms=200.0)
    tracer = traced(gateway)
    async with gateway:
        gateway.sink.hold = True
        blocking = asyncio.ensure_future(gateway.post("/v1/events", [event(1)], BATCH))
        await wait_until_async(lambda: gateway.log.in_flight == 1, 5, "the frame in flight")
        bodies = [[event(1) | {"id": f"e{number}"}] for number in (2, 3, 4)]
        posts = [
            asyncio.ensure_future(gateway.post("/v1/events", body, {**BATCH, **sent}))
            for body, sent in zip(bodies, (parent(2), parent(3), parent(4, "00")), strict=True)
        ]
        await wait_until_async(lambda: gateway.core.admission.events == 4, 5, "all to wait")
        gateway.sink.hold = False
        gateway.sink.release()
        await asyncio.gather(blocking, *posts)
    first, second = named(tracer, 2)["frame"], named(tracer, 3)["frame"]
    leading, riding = (first, second) if "events" in first.attributes else (second, first)
    assert leading.attributes["events"] == 3
    assert [link[1] for link in leading.links] == [riding.parent_id]
    assert [link[1] for link in riding.links] == [leading.span_id]
    assert named(tracer, 4) == {}, "its caller does not want it recorded"
    assert tracer.ring.find("e3")[0], "found by the app's own id"
    assert [bool(header(headers, HEADER_TRACE)) for headers in headers_of(gateway)] == [False, True]


async def test_a_refused_search_is_a_span_with_its_reason() -> None:
    """The answer names the trace as well: that is the request somebody will ask about."""
    gateway = GatewayParts(opened=False)
    tracer = traced(gateway)
    async with gateway:
        status, headers, _ = await gateway.post("/v1/search", {"user": "a", "query": "b"}, {**JSON, **parent(9)})
    whole = named(tracer, 9)["POST /v1/search"]
    assert (status, whole.error) == (503, "not-serving")
    assert headers["traceparent"].split("-")[2] == whole.span_id


async def test_spans_are_answered_at_the_gateway_under_its_lock() -> None:
    """With tokens, spans are not for everybody."""
    token = "a-token-that-is-long-enough"
    gateway = GatewayParts(api_tokens=Secret(token))
    traced(gateway)
    async with gateway:
        async with gateway.client.get("/v1/spans", params={"trace": "0" * 32}) as response:
            assert response.status == 401
        authorised = {"Authorization": f"Bearer {token}"}
        async with gateway.client.get("/v1/spans", params={"trace": "0" * 32}, headers=authorised) as response:
            assert json.loads(await response.read())["spans"] == []


async def test_what_becomes_due_is_no_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that its age closes is of many requests: a line about it must not name the one that set the timer."""
    gateway = GatewayParts(frame_age_ms=5.0)
    traced(gateway)
    async with gateway:
        current_ones: list[str] = []
        send = gateway.sink.send

        def noted(*arguments: Any) -> None:
            current_ones.append(current().trace_id)
            send(*arguments)

        monkeypatch.setattr(gateway.sink, "send", noted)
        gateway.sink.hold = True
        posts = [asyncio.ensure_future(gateway.post("/v1/events", [event(1)], {**BATCH, **parent(1)}))]
        await wait_until_async(lambda: len(current_ones) == 1, 5, "the frame that nothing holds up")
        posts.append(
            asyncio.ensure_future(gateway.post("/v1/events", [event(1) | {"id": "b"}], {**BATCH, **parent(2)}))
        )
        await wait_until_async(lambda: len(current_ones) == 2, 5, "the frame that became due")
        gateway.sink.release()
        await asyncio.gather(*posts)
    assert current_ones == [f"{1:032x}", ""]


async def test_a_request_that_a_bug_ended_has_a_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the one that somebody will look for; the next request on the same connection has its own."""
    gateway = GatewayParts()
    tracer = traced(gateway)
    async with gateway:

        def broken() -> None:
            raise RuntimeError("alice asked for a lamp")

        monkeypatch.setattr(gateway.core, "log", broken)
        status, _, _ = await gateway.post("/v1/search", {"user": "a", "query": "b"}, {**JSON, **parent(3)})
        monkeypatch.undo()
        await gateway.post("/v1/search", {"user": "a", "query": "b", "deadline_ms": 50}, {**JSON, **parent(4)})
    assert status == 500
    whole = named(tracer, 3)["POST /v1/search"]
    assert (whole.error, whole.parent_id) == ("RuntimeError", f"{3:016x}")
    assert named(tracer, 4)["POST /v1/search"].parent_id == f"{4:016x}"
