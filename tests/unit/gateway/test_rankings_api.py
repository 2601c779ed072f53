"""Requests for rankings over a log in memory: what is asked, what is shown, and what is said when nothing can be."""

import asyncio
from typing import Any

import msgspec
import pytest

from services.common.clock import SystemClock
from services.common.problem import Problem
from streams.asks import Ask
from streams.cloudevents import rfc3339
from streams.events import ServedBody
from streams.frame import decode_frame
from streams.hashing import item_hash
from streams.kinds import Kind
from streams.logs import partition_of
from streams.position import Position
from tests.support.gateway_parts import LOG, PSEUDONYMS, STRUCTURED, TIME, GatewayParts, event
from tests.support.poll import wait_until_async

SEARCH: dict[str, Any] = {"user": "u", "query": "red shoes", "id": "s-1", "source": "/apps/shop", "time": TIME}
TIME_MS = 1_767_225_600_000


async def answering(gateway: GatewayParts, **changes: Any) -> None:
    """Let every ask be answered at once."""
    gateway.sink.on_ask = lambda ask: gateway.answer(ask, **changes)


@pytest.mark.parametrize("path", ["/v1/search", "/v1/events"])
async def test_before_the_gateway_is_open_it_says_so(path: str) -> None:
    """A request that comes while the process starts is to be sent again: it is no failure of the gateway."""
    async with GatewayParts(opened=False) as gateway:
        body = SEARCH if path == "/v1/search" else event()
        kind = {} if path == "/v1/search" else {"headers": STRUCTURED}
        status, headers, answer = await gateway.post(path, body, **kind)
        assert status == 503
        assert answer["type"].endswith("not-serving")
        assert int(headers["Retry-After"]) >= 1


async def test_a_search_writes_its_event_asks_behind_it_and_shows_the_answer() -> None:
    """One frame holds the search event and the ask; the answer carries everything; a served event follows."""
    async with GatewayParts() as gateway:
        await answering(gateway)
        after = [{"log": LOG, "partition": 2, "offset": 7, "index": 3}]
        status, _, body = await gateway.post("/v1/search", {**SEARCH, "after": after, "filter": {"category": ["a"]}})
        assert status == 200
        user = PSEUDONYMS.user("u")
        partition = partition_of(user, 4)
        assert body.pop("at").endswith("Z")
        assert body == {
            "ranking_id": "0" * 30 + "7f",
            "items": ["i-1", "i-2"],
            "scores": [2.0, 1.0],
            "rung": "model",
            "model_version": "ranker/1",
            "region": "east",
            "epoch": [0, 1],
            "feature_age_ms": 3,
            "event": {"log": LOG, "partition": partition, "offset": 0, "index": 0},
            "after_reached": True,
            "reason": "",
        }
        (ask,) = gateway.sink.asked
        assert (ask.kind, ask.user, ask.query, ask.after) == ("search", user, "red shoes", [Position(LOG, 2, 7)])
        assert ask.filter == {"category": ["a"]}
        await wait_until_async(lambda: len(gateway.sink.rows()) == 2, what="the served event")
        search, served = gateway.sink.rows()
        assert (search.kind, search.time_ms, search.query) == (Kind.SEARCH, TIME_MS, "red shoes")
        assert (served.kind, served.user, served.time_ms) == (Kind.SERVED, user, ask.at_ms)
        assert served.ranking.hex() == "0" * 30 + "7f"
        assert msgspec.json.decode(served.body, type=ServedBody) == ServedBody(["i-1", "i-2"], "model", "ranker/1")


async def test_the_search_event_is_the_one_that_could_have_been_posted() -> None:
    """Posted and asked for, tried twice: one identity."""
    async with GatewayParts() as gateway:
        await answering(gateway)
        for _ in range(2):
            assert (await gateway.post("/v1/search", SEARCH))[0] == 200
        posted = event(1, "search", id="s-1", data={"user": "u", "query": "red shoes"})
        assert (await gateway.post("/v1/events", posted, STRUCTURED))[0] == 200
        await wait_until_async(lambda: len(gateway.sink.rows()) == 5, what="two served events")
        searches = [row for row in gateway.sink.rows() if row.kind is Kind.SEARCH]
        assert len({row.identity for row in searches}) == 1


async def test_at_is_the_time_of_the_answer_and_of_what_is_served() -> None:
    """A replay of the past asks for the past; the search's own time is `at` unless it says another."""
    async with GatewayParts() as gateway:
        await answering(gateway)
        at = "2020-05-05T05:05:05.125+02:00"
        status, _, body = await gateway.post("/v1/search", {"user": "u", "query": "q", "id": "1", "at": at})
        assert (status, body["at"]) == (200, "2020-05-05T03:05:05.125Z")
        await wait_until_async(lambda: len(gateway.sink.rows()) == 2, what="the served event")
        assert {row.time_ms for row in gateway.sink.rows()} == {gateway.sink.asked[0].at_ms}


async def test_an_app_whose_clock_is_ahead_is_answered_for_its_own_time() -> None:
    """Without `at`, an answer knows what was sent under the search's time; an older search is answered for now."""
    async with GatewayParts() as gateway:
        await answering(gateway)
        ahead_ms = SystemClock().unix_ms() + 120_000
        status, _, body = await gateway.post("/v1/search", {**SEARCH, "time": rfc3339(ahead_ms)})
        assert (status, body["at"]) == (200, rfc3339(ahead_ms))
        before_ms = SystemClock().unix_ms()
        assert (await gateway.post("/v1/search", {**SEARCH, "time": "2020-01-01T00:00:00Z"}))[0] == 200
        ahead, old = gateway.sink.asked
        assert ahead.at_ms == ahead_ms
        assert before_ms <= old.at_ms < ahead_ms


async def test_recommendations_and_similar_write_no_event_before_the_served_one() -> None:
    """Their ask rides on a frame of its own; without a user it goes to the item's partition."""
    async with GatewayParts() as gateway:
        await answering(gateway)
        status, _, body = await gateway.post("/v1/recommendations", {"user": "u"})
        assert (status, body["event"]) == (200, None)
        assert (await gateway.post("/v1/similar", {"item": "i-9"}))[0] == 200
        assert (await gateway.post("/v1/similar", {"item": "i-9", "user": "u"}))[0] == 200
        asks = gateway.sink.asked
        user = PSEUDONYMS.user("u")
        assert [(ask.kind, ask.user, ask.item) for ask in asks] == [
            ("recommendations", user, ""),
            ("similar", 0, "i-9"),
            ("similar", user, "i-9"),
        ]
        await wait_until_async(lambda: len(gateway.sink.rows()) == 3, what="three served events")
        assert {row.kind for row in gateway.sink.rows()} == {Kind.SERVED}
        assert set(gateway.sink.records) == {partition_of(user, 4), partition_of(item_hash("i-9"), 4)}


@pytest.mark.parametrize(
    ("path", "change", "field"),
    [
        ("search", {"query": ""}, "query"),
        ("search", {"query": None}, "query"),
        ("search", {"user": None}, "user"),
        ("search", {"size": 0}, "size"),
        ("search", {"size": 101}, "size"),
        ("search", {"exlude": ["i"]}, "exlude"),
        ("search", {"time": None}, "time"),
        ("search", {"time": "2999-01-01T00:00:00Z"}, "time"),
        ("search", {"at": "2999-01-01T00:00:00Z"}, "at"),
        ("search", {"at": "2020-01-01T00:00:00"}, "at"),
        ("search", {"at": "0001-01-01T00:00:00+14:00"}, "at"),
        ("search", {"deadline_ms": 0}, "deadline_ms"),
        ("search", {"candidates": ["i\n"]}, "candidates[0]"),
        ("search", {"filter": {"a": None}}, "filter[...]"),
        ("search", {"filter": {"price": {"min": 1, "lte": 2}}}, "filter.price"),
        ("search", {"filter": {"a": "x" * 257}}, "filter[...]"),
        ("search", {"filter": {"a": ["x" * 257]}}, "filter[...][0]"),
        ("search", {"filter": {"a": ["x"] * 101}}, "filter[...]"),
        ("search", {"after": [{"log": "west-1.events", "partition": 0, "offset": 0}]}, "after[0].log"),
        ("search", {"after": [{"log": LOG, "partition": 4, "offset": 0}]}, "after[0].partition"),
        ("search", {"after": [{"log": LOG, "partition": 0, "offset": -1}]}, "after[0].offset"),
        ("search", {"after": [{"log": LOG, "partition": 0}]}, "after[0].offset"),
        ("recommendations", {"query": "q"}, "query"),
        ("similar", {"query": None}, "item"),
    ],
)
async def test_a_wrong_request_is_refused_before_anything_is_written(
    path: str, change: dict[str, object], field: str
) -> None:
    """400 with the field; no event, no ask, nothing held."""
    async with GatewayParts() as gateway:
        base = SEARCH if path == "search" else {"user": "u"}
        body = {name: value for name, value in {**base, **change}.items() if value is not None}
        status, _, problem = await gateway.post(f"/v1/{path}", body)
        assert (status, problem.get("field")) == (400, field)
        assert gateway.sink.records == {}
        assert gateway.core.admission.events == 0
        assert gateway.core.desk.in_flight == 0


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b"\xff", b'{"user":"\xff","query":"q"}', b'{"user":"\\ud800"}'])
async def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    """400 with a problem document, not a crash."""
    async with GatewayParts() as gateway:
        assert (await gateway.post("/v1/search", body))[0] == 400
        assert (await gateway.post("/v1/search", body, {"Content-Type": "text/plain"}))[0] == 415


async def test_no_answer_by_the_deadline_is_503_and_soon_said_at_once() -> None:
    """After some silent asks the next is refused without waiting; the first answer opens the door again."""
    async with GatewayParts(silent_asks_max=2, silent_deadline_ms_min=30, trial_interval_ms=60_000) as gateway:
        for _ in range(2):
            status, headers, problem = await gateway.post("/v1/search", {**SEARCH, "deadline_ms": 30})
            assert (status, headers["Retry-After"]) == (503, "1")
        assert "did not answer" in problem["detail"] or "has not answered" in problem["detail"]
        assert gateway.figure("meridian_gateway_asks_expired_total") == 2
        assert gateway.core.desk.in_flight == 0
        asked = len(gateway.sink.asked)
        status, _, problem = await gateway.post("/v1/search", {**SEARCH, "deadline_ms": 10_000})
        assert (status, problem["type"]) == (503, "urn:meridian:problem:processor-unavailable")
        assert len(gateway.sink.asked) == asked
        gateway.answer(gateway.sink.asked[0])
        await answering(gateway)
        assert (await gateway.post("/v1/search", SEARCH))[0] == 200


async def test_an_unready_processor_is_said_at_once() -> None:
    """With its own reason, in the answer and in the readiness."""
    async with GatewayParts() as gateway:
        gateway.core.watch.health("replaying, 40 %")
        status, headers, problem = await gateway.post("/v1/search", SEARCH)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "replaying, 40 %" in problem["detail"]
        assert gateway.sink.records == {}


async def test_the_answer_waits_for_the_acknowledgement_of_the_search_event() -> None:
    """A ranking is not shown for a search that may be lost; and the event stays accounted for until it is known."""
    async with GatewayParts() as gateway:
        await answering(gateway)
        gateway.sink.hold = True
        status, _, problem = await gateway.post("/v1/search", {**SEARCH, "deadline_ms": 50})
        assert (status, problem["type"]) == (503, "urn:meridian:problem:log-slow")
        assert gateway.core.admission.events == 1
        gateway.sink.release()
        await wait_until_async(lambda: gateway.core.admission.events == 0, what="the event to be accounted for")
        gateway.sink.fail = "Local: Message timed out"
        status, _, problem = await gateway.post("/v1/search", SEARCH)
        assert (status, problem["type"]) == (503, "urn:meridian:problem:outcome-unknown")
        assert gateway.figure("meridian_gateway_rankings_served_total", rung="model") == 0


async def test_an_answer_that_may_not_be_shown_is_not() -> None:
    """No longer valid at the moment of writing: 503, and nothing is said to have been served."""
    async with GatewayParts() as gateway:
        await answering(gateway, valid_until_ms=SystemClock().unix_ms() - 1)
        status, _, problem = await gateway.post("/v1/search", SEARCH)
        assert (status, problem["type"]) == (503, "urn:meridian:problem:ranking-stale")
        await asyncio.sleep(0)
        assert [row.kind for row in gateway.sink.rows()] == [Kind.SEARCH]


async def test_a_stale_epoch_is_not_shown() -> None:
    """Somebody has answered under a larger epoch: this one no longer leads."""
    async with GatewayParts() as gateway:
        gateway.core.desk.on_epoch((2, 5))
        await answering(gateway)
        assert (await gateway.post("/v1/search", {**SEARCH, "deadline_ms": 50}))[0] == 503
        assert gateway.figure("meridian_gateway_rankings_dropped_total", reason="stale_epoch") == 1
        await answering(gateway, epoch=(2, 5))
        assert (await gateway.post("/v1/search", SEARCH))[0] == 200


async def test_an_unknown_operator_is_answered_with_the_known_ones() -> None:
    """Nobody has to guess how a range is written."""
    async with GatewayParts() as gateway:
        status, _, problem = await gateway.post("/v1/search", {**SEARCH, "filter": {"price": {"lte": 2}}})
        assert (status, problem["remedy"]) == (400, "Give a range as min and max.")
        assert "'lte'" in problem["detail"]


async def test_an_ask_that_would_burst_a_record_is_refused_alone() -> None:
    """Every field within its bounds, all of them together not: 413, and nothing is written."""
    async with GatewayParts() as gateway:
        await answering(gateway)
        long = [f"{number:04}" + "x" * 250 for number in range(1000)]
        status, _, problem = await gateway.post("/v1/search", {**SEARCH, "candidates": long, "exclude": long})
        assert (status, problem["type"]) == (413, "urn:meridian:problem:ask-too-large")
        assert gateway.sink.records == {}
        assert gateway.core.admission.events == 0
        assert (await gateway.post("/v1/search", {**SEARCH, "candidates": long}))[0] == 200


async def test_asks_are_bounded() -> None:
    """Over the bound: 429 with Retry-After, at once."""
    async with GatewayParts(asks_waiting_max=1) as gateway:
        first = asyncio.create_task(gateway.post("/v1/search", {**SEARCH, "deadline_ms": 5000}))
        await wait_until_async(lambda: gateway.sink.asked, what="the first ask")
        status, headers, _ = await gateway.post("/v1/search", SEARCH)
        assert (status, headers["Retry-After"]) == (429, "1")
        gateway.answer(gateway.sink.asked[0])
        assert (await first)[0] == 200


async def test_what_was_not_folded_in_time_is_said() -> None:
    """The answer is shown and says that it may not know what `after` names."""
    async with GatewayParts() as gateway:
        await answering(gateway, after_reached=False, rung="counters", reason="inference worker is silent")
        status, _, body = await gateway.post("/v1/search", SEARCH)
        assert (status, body["after_reached"], body["rung"]) == (200, False, "counters")
        assert body["reason"] == "inference worker is silent"


async def test_served_events_stand_in_nobodys_way() -> None:
    """While there is no room for them they are dropped and counted; the answers are given."""
    async with GatewayParts() as gateway:
        await answering(gateway)

        def full(count: int) -> None:
            raise Problem(429, "events-full", "full")

        enter = gateway.core.admission.enter_events
        calls: list[int] = []

        def only_the_first(count: int) -> None:
            calls.append(count)
            if len(calls) > 1:
                full(count)
            enter(count)

        gateway.core.admission.enter_events = only_the_first  # type: ignore[method-assign]
        assert (await gateway.post("/v1/search", SEARCH))[0] == 200
        await wait_until_async(
            lambda: gateway.figure("meridian_gateway_served_events_dropped_total") == 1, what="the count"
        )
        assert [row.kind for row in gateway.sink.rows()] == [Kind.SEARCH]


async def test_served_events_cost_no_record_of_their_own() -> None:
    """What was shown rides on the user's next frame."""
    async with GatewayParts(frame_patient_age_ms=60_000.0) as gateway:
        await answering(gateway)
        for _ in range(3):
            assert (await gateway.post("/v1/search", SEARCH))[0] == 200
        (records,) = gateway.sink.records.values()
        assert [decode_frame(*record).count for record in records] == [1, 2, 2]


async def test_a_longer_deadline_than_allowed_is_shortened() -> None:
    """The processor is told the shortened one."""
    async with GatewayParts(deadline_ms_max=40) as gateway:
        before_ms = SystemClock().unix_ms()
        assert (await gateway.post("/v1/search", {**SEARCH, "deadline_ms": 60_000}))[0] == 503
        (ask,) = gateway.sink.asked
        assert ask.deadline_unix_ms - before_ms < 10_000


async def test_an_answer_for_somebody_else_is_not_ours() -> None:
    """A wrong ask id resolves nobody."""
    async with GatewayParts() as gateway:
        other = Ask(ask_id="other", reply_to="g", kind="search", deadline_unix_ms=0, at_ms=0)
        gateway.sink.on_ask = lambda ask: gateway.answer(other)
        assert (await gateway.post("/v1/search", {**SEARCH, "deadline_ms": 30}))[0] == 503
        assert gateway.figure("meridian_gateway_rankings_dropped_total", reason="late") == 1


def test_times_are_written_as_they_are_read() -> None:
    """Milliseconds and Z."""
    assert rfc3339(TIME_MS) == "2026-01-01T00:00:00.000Z"
