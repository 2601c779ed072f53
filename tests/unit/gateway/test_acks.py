"""Accepted where? The modes of acknowledgement, over a log in memory and peers that report over HTTP."""

import asyncio
from typing import Any

import aiohttp
import pytest

from services.gateway.client import HeldAnswer, HeldRequest, OriginPartition, report_held
from streams.logs import partition_of
from tests.support.gateway_parts import BATCH, JSON, LOG, PSEUDONYMS, STRUCTURED, TIME, GatewayParts, event
from tests.support.poll import wait_until_async

REMOTE = {"Meridian-Ack": "remote"}
EVERYTHING = dict.fromkeys(range(4), 1_000)
SEARCH = {"user": "u", "query": "q", "id": "s-1", "time": TIME}
Answer = tuple[int, dict[str, str], Any]


async def report(
    gateway: GatewayParts, held: dict[int, int], *, incarnation: str = "west-1", log: str = LOG
) -> HeldAnswer:
    """Report as a replicator does, with the client that it uses."""
    body = HeldRequest(region=incarnation.partition("-")[0], incarnation=incarnation, log=log, held=held)
    async with aiohttp.ClientSession() as session:
        return await report_held(session, str(gateway.client.make_url("")).rstrip("/"), body)


def publish(gateway: GatewayParts, *numbers: int, ack: str = "remote") -> asyncio.Task[Answer]:
    """Publish events in one batch, and do not wait for the answer."""
    headers = {**BATCH, "Meridian-Ack": ack}
    return asyncio.create_task(gateway.post("/v1/events", [event(number) for number in numbers], headers))


async def test_a_peer_learns_the_ends_and_what_it_lacks() -> None:
    """Acknowledged ends and events behind its watermark, by partition; what it holds already counts as nothing."""
    async with GatewayParts() as gateway:
        same = [event(n, data={"user": "u", "item": f"i-{n}"}) for n in range(3)]
        for sent in (same[:1], same[1:]):
            assert (await gateway.post("/v1/events", sent, BATCH))[0] == 200
        ((partition, _),) = gateway.sink.records.items()
        empty = OriginPartition(acknowledged_end=0, events_after_held=0)
        answer = await report(gateway, {})
        assert answer.incarnation == "east-1"
        lacking = {p: OriginPartition(acknowledged_end=2, events_after_held=3) for p in (partition,)}
        assert answer.partitions == {**dict.fromkeys(range(4), empty), **lacking}
        answer = await report(gateway, {partition: 1})
        assert answer.partitions[partition] == OriginPartition(acknowledged_end=2, events_after_held=2)
        assert (await report(gateway, EVERYTHING)).partitions[partition].events_after_held == 0


async def test_the_own_region_is_no_peer() -> None:
    """Its controller asks for the ends in the same way; what it says it holds protects nobody."""
    async with GatewayParts() as gateway:
        assert len((await report(gateway, EVERYTHING, incarnation="east-1")).partitions) == 4
        status, _, problem = await publish(gateway, 1)
        assert (status, problem["type"]) == (503, "urn:meridian:problem:no-peer")


async def test_of_a_log_that_this_life_does_not_write_nothing_is_said() -> None:
    """And a report about it covers nothing."""
    async with GatewayParts() as gateway:
        answer = await report(gateway, EVERYTHING, log="east-7.events")
        assert answer == HeldAnswer(incarnation="east-1", partitions={})
        assert (await publish(gateway, 1))[0] == 503


async def test_a_report_of_an_earlier_life_is_refused() -> None:
    """409: what a wiped region held, it holds no more."""
    async with GatewayParts() as gateway:
        await report(gateway, {}, incarnation="west-2")
        with pytest.raises(aiohttp.ClientResponseError) as caught:
            await report(gateway, EVERYTHING, incarnation="west-1")
        assert caught.value.status == 409


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"region":"west","incarnation":"east-1","log":"east-1.events","held":{}}',
        b'{"region":"west","incarnation":"west-x","log":"east-1.events","held":{}}',
        b'{"region":"west","incarnation":"west-1","log":"east-1.events","held":{"a":1}}',
    ],
)
async def test_a_report_that_says_nothing_sensible_is_refused(body: bytes) -> None:
    """400, and it counts for nothing."""
    async with GatewayParts() as gateway:
        assert (await gateway.post("/v1/replication/held", body, JSON))[0] == 400
        assert (await publish(gateway, 1))[0] == 503


async def test_before_the_log_is_open_a_peer_comes_back_later() -> None:
    """503: there are no ends to tell yet."""
    async with GatewayParts(opened=False) as gateway:
        with pytest.raises(aiohttp.ClientResponseError) as caught:
            await report(gateway, {})
        assert caught.value.status == 503


async def test_a_stalled_log_still_says_how_far_it_goes() -> None:
    """A broker that hangs is when a receipt may be needed next."""
    async with GatewayParts(stall_seconds=0.01) as gateway:
        gateway.sink.hold = True
        waiting = publish(gateway, 1, ack="local")
        await wait_until_async(lambda: gateway.core.log_blocker() is not None, what="the stall")
        assert (await report(gateway, {})).incarnation == "east-1"
        gateway.sink.release()
        assert (await waiting)[0] == 200


async def test_remote_is_answered_when_a_peer_holds_it() -> None:
    """Not before; and every result says so."""
    async with GatewayParts() as gateway:
        await report(gateway, {})
        waiting = publish(gateway, 1, 2, 3)
        await wait_until_async(lambda: len(gateway.sink.rows()) == 3, what="the events in the own log")
        partitions = sorted(gateway.sink.records)
        for partition in partitions:
            assert not waiting.done()
            await report(gateway, {partition: 9})
        status, _, body = await waiting
        assert status == 200
        assert [result["stored"] for result in body["results"]] == ["remote"] * 3


async def test_peers_are_asked_for_every_advance_only_while_somebody_waits() -> None:
    """A request that waited for another region is a sign that the next one will; otherwise reports are rare."""
    async with GatewayParts() as gateway:
        assert not (await report(gateway, {})).eager
        waiting = publish(gateway, 1)
        await wait_until_async(lambda: bool(gateway.sink.records), 5, "the event to be written")
        assert (await report(gateway, EVERYTHING)).eager
        assert (await waiting)[0] == 200
        assert (await report(gateway, EVERYTHING)).eager


async def test_remote_without_a_peer_is_refused_before_anything_is_written() -> None:
    """None that ever reported, and none that did so lately."""
    async with GatewayParts(peer_fresh_seconds=0.05) as gateway:
        for _ in range(2):
            status, headers, problem = await publish(gateway, 1)
            assert (status, headers["Retry-After"]) == (503, "1")
            assert problem["type"] == "urn:meridian:problem:no-peer"
            assert gateway.sink.records == {}
            await report(gateway, EVERYTHING)
            await wait_until_async(
                lambda: not gateway.core.acks.watermarks.fresh(gateway.core.acks.now()),  # type: ignore[union-attr]
                what="the report to grow old",
            )


async def test_remote_that_is_not_confirmed_in_time_says_where_the_event_lies() -> None:
    """504 with coordinates and `stored: local`: to be sent again with the same id."""
    async with GatewayParts(ack_timeout_ms=50) as gateway:
        await report(gateway, {})
        status, headers, body = await publish(gateway, 1)
        assert (status, headers["Retry-After"], body["stored"]) == (504, "1", "local")
        (result,) = body["results"]
        assert (result["status"], result["stored"], result["problem"]["status"]) == ("unknown", "local", 504)
        assert result["coordinates"]["log"] == LOG
        assert len(gateway.sink.rows()) == 1
        assert gateway.figure("meridian_gateway_events_total", outcome="unknown") == 1


async def test_of_a_batch_the_confirmed_events_are_accepted() -> None:
    """207: what a peer holds, and what only the own log does, and what was wrong, each for itself."""
    async with GatewayParts(ack_timeout_ms=100) as gateway:
        users = {gateway_partition(user): user for user in map(str, range(20))}
        (first, one), (_, other) = sorted(users.items())[:2]
        await report(gateway, {first: 9})
        sent = [event(n, data={"user": user, "item": "i"}) for n, user in enumerate((one, other))]
        status, headers, body = await gateway.post("/v1/events", [*sent, event(3, type="x")], {**BATCH, **REMOTE})
        assert (status, headers["Retry-After"]) == (207, "1")
        assert [result["status"] for result in body["results"]] == ["accepted", "unknown", "refused"]
        assert body["results"][0]["stored"] == "remote"
        assert body["results"][1]["stored"] == "local"


def gateway_partition(user: str) -> int:
    """Where a user's events lie."""
    return partition_of(PSEUDONYMS.user(user), 4)


async def test_the_setting_is_the_mode_of_who_says_nothing() -> None:
    """And a request may ask for less."""
    async with GatewayParts(ack="remote") as gateway:
        assert (await gateway.post("/v1/events", event(1), STRUCTURED))[0] == 503
        status, _, body = await gateway.post("/v1/events", event(1), {**STRUCTURED, "Meridian-Ack": "local"})
        assert (status, "stored" in body["results"][0]) == (200, False)


async def test_a_mode_that_does_not_exist_is_refused() -> None:
    """400, with those that do."""
    async with GatewayParts() as gateway:
        for path, body, headers in (("/v1/events", event(1), STRUCTURED), ("/v1/search", SEARCH, JSON)):
            status, _, problem = await gateway.post(path, body, {**headers, "Meridian-Ack": "twice"})
            assert (status, problem["field"]) == (400, "Meridian-Ack")
            assert "bounded" in problem["remedy"]
        assert gateway.sink.records == {}


async def test_bounded_refuses_while_the_best_peer_is_too_far_behind() -> None:
    """In events; within the budget it is as quick as local."""
    async with GatewayParts(ack="bounded", unreplicated_events_max=2) as gateway:
        assert (await publish(gateway, 1, 2, 3, ack="bounded"))[0] == 200
        status, headers, problem = await publish(gateway, 4, ack="bounded")
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "3 events behind" in problem["detail"]
        assert len(gateway.sink.rows()) == 3
        assert gateway.figure("meridian_gateway_unreplicated_events") == 3
        assert gateway.figure("meridian_gateway_peers") == 0
        await report(gateway, EVERYTHING)
        assert gateway.figure("meridian_gateway_unreplicated_events") == 0
        assert gateway.figure("meridian_gateway_peers") == 1
        assert (await publish(gateway, 4, ack="bounded"))[0] == 200


async def test_bounded_refuses_what_waits_too_long() -> None:
    """In seconds since the oldest event that no peer holds."""
    async with GatewayParts(ack="bounded", unreplicated_seconds_max=0.05) as gateway:
        assert (await publish(gateway, 1, ack="bounded"))[0] == 200
        await wait_until_async(lambda: refused(gateway), what="a refusal")
        assert len(gateway.sink.rows()) >= 1


async def refused(gateway: GatewayParts) -> bool:
    """Whether an event is refused because the peers are behind."""
    status, _, problem = await publish(gateway, 2, ack="bounded")
    return status == 503 and problem["type"].endswith("replication-behind")


async def test_a_search_can_wait_for_a_peer_as_well() -> None:
    """Its event is acknowledged with the answer; without confirmation there is none, and it says what is kept."""
    async with GatewayParts() as gateway:
        gateway.sink.on_ask = gateway.answer
        assert (await gateway.post("/v1/search", SEARCH, {**JSON, **REMOTE}))[0] == 503
        assert gateway.sink.records == {}
        await report(gateway, {})
        status, _, problem = await gateway.post("/v1/search", {**SEARCH, "deadline_ms": 100}, {**JSON, **REMOTE})
        assert (status, problem["stored"], problem["coordinates"]["offset"]) == (504, "local", 0)
        await report(gateway, EVERYTHING)
        assert (await gateway.post("/v1/search", SEARCH, {**JSON, **REMOTE}))[0] == 200
        assert (await gateway.post("/v1/similar", {"item": "i"}, {**JSON, **REMOTE}))[0] == 200
