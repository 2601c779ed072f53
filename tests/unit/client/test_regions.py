"""Several regions: who is asked, what is believed, and what is published again after a loss."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.client import (
    Accepted,
    AnswerTooLate,
    BadReceipt,
    Click,
    ClientSettings,
    Coordinates,
    GatewayUnavailable,
    MeridianClient,
    StaleAnswer,
    Unknown,
)
from services.client.gateways import GATEWAYS_MAX, Gateways
from services.client.receipts import decode_receipt
from services.receipts import Range, Receipt
from services.receipts.matching import effect_on
from tests.support.fake_gateway import Behaviour, FakeGateway, problem
from tests.support.manual_clock import SkippingClock
from tests.support.poll import wait_until_async

CLICK = Click(user="ann", item="item-1")


@pytest.fixture
async def east() -> AsyncIterator[FakeGateway]:
    """The gateway that the client asks first."""
    async with FakeGateway() as running:
        yield running


@pytest.fixture
async def west() -> AsyncIterator[FakeGateway]:
    """The other region's."""
    async with FakeGateway(log="west-1.events") as running:
        yield running


def client_of(*gateways: FakeGateway, clock: SkippingClock | None = None, **settings: float) -> MeridianClient:
    """A client of these gateways whose waiting takes no time."""
    return MeridianClient(
        [gateway.url for gateway in gateways],
        source="/apps/test",
        settings=ClientSettings(**settings),  # type: ignore[arg-type]
        clock=clock or SkippingClock(),
    )


def passive(active: FakeGateway) -> Behaviour:
    """How a gateway answers whose region is not the active one."""
    return Behaviour(status=307, headers={"Location": f"{active.url}/v1/search?hop=1"})


def unavailable(retry_after: str = "0.25") -> Behaviour:
    """How a gateway answers that knows of no active region."""
    return Behaviour(status=503, headers={"Retry-After": retry_after}, body=problem(503, "not active"))


async def test_an_answer_from_before_a_takeover_is_refused(east: FakeGateway, west: FakeGateway) -> None:
    """West was seen acting under a larger epoch: what east still says is thrown away, counted, and asked elsewhere."""
    west.epoch = [0, 9]
    async with client_of(east, west) as client:
        assert (await client.search("ann", "usb")).epoch == (0, 1)
        east.script.append(unavailable())
        assert (await client.search("ann", "usb")).epoch == (0, 9)
        west.script.append(unavailable())
        assert (await client.search("ann", "usb")).epoch == (0, 9)
        assert client.stale_answers == 1 and client.largest_epoch == (0, 9)
    assert len(east.bodies("/v1/search")) == 3 and len(west.bodies("/v1/search")) == 3


async def test_a_stale_answer_is_never_the_last_resort(east: FakeGateway) -> None:
    """With nobody else to ask, no answer is better than a stale one."""
    async with client_of(east) as client:
        east.epoch = [1, 3]
        await client.search("ann", "usb")
        for smaller in ([0, 9], [1, 2]):
            east.epoch = smaller
            with pytest.raises(StaleAnswer, match="thrown away"):
                await client.search("ann", "usb", timeout_ms=200)
        east.epoch = [1, 3]
        assert (await client.search("ann", "usb")).items


async def test_the_gateway_that_was_passed_on_to_is_asked_directly_from_then_on(
    east: FakeGateway, west: FakeGateway
) -> None:
    """One hop for the first answer, none for the next, although the app never named west."""
    east.script.append(passive(west))
    async with client_of(east) as client:
        await client.search("ann", "usb")
        await client.search("ann", "usb")
        assert client.gateways == (east.url, west.url)
    assert len(east.requests) == 1 and len(west.requests) == 2


async def test_a_move_within_the_callers_time(east: FakeGateway, west: FakeGateway) -> None:
    """The active region dies, the other is not active yet, then it is: one call, one search event."""
    clock = SkippingClock()
    west.script.extend([unavailable(), unavailable(), unavailable()])
    async with FakeGateway() as dying, client_of(dying, west, clock=clock) as client:
        await dying._server.close()
        ranking = await client.search("ann", "usb", timeout_ms=5_000)
        await client.publish([CLICK])
    assert ranking.items
    searches = west.bodies("/v1/search")
    assert len({(asked["id"], asked["time"]) for asked in searches}) == 1 and len(searches) == 4
    assert all(slept <= 0.375 for slept in clock.slept_seconds)


async def test_a_silent_gateway_does_not_cost_a_time_out_in_every_round(east: FakeGateway, west: FakeGateway) -> None:
    """East swallows everything; while west takes over, soon only west is asked."""
    east.script.extend([Behaviour(hang=True)] * 9)
    west.script.extend([unavailable()] * 4)
    async with client_of(east, west, clock=SkippingClock(), ranking_try_timeout_ms=120) as client:
        assert (await client.search("ann", "usb", timeout_ms=3_000)).items
    assert len(east.requests) == 2 and len(west.requests) == 5


async def test_one_slow_answer_drives_nobody_away(east: FakeGateway, west: FakeGateway) -> None:
    """West passes the request on to east again, the only region that may answer, and that is followed."""
    east.script.append(Behaviour(hang=True))
    west.script.append(passive(east))
    async with client_of(east, west, clock=SkippingClock(), ranking_try_timeout_ms=120) as client:
        assert (await client.search("ann", "usb")).items
        assert (await client.search("ann", "usb")).items
    assert len(east.requests) == 3 and len(west.requests) == 1


async def test_a_gateway_without_time_is_not_to_blame(east: FakeGateway, west: FakeGateway) -> None:
    """The caller has 40 ms left: that says nothing about east, which stays in use."""
    east.script.extend([Behaviour(hang=True)] * 2)
    async with client_of(east, west) as client:
        for _ in range(2):
            with pytest.raises(AnswerTooLate):
                await client.search("ann", "usb", timeout_ms=40)
        assert (await client.search("ann", "usb")).items
    assert len(east.requests) == 3 and not west.requests


async def test_nobody_is_asked_after_the_callers_time(east: FakeGateway) -> None:
    """A wait that took longer than it should, as in a process that was stopped, ends the call with the last reason."""

    class Oversleeping(SkippingClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds + 5)

    east.script.append(unavailable())
    async with client_of(east, clock=Oversleeping()) as client:
        with pytest.raises(GatewayUnavailable, match="not active"):
            await client.search("ann", "usb")
    assert len(east.requests) == 1


async def test_with_one_gateway_a_try_may_take_all_the_time(east: FakeGateway) -> None:
    """There is nobody else to ask: cutting the wait short would only lose the answer."""
    east.script.append(Behaviour(hang=True))
    async with client_of(east, ranking_try_timeout_ms=1, ranking_timeout_ms=120) as client:
        with pytest.raises(AnswerTooLate, match=r"within 1[12]\d ms"):
            await client.search("ann", "usb")
    assert len(east.requests) == 1


async def test_gateways_are_learnt_from_any_of_them(east: FakeGateway, west: FakeGateway) -> None:
    """And the largest epoch with them, so that the first answer may be stale already."""
    east.regions = {
        "region": "east",
        "active": "west",
        "epoch": [0, 9],
        "view_age_ms": 10,
        "regions": [
            {"region": "east", "gateways": [east.url], "active": False},
            {"region": "west", "gateways": [west.url, "nonsense"], "active": True},
        ],
    }
    west.epoch = [0, 9]
    async with client_of(east) as client:
        await client.publish([CLICK])
        await wait_until_async(lambda: client.gateways == (east.url, west.url), what="west to be learnt")
        assert (await client.search("ann", "usb")).region and client.stale_answers == 1


async def test_an_old_gateway_that_does_not_know_the_question_changes_nothing(east: FakeGateway) -> None:
    """404, or something else under that name."""
    async with client_of(east, discovery_interval_seconds=0.001) as client:
        for answer in (None, {"regions": 7}):
            east.regions = answer
            await client.publish([CLICK])
        await asyncio.sleep(0)
        assert client.gateways == (east.url,) and client.largest_epoch is None


def test_the_list_of_gateways_is_bounded_and_keeps_what_the_app_named() -> None:
    """Whatever a gateway says, those of the app stay, and the one in use too."""
    gateways = Gateways(["http://a", "http://b"], SkippingClock())
    gateways.use("http://active")
    gateways.learn(f"http://g{number}" for number in range(100))
    assert len(gateways) == GATEWAYS_MAX and {"http://a", "http://b", "http://active"} < set(gateways.urls)
    gateways.learn([])
    assert gateways.urls == ("http://a", "http://b", "http://active") and gateways.current == "http://active"


def test_suspicion_grows_and_ends() -> None:
    """Half a second at first, five at most; one answer clears it; with nobody else, suspects are asked."""
    clock = SkippingClock()
    gateways = Gateways(["http://a", "http://b"], clock)
    gateways.fail("http://a")
    assert gateways.pick(()) == "http://b" and gateways.pick(["http://b"]) is None
    clock.skip(0.6)
    assert gateways.pick(["http://b"]) == "http://a"
    for _ in range(9):
        gateways.fail("http://a")
    clock.skip(4.5)
    assert gateways.is_suspect("http://a")
    clock.skip(0.6)
    assert not gateways.is_suspect("http://a")
    gateways.fail("http://a")
    gateways.fail("http://b")
    assert {gateways.pick(()), gateways.pick(["http://a"])} == {"http://a", "http://b"}
    gateways.reached("http://a")
    assert not gateways.is_suspect("http://a")


async def test_events_go_elsewhere_at_once_when_a_region_takes_none(east: FakeGateway, west: FakeGateway) -> None:
    """503 with a Retry-After is about that region; 429 is waited for, as the flood would only be carried on."""
    clock = SkippingClock()
    east.script.append(unavailable("5"))
    async with client_of(east, west, clock=clock) as client:
        (outcome,) = await client.publish([CLICK])
        assert isinstance(outcome, Accepted) and outcome.coordinates.log == "west-1.events"
        assert clock.slept_seconds == [0]
        west.script.append(Behaviour(status=429, headers={"Retry-After": "2"}, body=problem(429, "full")))
        await client.publish([CLICK])
    assert 2 <= clock.slept_seconds[1] <= 3 and len(east.requests) == 1


async def test_the_wish_for_an_acknowledgement_goes_with_every_try(east: FakeGateway) -> None:
    """Also when a flush sends it, and apart from events with another wish."""
    east.script.extend([Behaviour(status=503)] * 50)
    async with client_of(east, clock=SkippingClock()) as client:
        (outcome,) = await client.publish([CLICK], ack="remote", timeout_seconds=0.2)
        assert isinstance(outcome, Unknown)
        await client.publish([CLICK], timeout_seconds=0.2)
        east.script.clear()
        east.requests.clear()
        await client.flush()
        await client.search("ann", "usb", ack="bounded")
    sent = [(headers.get("Meridian-Ack"), body) for _, body, headers in east.requests]
    assert sorted((ack or "", len(body)) for ack, body in sent[:2]) == [("", 1), ("remote", 1)]
    assert sent[2][0] == "bounded"


async def test_what_is_stored_here_only_is_said(east: FakeGateway) -> None:
    """504 with coordinates: kept in one region, not confirmed by another, still in the outbox."""
    where = {"log": "east-1.events", "partition": 3, "offset": 9, "index": 0}
    result = {"status": "unknown", "id": "id-1", "stored": "local", "coordinates": where}
    body = msgspec.json.encode({"results": [{**result, "problem": {"status": 504, "title": "not remote"}}]})
    east.script.extend([Behaviour(status=504, body=body)] * 50)
    async with client_of(east, clock=SkippingClock()) as client:
        (outcome,) = await client.publish([CLICK], ack="remote", timeout_seconds=0.5)
        assert outcome == Unknown(id="id-1", reason="504 not remote", coordinates=Coordinates("east-1.events", 3, 9))
        assert client.unacknowledged == 1
        east.script.clear()
        assert isinstance((await client.flush())[0], Accepted) and client.unacknowledged == 0


def lost(start: int, end: int, known_end: int, **changes: object) -> Receipt:
    """East is gone with the offsets `[start, end)` of partition 0."""
    missing = Range(log="east-1.events", partition=0, start=start, end=end, events=end - start)
    found = Receipt(
        receipt_id="east-1-0-7",
        kind="failover",
        region="east",
        incarnation="east-1",
        was_active=True,
        issued_by="west",
        epoch=(0, 7),
        created_ms=5_000,
        reason="the lease ran out",
        survivors=["west"],
        last_contact_ms=4_000,
        ranges=[missing],
        remaining=[missing],
        state="open",
        known_ends={"east-1.events": {0: known_end}},
    )
    return msgspec.structs.replace(found, **changes)


async def test_exactly_the_lost_events_are_published_again(east: FakeGateway, west: FakeGateway) -> None:
    """Same ids and times, the search among them; those after the last contact on request or once they are lost."""
    async with client_of(east, west) as client:
        await client.publish([Click(user="ann", item=f"item-{n}") for n in range(5)])
        await client.search("ann", "usb", session="s1")  # offset 5
        await client.publish([CLICK])  # offset 6
        kept = {event["id"]: event for event in east.log}
        east.script.append(unavailable())
        await client.publish([CLICK])  # west has this one
        open_receipt = lost(4, 6, 6)
        outcomes = await client.republish(msgspec.json.encode(open_receipt))
        assert all(isinstance(found, Accepted) and found.coordinates.log == "west-1.events" for found in outcomes)
        again = west.log[1:]
        assert [event["id"] for event in again] == [east.log[4]["id"], east.log[5]["id"]]
        assert [(event["time"], event["type"]) for event in again] == [
            (kept[event["id"]]["time"], kept[event["id"]]["type"]) for event in again
        ]
        assert again[1]["data"] == {"user": "ann", "query": "usb", "session": "s1"}
        assert await client.republish(msgspec.json.encode(open_receipt)) == []  # another region has them now
        closed = msgspec.structs.replace(open_receipt, state="confirmed_lost")
        assert len(await client.republish(msgspec.json.encode(closed))) == 1
        assert await client.republish(msgspec.json.encode(closed), include_unknown=True) == []
        with pytest.raises(BadReceipt, match="no receipt"):
            await client.republish(b"{}")


async def test_unknown_ones_are_published_again_on_request(east: FakeGateway, west: FakeGateway) -> None:
    """While the receipt is open nobody knows; sending them again does no harm."""
    async with client_of(east, west) as client:
        await client.publish([CLICK, CLICK])
        assert await client.republish(msgspec.json.encode(lost(0, 0, 1))) == []
        assert len(await client.republish(msgspec.json.encode(lost(0, 0, 1)), include_unknown=True)) == 1


async def test_only_the_newest_acknowledged_events_are_kept(east: FakeGateway) -> None:
    """A bound, and zero keeps none."""
    for bound in (2, 0):
        async with client_of(east, remember_acknowledged_max=bound) as client:
            await client.publish([CLICK] * 5)
            assert len(await client.republish(msgspec.json.encode(lost(0, 1_000, 1_000)))) == bound


@given(
    log=st.sampled_from(["east-1.events", "east-2.events", "east-1.dead"]),
    partition=st.integers(0, 2),
    offset=st.integers(0, 8),
    acknowledged_ms=st.integers(1, 5_000),
    state=st.sampled_from(["open", "healed", "confirmed_lost"]),
    ends=st.booleans(),
    kind=st.sampled_from(["failover", "hole"]),
)
def test_the_client_and_the_command_line_judge_alike(
    log: str, partition: int, offset: int, acknowledged_ms: int, state: str, kind: str, *, ends: bool
) -> None:
    """The client installs alone and has the rule a second time."""
    receipt = lost(2, 4, 6, state=state, kind=kind, **({} if ends else {"known_ends": {}}))
    where = Coordinates(log, partition, offset)

    class Ack(msgspec.Struct):
        log: str
        partition: int
        offset: int
        acknowledged_ms: int

    mine = decode_receipt(msgspec.json.encode(receipt)).effect_on(where, acknowledged_ms)
    assert mine == effect_on(receipt, Ack(log, partition, offset, acknowledged_ms))
