"""The client against a scripted worker: every way to fail ends by the deadline, with the right exception."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from services.inference.breaker import BreakerLimits, State
from services.inference.client import (
    ClientLimits,
    InferenceClient,
    InferenceExpired,
    InferenceFailed,
    InferenceRefused,
    InferenceUnavailable,
)
from services.inference.codec import InferRequest, encode_response
from tests.support.inference_worker import deadline_in, free_port
from tests.support.poll import wait_until_async

INPUTS = {"x": np.ones((1, 2), np.float32), "not_declared": np.ones((1, 9), np.float32)}
METADATA = b'{"name":"ranker","versions":["1"],"inputs":[{"name":"x"}]}'

Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]


def http(status: str, body: bytes, headers: str = "") -> bytes:
    """An HTTP answer as bytes."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def answers(content: bytes) -> Reply:
    """Write it and keep the connection."""

    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()

    return reply


def scored(version: str = "1") -> Reply:
    """A right answer."""
    request = InferRequest("", {}, (), True, None, None)
    body = encode_response("ranker", version, request, {"scores": np.array([[1.0, 2.0]], np.float32)})
    return answers(http("200 OK", body.content, f"Inference-Header-Content-Length: {body.header_length}\r\n"))


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close without an answer, as a process does that dies now."""
    writer.close()


async def silence(_: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def dribble(writer: asyncio.StreamWriter) -> None:
    """Begin an answer, and send a byte of it now and then: no single read ever times out."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def worker(*script: Reply) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serves metadata for each GET and the script's replies for each POST; yields its address and the bodies it got."""
    replies = iter(script)
    bodies: list[bytes] = []
    connections: list[asyncio.Task[None]] = []

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.append(task)
        while not writer.is_closing():
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            if head.startswith(b"GET"):
                await answers(http("200 OK", METADATA))(writer)
                continue
            length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line)
            bodies.append(await reader.readexactly(length))
            await next(replies)(writer)
        writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", bodies
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def test_only_declared_inputs_are_sent() -> None:
    """What the model does not take costs nothing on the wire."""
    async with worker(scored()) as (url, bodies), InferenceClient(url) as client:
        answer = await client.infer(INPUTS, deadline_in(5))
    assert answer.model_version == "ranker/1"
    np.testing.assert_array_equal(answer.scores, [[1.0, 2.0]])
    assert b'"x"' in bodies[0]
    assert b"not_declared" not in bodies[0]


async def test_a_worker_that_dies_between_two_requests_costs_a_retry_not_a_failure() -> None:
    """The kept connection turns out to be dead only when the request is on its way."""
    async with worker(scored(), hang_up, scored()) as (url, _), InferenceClient(url) as client:
        await client.infer(INPUTS, deadline_in(5))
        assert (await client.infer(INPUTS, deadline_in(5))).model_version == "ranker/1"


async def test_a_worker_that_always_hangs_up_is_unavailable() -> None:
    """One retry, not a loop."""
    async with worker(hang_up, hang_up, hang_up) as (url, bodies), InferenceClient(url) as client:
        with pytest.raises(InferenceUnavailable):
            await client.infer(INPUTS, deadline_in(5))
        assert len(bodies) == 2


@pytest.mark.parametrize("reply", [silence, dribble])
async def test_no_answer_ends_at_the_deadline(reply: Reply) -> None:
    """Also when bytes keep coming: the whole call is bounded, not each read."""
    async with worker(reply) as (url, _), InferenceClient(url) as client:
        asked = time.monotonic()
        with pytest.raises(InferenceExpired):
            await client.infer(INPUTS, deadline_in(0.2))
        assert 0.15 < time.monotonic() - asked < 1.0


async def test_a_deadline_that_is_over_sends_nothing() -> None:
    """The worker hears nothing, and it is not held against it."""
    async with worker() as (url, bodies), InferenceClient(url) as client:
        for _ in range(5):
            with pytest.raises(InferenceExpired):
                await client.infer(INPUTS, deadline_in(-0.01))
        assert bodies == []
        assert client.breaker_state is State.CLOSED


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        ("400 Bad Request", b'{"error":"no","code":"bad_request"}', InferenceRefused, "no (HTTP 400)"),
        ("400 Bad Request", b'{"error":"does not fit","code":"bad_tensor"}', InferenceRefused, "does not fit"),
        ("404 Not Found", b'{"error":"who?","code":"unknown_model"}', InferenceRefused, "who?"),
        ("429 Too Many Requests", b'{"error":"full","code":"queue_full"}', InferenceUnavailable, "full"),
        ("503 Service Unavailable", b'{"error":"draining","code":"not_serving"}', InferenceUnavailable, "draining"),
        ("504 Gateway Timeout", b'{"error":"late","code":"deadline_expired"}', InferenceExpired, "late"),
        ("500 Internal Server Error", b'{"error":"nan","code":"model_run_failed"}', InferenceRefused, "nan"),
        ("502 Bad Gateway", b"<html>", InferenceRefused, "HTTP 502 without a reason"),
        ("200 OK", b"<html>", InferenceRefused, "cannot be read"),
        ("200 OK", b'{"outputs":[]}', InferenceRefused, "cannot be read"),
    ],
)
async def test_each_answer_has_its_exception(status: str, body: bytes, kind: type[InferenceFailed], says: str) -> None:
    """Three kinds for the caller, the worker's sentence as the reason; an answer never opens the breaker."""
    limits = ClientLimits(breaker=BreakerLimits(failures_max=1))
    async with worker(answers(http(status, body))) as (url, _), InferenceClient(url, limits=limits) as client:
        with pytest.raises(kind) as caught:
            await client.infer(INPUTS, deadline_in(5))
        assert type(caught.value) is kind
        assert says in caught.value.reason
        assert client.breaker_state is State.CLOSED


async def test_nobody_listening_is_unavailable_at_once_and_opens_the_breaker() -> None:
    """A refused connection is a failure of the worker."""
    limits = ClientLimits(breaker=BreakerLimits(failures_max=2, open_seconds=60))
    async with InferenceClient(f"http://127.0.0.1:{free_port()}", limits=limits) as client:
        for _ in range(2):
            with pytest.raises(InferenceUnavailable, match="cannot be reached"):
                await client.infer(INPUTS, deadline_in(5))
        assert client.breaker_state is State.OPEN
        with pytest.raises(InferenceUnavailable, match="left alone for a moment"):
            await client.infer(INPUTS, deadline_in(5))


async def test_a_cancelled_caller_is_no_verdict() -> None:
    """The breaker counts neither a failure nor a success."""
    limits = ClientLimits(breaker=BreakerLimits(failures_max=1))
    async with worker(silence) as (url, bodies), InferenceClient(url, limits=limits) as client:
        call = asyncio.ensure_future(client.infer(INPUTS, deadline_in(5)))
        await wait_until_async(lambda: bodies, what="the request to arrive")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert client.breaker_state is State.CLOSED


async def test_another_version_in_an_answer_makes_it_read_the_declaration_again() -> None:
    """Versions may take other inputs."""
    async with worker(scored("2"), scored("1")) as (url, _), InferenceClient(url) as client:
        assert (await client.infer(INPUTS, deadline_in(5))).model_version == "ranker/2"
        assert client._declared is None
        assert (await client.infer(INPUTS, deadline_in(5))).model_version == "ranker/1"
        assert client._declared is not None
