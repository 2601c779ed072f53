"""Asking for rankings: a time-out of the caller's own, one event for all tries, reading one's own writes."""

from collections.abc import AsyncIterator

import pytest

from services.client import (
    AnswerTooLate,
    BadAnswer,
    Busy,
    Click,
    ClientSettings,
    Coordinates,
    GatewayUnavailable,
    MeridianClient,
    RequestRefused,
)
from tests.support.fake_gateway import Behaviour, FakeGateway, problem
from tests.support.manual_clock import SkippingClock


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    """A gateway that behaves until a test's script says otherwise."""
    async with FakeGateway() as running:
        yield running


def client_of(*gateways: FakeGateway, clock: SkippingClock | None = None, **settings: int) -> MeridianClient:
    """A client of these gateways whose waiting takes no time."""
    return MeridianClient(
        [gateway.url for gateway in gateways],
        source="/apps/test",
        settings=ClientSettings(**settings),
        clock=clock or SkippingClock(),
    )


async def test_a_search_carries_what_was_asked_and_nothing_else(gateway: FakeGateway) -> None:
    """Arguments that were left out stay out, so the gateway's defaults hold."""
    async with client_of(gateway) as client:
        ranking = await client.search("ann", "usb", size=5, filter={"category": "cables"}, at_ms=86_400_123)
    assert ranking.items == ("item-1", "item-2") and ranking.rung == "model" and ranking.epoch == (0, 1)
    (asked,) = gateway.bodies("/v1/search")
    assert asked.pop("deadline_ms") in range(940, 951)
    assert asked == {
        "user": "ann",
        "query": "usb",
        "id": "id-1",
        "source": "/apps/test",
        "time": "1970-01-02T00:00:00.123Z",
        "at": "1970-01-02T00:00:00.123Z",
        "size": 5,
        "filter": {"category": "cables"},
    }


async def test_recommendations_and_similar_ask_their_own_paths(gateway: FakeGateway) -> None:
    """They write no event, so they carry no id."""
    async with client_of(gateway) as client:
        await client.recommendations("ann", exclude=["item-9"], in_stock=True, session="s1")
        await client.similar("item-1", user="ann", context={"page": "basket"})
    (home,) = gateway.bodies("/v1/recommendations")
    (like,) = gateway.bodies("/v1/similar")
    assert {key: home[key] for key in home if key != "deadline_ms"} == {
        "user": "ann",
        "size": 10,
        "exclude": ["item-9"],
        "in_stock": True,
        "session": "s1",
    }
    assert like["item"] == "item-1" and like["user"] == "ann" and like["context"] == {"page": "basket"}
    assert not gateway.log


async def test_the_next_search_waits_for_the_users_own_click(gateway: FakeGateway) -> None:
    """`after` is the newest acknowledged coordinate of this user, unless the caller says otherwise."""
    async with client_of(gateway) as client:
        await client.publish([Click(user="bob", item="item-1"), Click(user="ann", item="item-1")])
        await client.publish([Click(user="ann", item="item-2")])
        await client.search("ann", "usb")
        await client.search("ann", "usb", after=())
        await client.search("ann", "usb", after=[Coordinates("east-1.events", 3, 9, 1)])
        await client.search("carol", "usb")
        newest = client.read_token("ann")
    own, none, given, stranger = gateway.bodies("/v1/search")
    assert own["after"] == [{"log": "east-1.events", "partition": 0, "offset": 2, "index": 0}]
    assert "after" not in none and "after" not in stranger
    assert given["after"] == [{"log": "east-1.events", "partition": 3, "offset": 9, "index": 1}]
    assert newest[0].offset == 5  # the search itself is the newest event now


async def test_a_search_is_tried_again_with_its_id_and_time(gateway: FakeGateway) -> None:
    """One search event, however often it took to get an answer."""
    gateway.script.append(Behaviour(status=503, headers={"Retry-After": "0.2"}))
    clock = SkippingClock()
    async with client_of(gateway, clock=clock) as client:
        await client.search("ann", "usb")
    first, second = gateway.bodies("/v1/search")
    assert (first["id"], first["time"]) == (second["id"], second["time"])
    assert second["deadline_ms"] < first["deadline_ms"] - 200


async def test_no_try_starts_after_the_callers_time_out(gateway: FakeGateway) -> None:
    """A Retry-After beyond the time-out is an error at once, and says when to come back."""
    gateway.script.append(Behaviour(status=503, headers={"Retry-After": "5"}, body=problem(503, "no processor")))
    async with client_of(gateway) as client:
        with pytest.raises(GatewayUnavailable, match="no processor") as caught:
            await client.search("ann", "usb", timeout_ms=500)
    assert caught.value.retry_after_seconds == 5
    assert len(gateway.requests) == 1


async def test_a_hanging_gateway_costs_no_more_than_the_time_out(gateway: FakeGateway) -> None:
    """The caller hears within its own time-out."""
    gateway.script.append(Behaviour(hang=True))
    async with client_of(gateway) as client:
        with pytest.raises(AnswerTooLate, match="within"):
            await client.search("ann", "usb", timeout_ms=80)


async def test_an_answer_read_too_late_is_thrown_away() -> None:
    """When the process stood still while the answer lay in the socket, the answer is not shown."""
    clock = SkippingClock()

    def stall(request: object) -> list[str]:
        clock.skip(5.0)  # as a stopped process would see it: time passed, no timer fired
        return ["item-1"]

    async with FakeGateway(rank=stall) as gateway, client_of(gateway, clock=clock) as client:
        with pytest.raises(AnswerTooLate, match="thrown away"):
            await client.search("ann", "usb", timeout_ms=1000)


async def test_errors_say_what_to_do(gateway: FakeGateway) -> None:
    """400 is the caller's, 429 asks for patience, nonsense is a bug."""
    gateway.script.extend(
        [
            Behaviour(status=400, body=problem(400, "size must be at most 100")),
            Behaviour(status=429, headers={"Retry-After": "9"}, body=problem(429, "full")),
            Behaviour(status=200, body=b'{"items": 7}'),
            Behaviour(status=418, body=b"\xff teapot"),
        ]
    )
    async with client_of(gateway) as client:
        with pytest.raises(RequestRefused, match="size must be"):
            await client.search("ann", "usb", size=1000)
        with pytest.raises(Busy) as busy:
            await client.search("ann", "usb")
        with pytest.raises(BadAnswer, match="no ranking"):
            await client.search("ann", "usb")
        with pytest.raises(RequestRefused, match="418"):
            await client.search("ann", "usb")
    assert busy.value.retry_after_seconds == 9


@pytest.mark.parametrize("header", ["soon", "Sun, 06 Nov 1994 08:49:37 GMT"])
async def test_a_useless_retry_after_does_no_harm(gateway: FakeGateway, header: str) -> None:
    """A date in the past and a word both lead to an ordinary retry."""
    gateway.script.append(Behaviour(status=503, headers={"Retry-After": header}))
    async with client_of(gateway) as client:
        assert (await client.search("ann", "usb")).items
