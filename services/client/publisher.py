"""Delivering what is in the outbox: batches, retries, and one outcome for every event.

A batch is sent again, with the same bytes for each event, until every event in it was accepted or refused or
the time is over. Only events without a verdict are repeated: the gateway may have kept some of a batch and
not others. Whatever cannot be understood as an answer counts as "unknown", never as success."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from .acknowledged import AcknowledgedEvents
from .answers import Accepted, Coordinates, Outcome, Refused, Unknown, WireResult, decode_results
from .clock import Clock
from .discovery import Discovery
from .errors import BadAnswer, Busy, GatewayUnavailable, MeridianError, RequestRefused, TryAgain
from .events import BATCH_CONTENT_TYPE, Event, encode_event, join_batch
from .gateways import Gateways, Round
from .outbox import Outbox
from .problems import error_of, problem_of
from .retry import RetryPolicy
from .settings import ClientSettings
from .tokens import ReadTokens
from .transport import Reply, Transport

HEADER_ACK = "Meridian-Ack"
_HEADERS = {"Content-Type": BATCH_CONTENT_TYPE}
_RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
_WRONG_CONTENT_STATUSES = frozenset({400, 413, 415, 422})
_Key = tuple[str, str]


@dataclass(slots=True)
class _Batch:
    """Events on their way in one request, what is settled of them and why the rest is not."""

    events: list[Event]
    encoded: dict[_Key, bytes]
    ack: str
    """When its events count as accepted; empty: as the gateway is set."""
    stored: dict[_Key, Coordinates] = field(default_factory=dict)
    """Where events lie that were kept, but not as widely as was wanted."""
    settled: dict[_Key, Outcome] = field(default_factory=dict)
    reason: str = "the time was over before the first try"
    error: RequestRefused | None = None

    def pending(self) -> list[Event]:
        return [event for event in self.events if event.key not in self.settled]


class Publisher:
    """Sends events through the transport and settles them in the outbox."""

    def __init__(
        self,
        transport: Transport,
        gateways: Gateways,
        discovery: Discovery,
        outbox: Outbox,
        acknowledged: AcknowledgedEvents,
        tokens: ReadTokens,
        settings: ClientSettings,
        retry: RetryPolicy,
        clock: Clock,
    ) -> None:
        self._transport = transport
        self._gateways = gateways
        self._discovery = discovery
        self._outbox = outbox
        self._acknowledged = acknowledged
        self._tokens = tokens
        self._settings = settings
        self._retry = retry
        self._clock = clock
        self._slots = asyncio.Semaphore(settings.batches_in_flight_max)

    async def publish(self, events: Sequence[Event], timeout_seconds: float, ack: str = "") -> list[Outcome]:
        """Keep the events in the outbox, deliver them, and answer in their order."""
        self._outbox.add(events, ack)
        distinct = {event.key: event for event in events}
        deadline = self._clock.elapsed_seconds() + timeout_seconds
        settled = await self._deliver(list(distinct.values()), deadline)
        return [settled[event.key] for event in events]

    async def flush(self, timeout_seconds: float) -> list[Outcome]:
        """Deliver what is idle and wait for what is in flight, until the outbox is empty or time is over."""
        deadline = self._clock.elapsed_seconds() + timeout_seconds
        outcomes: dict[_Key, Outcome] = {}
        while len(self._outbox):
            left_seconds = deadline - self._clock.elapsed_seconds()
            if left_seconds <= 0:
                break
            idle = self._outbox.idle()
            if idle:
                outcomes.update(await self._deliver(idle, deadline))
            else:
                await self._outbox.wait_for_change(left_seconds)
        return list(outcomes.values())

    async def _deliver(self, events: list[Event], deadline: float) -> dict[_Key, Outcome]:
        self._outbox.hold(events)
        batches = list(self._batches(events))
        try:
            async with asyncio.TaskGroup() as group:
                for batch in batches:
                    group.create_task(self._deliver_batch(batch, deadline))
        finally:
            done = [event for batch in batches for event in batch.events if event.key in batch.settled]
            self._outbox.settle(events, done)
        for batch in batches:
            if batch.error is not None:
                raise batch.error
        outcomes: dict[_Key, Outcome] = {}
        for batch in batches:
            outcomes.update(batch.settled)
            for event in batch.pending():
                where = batch.stored.get(event.key)
                outcomes[event.key] = Unknown(id=event.id, reason=batch.reason, coordinates=where)
        return outcomes

    def _batches(self, events: Sequence[Event]) -> Iterator[_Batch]:
        batch, size = _Batch([], {}, ""), 0
        for event in events:
            encoded, ack = encode_event(event), self._outbox.ack_of(event)
            full = len(batch.events) >= self._settings.batch_events_max
            if batch.events and (full or size + len(encoded) > self._settings.batch_bytes_max or ack != batch.ack):
                yield batch
                batch, size = _Batch([], {}, ack), 0
            batch.ack = ack
            batch.events.append(event)
            batch.encoded[event.key] = encoded
            size += len(encoded) + 1
        if batch.events:
            yield batch

    async def _deliver_batch(self, batch: _Batch, deadline: float) -> None:
        tries = Round(self._gateways, self._retry, self._clock)
        while pending := batch.pending():
            self._discovery.look()
            async with self._slots:
                left_seconds = deadline - self._clock.elapsed_seconds()
                if left_seconds <= 0:
                    return
                error = await self._try(batch, tries.next(), pending, left_seconds)
            if not batch.pending() or batch.error is not None:
                return
            self._discovery.look(trouble=True)
            delay_seconds = tries.pause_seconds(error)
            if self._clock.elapsed_seconds() + delay_seconds >= deadline:
                return
            await self._clock.sleep(delay_seconds)

    async def _try(self, batch: _Batch, base: str, pending: list[Event], left_seconds: float) -> MeridianError | None:
        """One request for the pending events. Returns what went wrong, and can be tried again."""
        body = join_batch([batch.encoded[event.key] for event in pending])
        headers = _HEADERS | ({HEADER_ACK: batch.ack} if batch.ack else {})
        timeout_seconds = min(left_seconds, self._settings.publish_try_timeout_seconds)
        try:
            reply = await self._transport.post(base, "/v1/events", body, headers, timeout_seconds)
            self._take_results(batch, pending, reply)
        except (TryAgain, BadAnswer) as error:
            batch.reason = str(error)
            return error
        except RequestRefused as error:
            if error.problem.status not in _WRONG_CONTENT_STATUSES:
                batch.error = error  # a wrong token or address says nothing about the events: they stay
                return None
            for event in pending:
                batch.settled[event.key] = Refused(id=event.id, problem=error.problem)
            return None
        if reply.retry_after_seconds is not None and reply.status < 500:
            return Busy(batch.reason, retry_after_seconds=reply.retry_after_seconds)
        return GatewayUnavailable(batch.reason, retry_after_seconds=reply.retry_after_seconds)

    def _take_results(self, batch: _Batch, pending: list[Event], reply: Reply) -> None:
        try:
            results = decode_results(reply.body).results
        except msgspec.MsgspecError as error:
            if reply.status >= 300:
                raise error_of(reply) from None
            raise BadAnswer(f"{reply.url} answered {reply.status} without results: {error}") from error
        if not results and reply.status >= 300:
            raise error_of(reply)
        ids_fit = all(result.id in (None, event.id) for result, event in zip(results, pending, strict=False))
        if len(results) != len(pending) or not ids_fit:
            raise BadAnswer(f"{reply.url} answered {len(results)} results that do not fit {len(pending)} events")
        if reply.status == 503:
            batch.reason = problem_of(reply).sentence()
        for event, result in zip(pending, results, strict=True):
            self._take_result(batch, event, result)

    def _take_result(self, batch: _Batch, event: Event, result: WireResult) -> None:
        if result.status == "accepted" and result.coordinates is not None:
            where = result.coordinates
            batch.settled[event.key] = Accepted(id=event.id, coordinates=where, stored=result.stored or "local")
            self._tokens.remember(event.body.user_or_none, where)
            self._acknowledged.note(event, where, self._clock.wall_ms())
        elif result.status == "refused" and result.problem is not None:
            if result.problem.status in _RETRIED_STATUSES:
                batch.reason = result.problem.sentence()
            else:
                batch.settled[event.key] = Refused(id=event.id, problem=result.problem)
        else:
            said = f"the gateway said {result.status!r}"
            batch.reason = result.problem.sentence() if result.problem else said
            if result.coordinates is not None:
                batch.stored[event.key] = result.coordinates
