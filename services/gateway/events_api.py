"""`POST /v1/events`: CloudEvents in, durable coordinates out.

An event that is wrong takes no other with it, and an answer never says more than the log did: accepted means
acknowledged by the broker, unknown means that nobody could say.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
from aiohttp import web

from services.common.problem import CONTENT_TYPE, TYPE_PREFIX, Problem
from services.common.tracing import current
from services.gateway.acks import AckMode
from services.gateway.bodies import media_type, received_body
from services.gateway.core import Core
from services.gateway.events_log import NotKept, Outcome
from services.gateway.wire import Accepted, EventsAnswer, EventsProblem, ProblemDocument, Refused, Result, Unknown
from streams.cloudevents import (
    BATCH,
    STRUCTURED,
    CloudEvent,
    Rejected,
    event_id,
    is_json,
    read_batch,
    read_binary,
    read_structured,
)
from streams.errors import BadEvent
from streams.events import Received

CHUNK_EVENTS: Final = 200
"""After so many events of a batch, whoever waits for a ranking gets a turn."""

KEYS_MAX: Final = 20
"""Events of a traced batch by whose id its trace is found, the first ones. Ids have up to 256 characters."""

_encode: Final = msgspec.json.Encoder().encode
_RETRY: Final = "Send it again, with the same source, id and time: it will be counted once."


class EventsApi:
    """The handler of the route."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def publish(self, request: web.Request) -> web.Response:
        """Take one event or a batch."""
        self._core.log()
        mode = self._core.acks.mode(request.headers)
        self._core.acks.admit(mode)
        async with received_body(request, self._core.settings, self._core.admission) as body:
            return await self._take(self._parse(request, body), mode)

    def _parse(self, request: web.Request, body: bytes) -> Sequence[CloudEvent | Rejected]:
        media = media_type(request)
        try:
            if media == BATCH:
                return read_batch(body, self._core.settings.batch_events_max)
        except BadEvent as error:
            self._core.metrics.events.labels("refused").inc()
            raise bad_request(error) from None
        if media != STRUCTURED and ("ce-specversion" not in request.headers or not is_json(media)):
            raise Problem(
                415,
                "not-cloudevents",
                f"events come as CloudEvents 1.0, not as {media or 'a body without Content-Type'}",
                remedy=f"Use {BATCH}, {STRUCTURED}, or application/json with ce- headers.",
            )
        try:
            return [read_structured(body) if media == STRUCTURED else read_binary(request.headers, body)]
        except BadEvent as error:
            return [Rejected(_header_id(request) if media != STRUCTURED else event_id(body), error)]

    async def _take(self, parsed: Sequence[CloudEvent | Rejected], mode: AckMode) -> web.Response:
        results: list[Result | None] = [None] * len(parsed)
        taken: list[Received] = []
        places: list[int] = []
        now_ms = self._core.clock.unix_ms()
        for place, event in enumerate(parsed):
            if place % CHUNK_EVENTS == CHUNK_EVENTS - 1:
                await asyncio.sleep(0)
            try:
                if isinstance(event, Rejected):
                    raise event.error
                taken.append(self._core.reader.read(event, now_ms))
                places.append(place)
            except BadEvent as error:
                results[place] = Refused(id=event.id or None, problem=problem_document(bad_request(error)))
        if taken:
            self._core.acks.admit(mode)
            outcomes = await self._write(taken)
            kept = [outcome for outcome in outcomes if not isinstance(outcome, NotKept)]
            limit_seconds = self._core.settings.ack_timeout_ms / 1000
            missing = await self._core.acks.uncovered(kept, limit_seconds) if mode == "remote" else None
            for place, received, outcome in zip(places, taken, outcomes, strict=True):
                results[place] = _result(received.id, outcome, missing)
        return self._answer([result for result in results if result is not None])

    async def _write(self, taken: list[Received]) -> list[Outcome]:
        log, admission, count = self._core.log(), self._core.admission, len(taken)
        admission.enter_events(count)
        waiting = log.waiting(count)
        waiting.done.add_done_callback(lambda _: admission.leave_events(count))
        trace = current()
        trace.findable(*(event.id for event in taken[:KEYS_MAX]))
        for first in range(0, count, CHUNK_EVENTS):
            if first:
                await asyncio.sleep(0)
            more = first + CHUNK_EVENTS < count
            log.put(taken[first : first + CHUNK_EVENTS], waiting, first, more=more, trace=trace)
        await waiting.done
        return waiting.outcomes

    def _answer(self, results: list[Result]) -> web.Response:
        accepted = sum(type(result) is Accepted for result in results)
        unknown = sum(type(result) is Unknown for result in results)
        events = self._core.metrics.events
        for outcome, count in (
            ("accepted", accepted),
            ("unknown", unknown),
            ("refused", len(results) - accepted - unknown),
        ):
            if count:
                events.labels(outcome).inc(count)
        headers = {"Retry-After": "1"} if unknown else {}
        if accepted:
            status = 200 if accepted == len(results) else 207
            body = _encode(EventsAnswer(results=results))
            return web.Response(body=body, status=status, content_type="application/json", headers=headers)
        document = _summary(results, unknown)
        return web.Response(body=_encode(document), status=document.status, content_type=CONTENT_TYPE, headers=headers)


def _header_id(request: web.Request) -> str:
    """The id in binary mode as it was sent; empty when its bytes are no text."""
    sent = request.headers.get("ce-id", "")
    return sent if sent.isprintable() else ""


def bad_request(error: BadEvent) -> Problem:
    """The refusal of a request because of what it says."""
    return Problem(
        400, "bad-event", f"{error.field} {error.cause}", remedy=error.remedy, members={"field": error.field}
    )


def not_remote() -> Problem:
    """The answer to who wanted another region to hold it, and none said so in time."""
    return Problem(
        504,
        "not-replicated-in-time",
        "it is in this region's log, but no other region confirmed in time that it holds it",
        remedy=_RETRY,
        retry_after_seconds=1.0,
    )


def problem_document(problem: Problem) -> ProblemDocument:
    """A problem as part of an answer about several events."""
    return msgspec.convert(problem.document(), ProblemDocument)


def _result(event: str, outcome: Outcome, missing: set[tuple[int, int]] | None) -> Result:
    """What became of an event; `missing` is what no other region is known to hold, None when none was asked."""
    if not isinstance(outcome, NotKept):
        if missing is None:
            return Accepted(id=event, coordinates=outcome)
        if (outcome.partition, outcome.offset) not in missing:
            return Accepted(id=event, coordinates=outcome, stored="remote")
        return Unknown(id=event, problem=problem_document(not_remote()), stored="local", coordinates=outcome)
    problem = Problem(
        503,
        "not-kept" if outcome.refused else "outcome-unknown",
        f"outcome unknown: the log did not acknowledge it ({outcome.cause})"
        if not outcome.refused
        else f"the log could not take it ({outcome.cause})",
        remedy=_RETRY,
        retry_after_seconds=1.0,
    )
    return Unknown(id=event, problem=problem_document(problem))


def _summary(results: list[Result], unknown: int) -> EventsProblem:
    """The document for a request of which nothing is known to be kept; it says what the first event's problem is."""
    first = next(result for result in results if not isinstance(result, Accepted) and _leads(result, unknown))
    problem = first.problem
    local = all(isinstance(result, Unknown) and result.stored == "local" for result in results)
    if len(results) > 1:
        what = "held by another region" if local else "kept"
        detail = f"none of {len(results)} events is known to be {what}; the first: {problem.detail}"
        problem = msgspec.structs.replace(problem, detail=detail, type=TYPE_PREFIX + "no-event-kept")
    return EventsProblem(**msgspec.structs.asdict(problem), results=results, stored="local" if local else "")


def _leads(result: Result, unknown: int) -> bool:
    return isinstance(result, Unknown) == bool(unknown)
