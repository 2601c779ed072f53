"""Requests for a ranking: an ask goes out with the log, an answer comes back in time or not at all.

The ask travels behind everything the same user did before, so the answer knows it. The search event is the app's
own fact (its id, time and source) and is acknowledged before the answer is given. Whatever stands in the way (a
stalled log, a silent processor, a full house) is said at once, with Retry-After, instead of after the deadline.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import msgspec
from aiohttp import web

from services.common.problem import Problem
from services.common.tracing import HEADER_PARENT, Trace, current
from services.gateway.bodies import received_body
from services.gateway.core import Core
from services.gateway.events_api import bad_request, not_remote
from services.gateway.events_log import EventsLog, NotKept, Waiting
from services.gateway.routing import RETRY_SECONDS, route
from services.gateway.served import ServedEvents, Shown
from services.gateway.wire import (
    RANGE_OPERATORS,
    Coordinates,
    Elsewhere,
    Filter,
    RankingAnswer,
    RankingRequest,
    RecommendationsRequest,
    RungWord,
    SearchRequest,
    SimilarRequest,
)
from streams.asks import Ask, AskKind, Ranking, encode_asks
from streams.cloudevents import explain, is_json, rfc3339, to_ms
from streams.errors import DECODE_ERRORS, BadEvent
from streams.events import Received, Search, check_time
from streams.item_key import item_key
from streams.position import Position

ASK_BYTES_MAX: Final = 256 << 10
"""Asks ride in a header of a record that carries other users' events: one that is too big would take them with it."""

AT_MS_MIN: Final = -62_135_596_800_000
"""Year 1 in UTC: an earlier time of an answer could not be written down as RFC 3339."""

HEADER_EPOCH: Final = "Meridian-Epoch"
HEADER_REGION: Final = "Meridian-Region"

RequestT = TypeVar("RequestT", bound=msgspec.Struct)
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was found good: what to ask, and the event that it stands for."""

    ask: Ask
    key: int
    """Decides the partition: the user, or the item when nobody is named."""
    event: Received | None
    session: int


class RankingsApi:
    """The handlers of the three routes."""

    def __init__(self, core: Core, served: ServedEvents) -> None:
        self._core = core
        self._served = served
        self._search = msgspec.json.Decoder(SearchRequest)
        self._recommendations = msgspec.json.Decoder(RecommendationsRequest)
        self._similar = msgspec.json.Decoder(SimilarRequest)

    async def search(self, request: web.Request) -> web.Response:
        """What should this user see for this query?"""
        if (elsewhere := self._elsewhere(request)) is not None:
            return elsewhere
        said = await read_json(self._core, request, self._search)
        return await self._rank(request, "search", said, user=said.user)

    async def recommendations(self, request: web.Request) -> web.Response:
        """What should this user see on the home page?"""
        if (elsewhere := self._elsewhere(request)) is not None:
            return elsewhere
        said = await read_json(self._core, request, self._recommendations)
        return await self._rank(request, "recommendations", said, user=said.user)

    async def similar(self, request: web.Request) -> web.Response:
        """What is like this item?"""
        if (elsewhere := self._elsewhere(request)) is not None:
            return elsewhere
        said = await read_json(self._core, request, self._similar)
        return await self._rank(request, "similar", said, user=said.user, item=said.item)

    def _elsewhere(self, request: web.Request) -> web.Response | None:
        """The way to the active region, None when it is this one. Raises Problem when none is known to answer."""
        core = self._core
        found = route(core.rights, core.region, request.path, request.query_string, core.settings.view_seconds_max)
        if found is None:
            return None
        said = Elsewhere(region=found.region, epoch=found.epoch, location=found.location)
        headers = {"Location": found.location}
        return web.Response(status=307, body=_encode(said), content_type="application/json", headers=headers)

    async def _rank(
        self, request: web.Request, kind: AskKind, said: RankingRequest, *, user: str | None, item: str = ""
    ) -> web.Response:
        core, loop = self._core, asyncio.get_running_loop()
        settings = core.settings
        deadline_ms = min(said.deadline_ms or settings.deadline_ms, settings.deadline_ms_max)
        deadline = loop.time() + deadline_ms / 1000
        mode = core.acks.mode(request.headers) if kind == "search" else "local"
        try:
            asked = self._asked(kind, said, user, item, deadline_ms)
        except BadEvent as error:
            raise bad_request(error) from None
        core.acks.admit(mode)
        await self._begun(deadline)
        log = self._open_for_asks(loop.time(), deadline_ms)
        events = 0 if asked.event is None else 1
        core.admission.enter_events(events)
        answer = core.desk.expect(asked.ask.ask_id)
        trace = _traced(asked, answer)
        try:
            waiting = log.put_with_ask(asked.event, asked.ask, asked.key, trace)
            waiting.done.add_done_callback(lambda _: core.admission.leave_events(events))
            ranking, where = await self._await(answer, waiting, deadline, deadline_ms)
        finally:
            core.desk.forget(asked.ask.ask_id)
        if mode == "remote":
            with trace.step("remote.acknowledge"):
                await self._held_elsewhere(where, deadline)
        return await self._answer(request, asked, ranking, where)

    async def _begun(self, deadline: float) -> None:
        """Wait while the own region is taking over: what is asked before its processor may answer is never answered."""
        core, loop = self._core, asyncio.get_running_loop()
        if not await core.opening.wait(deadline - loop.time()):
            raise _unavailable(
                "taking-over", f"region {core.region} is taking over: its processor has not begun yet", RETRY_SECONDS
            )

    async def _held_elsewhere(self, where: Coordinates, deadline: float) -> None:
        """Wait until another region holds the search event. Raises Problem (504)."""
        if await self._core.acks.uncovered([where], deadline - asyncio.get_running_loop().time()):
            problem = not_remote()
            problem.members.update(coordinates=where, stored="local")
            raise problem

    def _open_for_asks(self, now: float, deadline_ms: int) -> EventsLog:
        """The log, if an ask can be answered now. Raises Problem with the reason otherwise."""
        core = self._core
        log = core.log()
        blocker = core.desk.blocker() or core.admission.blocker(1)
        if blocker is not None:
            raise blocker
        reason = core.watch.asked(now, deadline_ms)
        if reason is not None:
            raise _unavailable("processor-unavailable", reason)
        return log

    def _asked(self, kind: AskKind, said: RankingRequest, user: str | None, item: str, deadline_ms: int) -> Asked:
        core = self._core
        _check_ranges(said.filter)
        now_ms = core.clock.unix_ms()
        at_ms = _time_of_the_answer(said, now_ms)
        ask_id = core.desk.new_id()
        event = self._search_event(said, ask_id, at_ms, now_ms) if isinstance(said, SearchRequest) else None
        pseudonym = 0 if user is None else core.reader.user(user)
        session = 0
        if event is not None:
            session = event.row.session
        elif pseudonym:
            session = core.reader.session(pseudonym, said.session or "", at_ms)
        ask = Ask(
            ask_id=ask_id,
            reply_to=core.desk.reply_to,
            kind=kind,
            deadline_unix_ms=now_ms + deadline_ms,
            at_ms=at_ms,
            user=pseudonym,
            query=event.row.query if event is not None else "",
            item=item,
            size=said.size,
            filter=said.filter,
            exclude=said.exclude,
            in_stock=said.in_stock,
            context=said.context,
            candidates=said.candidates if isinstance(said, SearchRequest) else None,
            after=[self._position(number, token) for number, token in enumerate(said.after)],
            trace=current().passed_on(),
        )
        _check_size(ask)
        return Asked(ask, pseudonym or item_key(item), event, session)

    def _search_event(self, said: SearchRequest, ask_id: str, at_ms: int, now_ms: int) -> Received:
        if said.id is not None and said.time is None and said.at is None:
            raise BadEvent(
                "time",
                "is required beside id: without it a second try would be another event",
                "Send the time of the search, the same at every try.",
            )
        time_ms = at_ms if said.time is None else to_ms(said.time)
        check_time("time", time_ms, now_ms)
        search = Search(user=said.user, query=said.query, session=said.session)
        return self._core.reader.search(search, source=said.source, event_id=said.id or ask_id, time_ms=time_ms)

    def _position(self, number: int, token: Coordinates) -> Position:
        log = self._core.log()
        if token.log != log.name and token.log not in self._core.directory.known_logs:
            raise BadEvent(
                f"after[{number}].log",
                f"{token.log!r} is not the events log of any region that is known here",
                "Send coordinates as they came.",
            )
        if token.partition >= log.partitions:
            raise BadEvent(
                f"after[{number}].partition", f"the log has {log.partitions}", "Send coordinates as they came."
            )
        return Position(token.log, token.partition, token.offset)

    async def _await(
        self, answer: asyncio.Future[Ranking], waiting: Waiting, deadline: float, deadline_ms: int
    ) -> tuple[Ranking, Coordinates]:
        """The answer, after the log has acknowledged the request."""
        if not await in_time(waiting.done, deadline):
            raise self._expired(waiting, deadline_ms)
        outcome = waiting.outcomes[0]
        if isinstance(outcome, NotKept):
            raise _unavailable("outcome-unknown", f"the log did not acknowledge the request ({outcome.cause})")
        if not await in_time(answer, deadline):
            raise self._expired(waiting, deadline_ms)
        return answer.result(), outcome

    def _expired(self, waiting: Waiting, deadline_ms: int) -> Problem:
        core, now = self._core, asyncio.get_running_loop().time()
        core.metrics.asks_expired.inc()
        if not waiting.done.done():
            return _unavailable("log-slow", "the log did not acknowledge the request before its deadline")
        core.watch.expired(now, deadline_ms)
        silent = core.watch.blocker(now)
        return _unavailable("no-answer-in-time", silent or "the processor did not answer before the deadline")

    async def _answer(self, request: web.Request, asked: Asked, ranking: Ranking, where: Coordinates) -> web.Response:
        core, ask, trace = self._core, asked.ask, current()
        checking = trace.now()
        body = _encode(
            RankingAnswer(
                ranking_id=ranking.ranking_id,
                items=ranking.items,
                scores=ranking.scores,
                rung=cast("RungWord", ranking.rung),
                model_version=ranking.model_version,
                region=ranking.region,
                epoch=ranking.epoch,
                feature_age_ms=ranking.feature_age_ms,
                at=rfc3339(ask.at_ms),
                event=where if asked.event is not None else None,
                after_reached=ranking.after_reached,
                reason=ranking.reason,
            )
        )
        headers = {HEADER_EPOCH: "{}:{}".format(*ranking.epoch), HEADER_REGION: ranking.region}
        if trace.trace_id:
            headers[HEADER_PARENT] = trace.traceparent()
            _note(trace, ranking)
        response = web.Response(body=body, content_type="application/json", headers=headers)
        core.desk.check(ranking)
        sending = trace.now()
        await core.send(request, response)
        trace.add("check", checking, sending)
        trace.add("write", sending)
        core.metrics.rungs.labels(ranking.rung).inc()
        # Not before this handler has returned: what was shown is written down without delaying it.
        asyncio.get_running_loop().call_soon(self._served.write, Shown(ask, asked.key, asked.session, ranking))
        return response


async def read_json(core: Core, request: web.Request, decoder: "msgspec.json.Decoder[RequestT]") -> RequestT:
    """The body of a request. Raises Problem (400, 408, 413, 415, 429)."""
    if not is_json(request.headers.get("Content-Type", "")):
        raise Problem(415, "not-json", "the request is JSON", remedy="Send Content-Type: application/json.")
    async with received_body(request, core.settings, core.admission) as body:
        try:
            return decoder.decode(body)
        except DECODE_ERRORS as error:
            raise bad_request(explain(error)) from None


def _traced(asked: Asked, answer: asyncio.Future[Ranking]) -> Trace:
    """The request's trace: it can be found by its event, and knows when its ranking was read."""
    trace = current()
    if asked.event is not None:
        trace.note(event_id=asked.event.row.identity.hex())
        trace.findable(asked.event.row.identity.hex(), asked.event.id)
    if trace.recorded:
        asked_at = trace.now()
        trace.add("prepare", trace.began, asked_at)
        answer.add_done_callback(lambda _: trace.add("ranking.wait", asked_at))
    return trace


def _note(trace: Trace, ranking: Ranking) -> None:
    """What is known of a request since its ranking is there."""
    trace.findable(ranking.ranking_id)
    trace.note(
        ranking_id=ranking.ranking_id,
        rung=ranking.rung,
        reason=ranking.reason,
        model_version=ranking.model_version,
        made_in=ranking.region,
        epoch="{}:{}".format(*ranking.epoch),
    )


def _check_ranges(said: Filter) -> None:
    """Refuse operators that nobody would heed. Raises BadEvent."""
    for name, value in said.items():
        unknown = value.keys() - RANGE_OPERATORS if isinstance(value, dict) else ()
        if unknown:
            raise BadEvent(
                f"filter.{name}", f"has the unknown operator {min(unknown)[:64]!r}", "Give a range as min and max."
            )


def _check_size(ask: Ask) -> None:
    """Refuse an ask that would not fit a record beside other users' events. Raises Problem (413)."""
    size = len(encode_asks([ask]))
    if size > ASK_BYTES_MAX:
        raise Problem(
            413,
            "ask-too-large",
            f"the request comes to {size} bytes, more than {ASK_BYTES_MAX}; nothing of it was kept",
            remedy="Send fewer or shorter candidates, exclusions and filters.",
        )


def _time_of_the_answer(said: RankingRequest, now_ms: int) -> int:
    """`at`; else now, or the search's own time if the app's clock is ahead: it sees what it has just sent."""
    if said.at is not None:
        at_ms = to_ms(said.at)
        check_time("at", at_ms, now_ms)
        if at_ms < AT_MS_MIN:
            raise BadEvent("at", "is before year 1 in UTC", "Send a time that an answer can be for.")
        return at_ms
    if not isinstance(said, SearchRequest) or said.time is None:
        return now_ms
    time_ms = to_ms(said.time)
    check_time("time", time_ms, now_ms)
    return max(now_ms, time_ms)


async def in_time(future: "asyncio.Future[Any]", deadline: float) -> bool:
    """Whether it is done before the deadline. Unlike a time-out, this does not cancel it."""
    left_seconds = deadline - asyncio.get_running_loop().time()
    if not future.done() and left_seconds > 0:
        await asyncio.wait((future,), timeout=left_seconds)
    return future.done()


def _unavailable(kind: str, detail: str, retry_after_seconds: float = 1.0) -> Problem:
    remedy = "Ask again after Retry-After, with the same id and time."
    return Problem(503, kind, detail, remedy=remedy, retry_after_seconds=retry_after_seconds)
