"""Publishing: one outcome for each event, the same event on every try, nothing forgotten, nothing endless."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.client import (
    Accepted,
    Click,
    ClientClosed,
    ClientSettings,
    Event,
    IdReused,
    Item,
    MeridianClient,
    OutboxFull,
    Refused,
    RequestRefused,
    Unknown,
)
from tests.support.fake_gateway import Behaviour, FakeGateway, problem
from tests.support.manual_clock import SkippingClock
from tests.support.poll import wait_until_async

CLICK = Click(user="ann", item="item-1", query="usb")


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    """A gateway that behaves until a test's script says otherwise."""
    async with FakeGateway() as running:
        yield running


def client_of(*gateways: FakeGateway, clock: SkippingClock | None = None, **settings: float) -> MeridianClient:
    """A client of these gateways whose waiting takes no time."""
    return MeridianClient(
        [gateway.url for gateway in gateways],
        source="/apps/test",
        settings=ClientSettings(**settings),  # type: ignore[arg-type]
        clock=clock or SkippingClock(),
    )


async def test_every_event_gets_its_coordinates(gateway: FakeGateway) -> None:
    """Accepted events come back in the order they were given, each with where it lies."""
    async with client_of(gateway) as client:
        outcomes = await client.publish([CLICK, Item(item="item-1", title="A cable")])
    assert [type(outcome) for outcome in outcomes] == [Accepted, Accepted]
    assert [outcome.coordinates.offset for outcome in outcomes if isinstance(outcome, Accepted)] == [0, 1]
    assert client.unacknowledged == 0
    sent = gateway.bodies("/v1/events")[0]
    assert sent[0] == {
        "specversion": "1.0",
        "id": "id-1",
        "source": "/apps/test",
        "type": "meridian.click.v1",
        "time": "2023-11-14T22:13:20.000Z",
        "datacontenttype": "application/json",
        "data": {"user": "ann", "item": "item-1", "query": "usb"},
    }


async def test_events_are_split_by_count_and_by_bytes(gateway: FakeGateway) -> None:
    """A batch holds no more events, and no more bytes, than the settings say."""
    async with client_of(gateway, batch_events_max=3, batch_bytes_max=600) as client:
        await client.publish([CLICK] * 7)
        await client.publish([Click(user="ann", item="x" * 500)] * 2)
    sizes = [len(body) for body in gateway.bodies("/v1/events")]
    assert sizes == [2, 2, 2, 1, 1, 1]
    assert len(set(gateway.identities())) == 9


async def test_a_mixed_answer_is_settled_event_by_event(gateway: FakeGateway) -> None:
    """A 207 refuses one event for good and leaves another unknown: only the unknown one is sent again."""
    gateway.script.append(Behaviour(refuse_ids=frozenset({"id-2"}), unknown_ids=frozenset({"id-3"})))
    async with client_of(gateway) as client:
        outcomes = await client.publish([CLICK, CLICK, CLICK])
    assert [type(outcome) for outcome in outcomes] == [Accepted, Refused, Accepted]
    assert isinstance(outcomes[1], Refused) and outcomes[1].problem.detail == "no such kind"
    assert [[event["id"] for event in body] for body in gateway.bodies("/v1/events")] == [
        ["id-1", "id-2", "id-3"],
        ["id-3"],
    ]


async def test_a_retry_sends_the_same_event(gateway: FakeGateway) -> None:
    """After a 503 the very same id, time and content go out again, though the clock has moved on."""
    gateway.script.append(Behaviour(status=503, headers={"Retry-After": "7"}))
    clock = SkippingClock()
    async with client_of(gateway, clock=clock) as client:
        await client.publish([CLICK])
    first, second = gateway.bodies("/v1/events")
    assert first == second
    assert clock.slept_seconds and clock.slept_seconds[0] >= 7


async def test_an_answer_lost_after_the_events_were_kept_is_asked_again(gateway: FakeGateway) -> None:
    """The log then holds two copies with one identity, which the fold counts once."""
    gateway.script.append(Behaviour(keep_then_drop=True))
    async with client_of(gateway) as client:
        (outcome,) = await client.publish([CLICK])
    assert isinstance(outcome, Accepted)
    assert len(gateway.log) == 2 and len(set(gateway.identities())) == 1


async def test_busy_waits_as_long_as_it_was_asked_to(gateway: FakeGateway) -> None:
    """429 honours Retry-After, adds jitter on top, and keeps to the same gateway."""
    gateway.script.extend([Behaviour(status=429, headers={"Retry-After": "2"}, body=problem(429, "full"))] * 2)
    clock = SkippingClock(chance=0.5)
    async with client_of(gateway, clock=clock) as client:
        await client.publish([CLICK])
    assert clock.slept_seconds == [2.025, 2.05]


async def test_back_off_grows_and_is_bounded_by_the_deadline(gateway: FakeGateway) -> None:
    """Without Retry-After the waits double; when time is over the outcome is unknown and the event kept."""
    gateway.script.extend([Behaviour(status=503)] * 100)
    clock = SkippingClock(chance=1.0)
    async with client_of(gateway, clock=clock) as client:
        (outcome,) = await client.publish([CLICK], timeout_seconds=1.0)
        assert isinstance(outcome, Unknown) and "503" in outcome.reason
        assert clock.slept_seconds == [0.05, 0.1, 0.2, 0.4]
        assert client.unacknowledged == 1
        gateway.script.clear()
        (flushed,) = await client.flush()
        assert isinstance(flushed, Accepted) and flushed.id == outcome.id
        assert client.unacknowledged == 0
    assert len({(body[0]["id"], body[0]["time"]) for body in gateway.bodies("/v1/events")}) == 1


async def test_a_hanging_gateway_is_left_for_the_next(gateway: FakeGateway) -> None:
    """A try that takes too long is repeated at another gateway."""
    async with FakeGateway() as hanging:
        hanging.script.append(Behaviour(hang=True))
        async with client_of(hanging, gateway, publish_try_timeout_seconds=0.1) as client:
            (outcome,) = await client.publish([CLICK])
        assert isinstance(outcome, Accepted)
        assert len(hanging.requests) == 1 and len(gateway.requests) == 1


@pytest.mark.parametrize("fault", [Behaviour(drop_connection=True), Behaviour(status=503)])
async def test_the_next_gateway_is_asked_at_once(gateway: FakeGateway, fault: Behaviour) -> None:
    """A broken connection or a 503 moves on without waiting, and stays with the gateway that works."""
    clock = SkippingClock()
    async with FakeGateway() as broken:
        broken.script.extend([fault] * 9)
        async with client_of(broken, gateway, clock=clock) as client:
            await client.publish([CLICK])
            await client.publish([CLICK])
        assert len(broken.requests) == 1 and len(gateway.requests) == 2
    assert all(slept == 0 for slept in clock.slept_seconds)


async def test_connection_refused_is_unknown_not_an_exception() -> None:
    """When no gateway listens at all, every event is kept and reported as unknown."""
    async with FakeGateway() as gone:
        url = gone.url
    async with MeridianClient(url, source="/apps/test", clock=SkippingClock()) as client:
        (outcome,) = await client.publish([CLICK], timeout_seconds=0.5)
        assert isinstance(outcome, Unknown) and "cannot be reached" in outcome.reason
        assert client.unacknowledged == 1


async def test_a_problem_without_results_is_read_as_a_problem(gateway: FakeGateway) -> None:
    """A refusal of everything may come with an empty list of results: its reason is not lost."""
    body = b'{"title": "log unreachable", "status": 503, "results": []}'
    gateway.script.extend([Behaviour(status=503, body=body)] * 9)
    async with client_of(gateway) as client:
        (outcome,) = await client.publish([CLICK], timeout_seconds=0.05)
    assert isinstance(outcome, Unknown) and "log unreachable" in outcome.reason


@pytest.mark.parametrize(
    "garbage",
    [
        b"<html>welcome</html>",
        b'{"results":[]}',
        b'{"results":[{"id":"somebody else","status":"accepted"}]}',
        b'{"results":[{"id":"id-1","status":"accepted"}]}',
        b'{"results":[{"id":"id-1","status":"refused"}]}',
        b'{"results":[{"id":"id-1","status":"hooray"}]}',
    ],
)
async def test_nonsense_is_never_taken_for_success(gateway: FakeGateway, garbage: bytes) -> None:
    """An answer that does not say what it must is tried again, and the event stays until one does."""
    gateway.script.extend([Behaviour(status=200, body=garbage)] * 50)
    async with client_of(gateway) as client:
        (outcome,) = await client.publish([CLICK], timeout_seconds=0.3)
        assert isinstance(outcome, Unknown)
        assert client.unacknowledged == 1


async def test_a_redirect_is_followed_once(gateway: FakeGateway) -> None:
    """A passive gateway's 307 leads to the active one; a second 307 is no answer."""
    async with FakeGateway() as passive:
        passive.script.append(Behaviour(status=307, headers={"Location": f"{gateway.url}/v1/events"}))
        async with client_of(passive) as client:
            (outcome,) = await client.publish([CLICK])
        assert isinstance(outcome, Accepted) and len(gateway.log) == 1 and not passive.log
        loop = Behaviour(status=307, headers={"Location": f"{passive.url}/v1/events"})
        passive.script.extend([loop] * 60)
        async with client_of(passive) as client:
            (outcome,) = await client.publish([CLICK], timeout_seconds=0.2)
        assert isinstance(outcome, Unknown) and "passed the request on" in outcome.reason


async def test_a_request_refused_as_a_whole_refuses_its_events(gateway: FakeGateway) -> None:
    """A 413 says that these bytes will never be taken: the events are settled and leave the outbox."""
    gateway.script.append(Behaviour(status=413, body=problem(413, "too large", detail="1 MB at most")))
    async with client_of(gateway) as client:
        (outcome,) = await client.publish([CLICK])
        assert isinstance(outcome, Refused) and "too large" in outcome.problem.sentence()
        assert client.unacknowledged == 0


async def test_a_wrong_token_keeps_the_events(gateway: FakeGateway) -> None:
    """A 401 says nothing about the events, so the caller hears about it and nothing is thrown away."""
    gateway.script.append(Behaviour(status=401, body=problem(401, "unknown token")))
    async with MeridianClient(gateway.url, source="/a", token="secret", clock=SkippingClock()) as client:
        with pytest.raises(RequestRefused, match="unknown token"):
            await client.publish([CLICK])
        assert client.unacknowledged == 1
        await client.flush()
        assert client.unacknowledged == 0
    assert gateway.requests[0][2]["Authorization"] == "Bearer secret"


async def test_a_full_outbox_takes_nothing_of_the_call(gateway: FakeGateway) -> None:
    """The bound is back-pressure: the error says what to do, and what was there before stays."""
    gateway.script.extend([Behaviour(status=503)] * 50)
    async with client_of(gateway, outbox_events_max=3) as client:
        await client.publish([CLICK, CLICK], timeout_seconds=0.1)
        with pytest.raises(OutboxFull, match="flush"):
            await client.publish([CLICK, CLICK], timeout_seconds=0.1)
        assert client.unacknowledged == 2


async def test_an_id_cannot_mean_two_events(gateway: FakeGateway) -> None:
    """The same event twice in one call is one event; another one under its id is an error."""
    event = Event(body=CLICK, id="order-7", time_ms=1, source="/apps/test")
    other = Event(body=CLICK, id="order-7", time_ms=2, source="/apps/test")
    async with client_of(gateway) as client:
        outcomes = await client.publish([event, event])
        assert len(gateway.log) == 1 and outcomes[0] == outcomes[1]
        with pytest.raises(IdReused, match="order-7"):
            await client.publish([event, other])


async def test_a_cancelled_publish_leaves_its_events_for_flush(gateway: FakeGateway) -> None:
    """Giving up the call does not give up the events."""
    gateway.script.append(Behaviour(hang=True))
    async with client_of(gateway) as client:
        call = asyncio.create_task(client.publish([CLICK]))
        await wait_until_async(lambda: gateway.requests, what="the request")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert client.unacknowledged == 1
        outcomes = await client.flush()
        assert [type(outcome) for outcome in outcomes] == [Accepted]


async def test_flush_waits_for_what_others_are_sending(gateway: FakeGateway) -> None:
    """Flush does not send an event that is in flight already; it waits for that try."""
    gateway.script.append(Behaviour(hang=True))
    async with client_of(gateway) as client:
        call = asyncio.create_task(client.publish([CLICK]))
        await wait_until_async(lambda: gateway.requests, what="the request")
        flushing = asyncio.create_task(client.flush())
        await asyncio.sleep(0)
        assert not flushing.done() and len(gateway.requests) == 1
        gateway.released.set()
        await flushing
        assert isinstance((await call)[0], Accepted)
        assert client.unacknowledged == 0


async def test_a_closed_client_says_so(gateway: FakeGateway) -> None:
    """Use before or after `async with` names the mistake."""
    client = client_of(gateway)
    with pytest.raises(ClientClosed, match="async with"):
        await client.publish([CLICK])
    with pytest.raises(ClientClosed, match="async with"):
        await client.search("ann", "usb")
