"""`POST /v1/events` over a log in memory: what is taken, what is refused, and what is said about it."""

import asyncio
import gzip
import json
from typing import Any

import pytest

from streams.pseudonym import Pseudonyms
from tests.support.gateway_parts import BATCH, JSON, KEY, LOG, STRUCTURED, GatewayParts, event
from tests.support.poll import wait_until_async


async def test_one_event_comes_back_with_its_coordinates() -> None:
    """Structured mode, 200, and the row is in the log."""
    async with GatewayParts() as gateway:
        status, _, body = await gateway.post("/v1/events", event(), STRUCTURED)
        assert status == 200
        (result,) = body["results"]
        partition = result["coordinates"].pop("partition")
        assert result == {"id": "1", "status": "accepted", "coordinates": {"log": LOG, "offset": 0, "index": 0}}
        assert list(gateway.sink.records) == [partition]
        (row,) = gateway.sink.rows()
        assert row.user == Pseudonyms(KEY).user("user-1")


async def test_binary_mode_is_taken() -> None:
    """Attributes in headers, percent-encoded, and the data as the body: the same event as in structured mode."""
    async with GatewayParts() as gateway:
        sent = event(source="/apps/käse")
        headers = {f"ce-{name}": str(sent[name]) for name in ("id", "type", "time", "specversion")}
        headers |= {"ce-source": "/apps/k%C3%A4se", **JSON}
        assert (await gateway.post("/v1/events", sent["data"], headers))[0] == 200
        assert (await gateway.post("/v1/events", sent, STRUCTURED))[0] == 200
        one, two = gateway.sink.rows()
        assert one == two


async def test_a_batch_is_answered_in_order_with_places_in_frames() -> None:
    """Every event's coordinates point at that very event."""
    async with GatewayParts() as gateway:
        status, _, body = await gateway.post("/v1/events", [event(n) for n in range(500)], BATCH)
        assert status == 200
        assert [result["id"] for result in body["results"]] == [str(n) for n in range(500)]
        from streams.frame import decode_frame

        for number, result in enumerate(body["results"]):
            where = result["coordinates"]
            columns = decode_frame(*gateway.sink.records[where["partition"]][where["offset"]])
            assert columns.row(where["index"]).item == f"item-{number}"
        assert len(gateway.sink.rows()) == 500
        assert gateway.figure("meridian_gateway_events_total", outcome="accepted") == 500


async def test_one_bad_event_takes_no_other_with_it() -> None:
    """207: the good ones are in the log, the bad one has a problem document of its own."""
    async with GatewayParts() as gateway:
        batch = [event(1), event(2, data={"user": "u"}), event(3)]
        status, headers, body = await gateway.post("/v1/events", batch, BATCH)
        assert (status, headers["Content-Type"]) == (207, "application/json")
        assert [result["status"] for result in body["results"]] == ["accepted", "refused", "accepted"]
        problem = body["results"][1]["problem"]
        assert (problem["status"], problem["field"]) == (400, "data.item")
        assert problem["remedy"]
        assert len(gateway.sink.rows()) == 2


BAD_BODIES: list[tuple[bytes, dict[str, str], int]] = [
    (b"", STRUCTURED, 400),
    (b"{", STRUCTURED, 400),
    (b"{", BATCH, 400),
    (b"[]", BATCH, 400),
    (b"[" * 20_000, BATCH, 400),
    (b"\xff\xfe{}", STRUCTURED, 400),
    (json.dumps(event(1)).encode().replace(b"item-1", b"item-\xff"), STRUCTURED, 400),
    (json.dumps([event(1, time=None)]).encode(), BATCH, 400),
    (json.dumps(event(1, time="2999-01-01T00:00:00Z")).encode(), STRUCTURED, 400),
    (json.dumps(event(1, type="meridian.clack.v1")).encode(), STRUCTURED, 400),
    (json.dumps(event(1, kind="served")).encode(), STRUCTURED, 400),
    (json.dumps(event(1, data={"user": 1, "item": "i"})).encode(), STRUCTURED, 400),
    (json.dumps(event(1)).encode(), JSON, 415),
    (json.dumps(event(1)).encode(), {"Content-Type": "text/plain"}, 415),
    (json.dumps(event(1)).encode(), {"Content-Type": STRUCTURED["Content-Type"] + "; charset=latin-1"}, 415),
    (b"x" * 10_000_000, BATCH, 413),
    (json.dumps([event(n) for n in range(11)]).encode(), BATCH, 400),
]


GZIPPED = gzip.compress(json.dumps(event(1)).encode())


@pytest.mark.parametrize("body", [b"no gzip at all", GZIPPED[:10] + b"\xff" * 20, GZIPPED[:-12], b""])
@pytest.mark.parametrize("path", ["/v1/events", "/v1/search"])
async def test_a_body_that_is_not_encoded_as_it_says_is_refused(path: str, body: bytes) -> None:
    """400, and its memory is given back."""
    async with GatewayParts() as gateway:
        headers = (STRUCTURED if path == "/v1/events" else JSON) | {"Content-Encoding": "gzip"}
        assert (await gateway.post(path, body, headers))[0] == 400
        assert gateway.core.admission.bytes == 0


async def test_an_id_in_a_header_that_is_no_text_is_refused() -> None:
    """Raw bytes where percent-encoded UTF-8 should be: 400, with no id, not a crash."""
    async with GatewayParts() as gateway:
        assert gateway.client.port is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.client.port)
        data = b'{"user":"u","item":"i"}'
        writer.write(
            b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"ce-specversion: 1.0\r\nce-id: \xff\xfe\r\nce-source: /s\r\nce-type: meridian.click.v1\r\n"
            b"ce-time: 2026-01-01T00:00:00Z\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data)
        )
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        (result,) = json.loads(answer.partition(b"\r\n\r\n")[2])["results"]
        assert (result["id"], result["problem"]["field"]) == (None, "ce-id")
        assert gateway.sink.records == {}


@pytest.mark.parametrize(("body", "headers", "status"), BAD_BODIES)
async def test_bad_input_is_refused_with_a_problem_and_the_next_request_is_served(
    body: bytes, headers: dict[str, str], status: int
) -> None:
    """A problem document with cause and next step; nothing is kept, nothing is held, the gateway goes on."""
    async with GatewayParts(batch_events_max=10) as gateway:
        found, answer_headers, problem = await gateway.post("/v1/events", body, headers)
        assert (found, problem["status"]) == (status, status)
        assert answer_headers["Content-Type"] == "application/problem+json"
        assert problem["detail"]
        assert problem["remedy"]
        assert gateway.sink.records == {}
        assert (gateway.core.admission.events, gateway.core.admission.bytes) == (0, 0)
        assert (await gateway.post("/v1/events", event(), STRUCTURED))[0] == 200


async def test_all_refused_is_400_with_a_result_each() -> None:
    """A problem document that carries the results."""
    async with GatewayParts() as gateway:
        batch = [event(1, type="x"), event(2, time="never"), {"id": "3"}, 17]
        status, _, body = await gateway.post("/v1/events", batch, BATCH)
        assert (status, body["status"]) == (400, 400)
        assert [result["id"] for result in body["results"]] == ["1", "2", "3", None]
        assert gateway.figure("meridian_gateway_events_total", outcome="refused") == 4


async def test_a_compressed_bomb_is_refused() -> None:
    """The bound is on what comes out of the compression."""
    async with GatewayParts(body_bytes_max=100_000, bytes_waiting_max=100_000) as gateway:
        bomb = gzip.compress(b"[" + b" " * 5_000_000 + b"]")
        status, _, _ = await gateway.post("/v1/events", bomb, {**BATCH, "Content-Encoding": "gzip"})
        assert status == 413
        fine = gzip.compress(json.dumps(event()).encode())
        assert (await gateway.post("/v1/events", fine, {**STRUCTURED, "Content-Encoding": "gzip"}))[0] == 200


async def test_what_the_log_does_not_acknowledge_is_unknown_and_503() -> None:
    """Retry-After, and the word that the same ids are to be sent again."""
    async with GatewayParts() as gateway:
        gateway.sink.fail = "Local: Message timed out"
        status, headers, body = await gateway.post("/v1/events", [event(1), event(2)], BATCH)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert [result["status"] for result in body["results"]] == ["unknown", "unknown"]
        assert "outcome unknown" in body["detail"]
        assert "same source, id and time" in body["remedy"]
        gateway.sink.fail = None
        assert (await gateway.post("/v1/events", event(), STRUCTURED))[0] == 200


async def test_half_acknowledged_is_207_with_retry_after() -> None:
    """What is kept is said to be kept; the rest is unknown."""
    async with GatewayParts(frame_events_target=1, frame_events_max=1) as gateway:
        gateway.sink.hold = True
        request = asyncio.create_task(
            gateway.post("/v1/events", [event(1), event(1, time="2020-01-01T00:00:00Z")], BATCH)
        )
        await wait_until_async(lambda: len(gateway.sink._held) == 2, what="two frames")
        done, offset = gateway.sink._held.popleft()
        done(None, offset)
        gateway.sink.release("gone")
        status, headers, body = await request
        assert (status, headers["Retry-After"]) == (207, "1")
        assert [result["status"] for result in body["results"]] == ["accepted", "unknown"]


async def test_a_full_sink_loses_nothing_in_silence() -> None:
    """What could not even be queued is said to be not kept."""
    async with GatewayParts() as gateway:
        gateway.sink.full = True
        status, headers, _ = await gateway.post("/v1/events", event(), STRUCTURED)
        assert (status, headers["Retry-After"]) == (503, "1")


async def test_over_the_bound_is_429_and_under_it_is_served_again() -> None:
    """While the log is slow, only so many events wait; the rest are told to come back, and nothing of them is kept."""
    async with GatewayParts(events_waiting_max=5, batch_events_max=5) as gateway:
        gateway.sink.hold = True
        first = asyncio.create_task(gateway.post("/v1/events", [event(n) for n in range(4)], BATCH))
        await wait_until_async(lambda: gateway.core.admission.events == 4, what="four events waiting")
        status, headers, problem = await gateway.post("/v1/events", [event(8), event(9)], BATCH)
        assert (status, headers["Retry-After"], problem["type"]) == (429, "1", "urn:meridian:problem:events-full")
        assert gateway.figure("meridian_gateway_refused_total", reason="events-full") == 1
        gateway.sink.release()
        assert (await first)[0] == 200
        assert gateway.core.admission.events == 0
        assert (await gateway.post("/v1/events", [event(8), event(9)], BATCH))[0] == 200
        assert len(gateway.sink.rows()) == 6


async def test_a_log_that_stalls_is_said_at_once() -> None:
    """Nothing new is taken while the oldest frame waits too long; afterwards everything goes on."""
    async with GatewayParts(stall_seconds=0.05) as gateway:
        gateway.sink.hold = True
        first = asyncio.create_task(gateway.post("/v1/events", event(1), STRUCTURED))
        await wait_until_async(lambda: gateway.core.log_blocker() is not None, what="the stall")
        status, headers, problem = await gateway.post("/v1/events", event(2), STRUCTURED)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "nothing of this request was kept" in problem["detail"]
        gateway.sink.release()
        assert (await first)[0] == 200
        assert (await gateway.post("/v1/events", event(2), STRUCTURED))[0] == 200


async def test_an_offset_that_was_acknowledged_before_stops_everything() -> None:
    """The log was cut: the event is not said to be kept, nothing more is taken, the cut is handed on."""
    async with GatewayParts() as gateway:
        for number in range(3):
            await gateway.post("/v1/events", event(1, id=str(number)), STRUCTURED)
        (partition,) = gateway.sink.records
        gateway.sink.next_offset[partition] = 1
        status, _, _ = await gateway.post("/v1/events", event(1), STRUCTURED)
        assert status == 503
        (cut,) = gateway.cuts
        assert (cut.acknowledged_end, cut.found) == (3, 1)
        kept = len(gateway.sink.rows())
        assert (await gateway.post("/v1/events", [event(n) for n in range(20)], BATCH))[0] == 503
        assert len(gateway.sink.rows()) == kept, "nothing more is written, to no partition"
        assert gateway.ends.take_changes() == {partition: 3}


async def test_what_is_given_up_is_unknown_and_a_late_report_changes_nothing() -> None:
    """When the Kafka client gives up for good, whoever waits learns it at once instead of never."""
    async with GatewayParts() as gateway:
        gateway.sink.hold = True
        request = asyncio.create_task(gateway.post("/v1/events", [event(1), event(2)], BATCH))
        await wait_until_async(lambda: gateway.core.admission.events == 2, what="two events waiting")
        gateway.log.abandon("the Kafka client gave up")
        status, _, body = await request
        assert (status, {result["status"] for result in body["results"]}) == (503, {"unknown"})
        gateway.sink.release()
        assert gateway.core.admission.events == 0
        assert (await gateway.post("/v1/events", event(1), STRUCTURED))[0] == 503


async def test_before_the_log_is_open_the_answer_is_503() -> None:
    """With the reason, and Retry-After."""
    async with GatewayParts(opened=False) as gateway:
        status, headers, problem = await gateway.post("/v1/events", event(), STRUCTURED)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "starting" in problem["detail"]
        async with gateway.client.get("/readyz?verbose") as response:
            assert response.status == 503
            assert "starting" in await response.text()


async def test_with_tokens_only_a_bearer_of_one_gets_in() -> None:
    """Probes stay open: the supervisor has no token."""
    token = "0123456789abcdef"
    async with GatewayParts(api_tokens=_secret(f"other-{token},{token}")) as gateway:
        for headers in (
            {},
            {"Authorization": token},
            {"Authorization": f"Basic {token}"},
            {"Authorization": f"Bearer {token}x"},
            {"Authorization": "Bearer ü"},
        ):
            status, _, _ = await gateway.post("/v1/events", event(), {**STRUCTURED, **headers})
            assert status == 401
        status, _, _ = await gateway.post("/v1/events", event(), {**STRUCTURED, "Authorization": f"bearer {token}"})
        assert status == 200
        for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
            async with gateway.client.get(path) as response:
                assert response.status == 200


async def test_closing_writes_what_is_open() -> None:
    """Events that wait behind a frame in flight are written when the gateway ends, and their senders are answered."""
    async with GatewayParts(frame_age_ms=60_000.0) as gateway:
        gateway.sink.hold = True
        requests = [asyncio.create_task(gateway.post("/v1/events", event(1, id=str(n)), STRUCTURED)) for n in range(3)]
        await wait_until_async(lambda: gateway.core.admission.events == 3, what="three events waiting")
        await gateway.log.close(0)
        answers = await asyncio.gather(*requests)
        assert [status for status, _, _ in answers] == [200] * 3
        assert len(gateway.sink.rows()) == 3


def _secret(text: str) -> Any:
    from services.common.settings import Secret

    return Secret(text)
