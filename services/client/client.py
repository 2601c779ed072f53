# ruff: noqa: A002 - arguments bear the names that the API gives them
"""`MeridianClient`: publish events, ask for rankings.

The one idea: an event is fixed (id, time, content) before its first try and never changes, so every retry,
over any gateway, is recognised as the same event. That turns "the answer got lost" from a question into a
repetition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
import msgspec

from .acknowledged import AcknowledgedEvents
from .answers import Coordinates, Outcome, Ranking, decode_ranking
from .clock import Clock, SystemClock
from .discovery import Discovery
from .epochs import Epoch, EpochFloor
from .errors import BadAnswer, ClientClosed, StaleAnswer, TryAgain
from .events import Body, Event, Search, rfc3339
from .gateways import Gateways, Round, base_of
from .outbox import Outbox
from .problems import error_of
from .publisher import HEADER_ACK, Publisher
from .receipts import Receipt, decode_receipt
from .retry import RetryPolicy
from .settings import ClientSettings
from .tokens import ReadTokens
from .transport import Transport

Ack = Literal["local", "remote", "bounded"]
After = Sequence[Coordinates] | None
ANSWER_TRAVEL_MS = 50
_JSON: Mapping[str, str] = {"Content-Type": "application/json"}
FilterValue = str | float | bool | Sequence[str] | Mapping[str, float]


class MeridianClient:
    """An app's connection to all regions. Use it with `async with`; one client serves any number of tasks."""

    def __init__(
        self,
        urls: Sequence[str] | str,
        *,
        source: str,
        token: str | None = None,
        settings: ClientSettings | None = None,
        retry: RetryPolicy | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._source = source
        self._token = token
        self._settings = settings or ClientSettings()
        self._retry = retry or RetryPolicy()
        self._clock: Clock = clock or SystemClock()
        self._gateways = Gateways([urls] if isinstance(urls, str) else urls, self._clock)
        self._epochs = EpochFloor()
        self._acknowledged = AcknowledgedEvents(self._settings.remember_acknowledged_max)
        self._outbox = Outbox(self._settings.outbox_events_max)
        self._tokens = ReadTokens(self._settings.remember_users_max)
        self._session: aiohttp.ClientSession | None = None
        self._transport: Transport | None = None
        self._publisher: Publisher | None = None
        self._discovery: Discovery | None = None

    def open_session(self) -> aiohttp.ClientSession:
        """Open what requests are made with; a subclass may bring its own."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        connector = aiohttp.TCPConnector(limit=self._settings.connections_max, keepalive_timeout=30)
        # The time-outs are this library's own: aiohttp's would count from somewhere else.
        no_timeout = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
        return aiohttp.ClientSession(connector=connector, headers=headers, timeout=no_timeout)

    async def __aenter__(self) -> Self:
        self._session = self.open_session()
        self._transport = Transport(self._gateways, self._clock, self._session)
        interval_seconds = self._settings.discovery_interval_seconds
        self._discovery = Discovery(self._transport, self._gateways, self._epochs, self._clock, interval_seconds)
        self._publisher = Publisher(
            self._transport,
            self._gateways,
            self._discovery,
            self._outbox,
            self._acknowledged,
            self._tokens,
            self._settings,
            self._retry,
            self._clock,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session, self._transport, self._publisher = self._session, None, None, None
        discovery, self._discovery = self._discovery, None
        if discovery is not None:
            await discovery.close()
        if session is not None:
            await session.close()

    @property
    def unacknowledged(self) -> int:
        """Events in the outbox."""
        return len(self._outbox)

    @property
    def gateways(self) -> tuple[str, ...]:
        """The gateways that are known: those that the app named, and those that they told of."""
        return self._gateways.urls

    @property
    def largest_epoch(self) -> Epoch | None:
        """The largest epoch seen; answers with a smaller one are refused. None before the first."""
        return self._epochs.largest

    @property
    def stale_answers(self) -> int:
        """Answers that were refused because a region gave them that was no longer active."""
        return self._epochs.stale_answers

    def read_token(self, user: str) -> tuple[Coordinates, ...]:
        """Coordinates of the user's newest acknowledged events: what `after` is by default."""
        return self._tokens.of(user)

    def event(self, body: Body, *, id: str | None = None, time_ms: int | None = None) -> Event:
        """Give a body its identity: an id (the app's or a new one), a time (its own or now), this source."""
        return Event(
            body=body,
            id=self._clock.new_id() if id is None else id,
            time_ms=self._clock.wall_ms() if time_ms is None else time_ms,
            source=self._source,
        )

    async def publish(
        self, events: Sequence[Body | Event], *, timeout_seconds: float | None = None, ack: Ack | None = None
    ) -> list[Outcome]:
        """Publish events and say for each, in order, what became of it.

        `ack`: when an event counts as accepted. `local`: its region's log has it; `remote`: another region has it too;
        `bounded`: as `local`, but not while the other regions are too far behind. None: as the gateway is set.

        Retries what can be retried until `timeout_seconds` have passed. A refused event is an outcome, not an
        exception. Raises OutboxFull or IdReused (nothing was kept), ClientClosed, and RequestRefused when the
        request would be refused whatever its events are, as with a wrong token (they stay in the outbox).
        """
        if self._publisher is None:
            raise ClientClosed("use `async with MeridianClient(...) as client:` around publish")
        prepared = [event if isinstance(event, Event) else self.event(event) for event in events]
        allowed_seconds = timeout_seconds or self._settings.publish_timeout_seconds
        return await self._publisher.publish(prepared, allowed_seconds, ack or "")

    async def republish(
        self,
        receipt: Receipt | bytes | str,
        *,
        include_unknown: bool = False,
        timeout_seconds: float | None = None,
        ack: Ack | None = None,
    ) -> list[Outcome]:
        """Publish again, with the same ids, those of the last acknowledged events that a receipt says were lost.

        `receipt` may be its JSON. `include_unknown` adds, while the receipt is open, what was acknowledged after the
        last contact: if it was not lost it counts once all the same. Raises BadReceipt, and what `publish` raises.
        """
        found = receipt if isinstance(receipt, Receipt) else decode_receipt(receipt)
        events = self._acknowledged.concerned(found, include_unknown=include_unknown)
        return await self.publish(events, timeout_seconds=timeout_seconds, ack=ack)

    async def flush(self, *, timeout_seconds: float | None = None) -> list[Outcome]:
        """Send every unacknowledged event again until the outbox is empty or the time is over.

        Returns the outcomes that this flush settled, and one `Unknown` for each event that is still waiting.
        """
        if self._publisher is None:
            raise ClientClosed("use `async with MeridianClient(...) as client:` around flush")
        return await self._publisher.flush(timeout_seconds or self._settings.publish_timeout_seconds)

    async def search(
        self,
        user: str,
        query: str,
        *,
        size: int = 10,
        filter: Mapping[str, FilterValue] | None = None,
        exclude: Sequence[str] = (),
        in_stock: bool = False,
        context: Mapping[str, str] | None = None,
        candidates: Sequence[str] | None = None,
        session: str | None = None,
        at_ms: int | None = None,
        after: After = None,
        id: str | None = None,
        time_ms: int | None = None,
        timeout_ms: int | None = None,
        ack: Ack | None = None,
    ) -> Ranking:
        """What should this user see for this query? Writes the search event itself: do not publish it again.

        `after` defaults to the user's newest acknowledged events; pass `()` to wait for none. `at_ms` is
        the time that the answer is for. `ack` is for the search event, as in `publish`. Raises RequestRefused,
        AnswerTooLate, GatewayUnavailable, StaleAnswer, Busy or BadAnswer.
        """
        event_ms = time_ms if time_ms is not None else at_ms if at_ms is not None else self._clock.wall_ms()
        event = self.event(Search(user=user, query=query, session=session), id=id, time_ms=event_ms)
        request: dict[str, object] = {
            "user": user,
            "query": query,
            "id": event.id,
            "source": event.source,
            "time": rfc3339(event_ms),
        }
        if candidates is not None:
            request["candidates"] = list(candidates)
        self._add_common(request, size, filter, exclude, in_stock, context, session, at_ms)
        headers = dict(_JSON) | ({HEADER_ACK: ack} if ack else {})
        ranking = await self._rank("/v1/search", request, user, after, timeout_ms, headers)
        if ranking.event is not None:
            self._acknowledged.note(event, ranking.event, self._clock.wall_ms())
        return ranking

    async def recommendations(
        self,
        user: str,
        *,
        size: int = 10,
        filter: Mapping[str, FilterValue] | None = None,
        exclude: Sequence[str] = (),
        in_stock: bool = False,
        context: Mapping[str, str] | None = None,
        session: str | None = None,
        at_ms: int | None = None,
        after: After = None,
        timeout_ms: int | None = None,
    ) -> Ranking:
        """What should this user see on the home page? Arguments and errors as for `search`."""
        request: dict[str, object] = {"user": user}
        self._add_common(request, size, filter, exclude, in_stock, context, session, at_ms)
        return await self._rank("/v1/recommendations", request, user, after, timeout_ms)

    async def similar(
        self,
        item: str,
        *,
        user: str | None = None,
        size: int = 10,
        filter: Mapping[str, FilterValue] | None = None,
        exclude: Sequence[str] = (),
        in_stock: bool = False,
        context: Mapping[str, str] | None = None,
        session: str | None = None,
        at_ms: int | None = None,
        after: After = None,
        timeout_ms: int | None = None,
    ) -> Ranking:
        """What is like this item? Arguments and errors as for `search`."""
        request: dict[str, object] = {"item": item}
        if user is not None:
            request["user"] = user
        self._add_common(request, size, filter, exclude, in_stock, context, session, at_ms)
        return await self._rank("/v1/similar", request, user, after, timeout_ms)

    @staticmethod
    def _add_common(
        request: dict[str, object],
        size: int,
        filter: Mapping[str, FilterValue] | None,
        exclude: Sequence[str],
        in_stock: bool,  # noqa: FBT001
        context: Mapping[str, str] | None,
        session: str | None,
        at_ms: int | None,
    ) -> None:
        optional: dict[str, object | None] = {
            "filter": dict(filter) if filter else None,
            "exclude": list(exclude) or None,
            "in_stock": in_stock or None,
            "context": dict(context) if context else None,
            "session": session,
            "at": None if at_ms is None else rfc3339(at_ms),
        }
        request["size"] = size
        request.update({name: value for name, value in optional.items() if value is not None})

    async def _rank(
        self,
        path: str,
        request: dict[str, Any],
        user: str | None,
        after: After,
        timeout_ms: int | None,
        headers: Mapping[str, str] = _JSON,
    ) -> Ranking:
        if self._transport is None or self._discovery is None:
            raise ClientClosed("use `async with MeridianClient(...) as client:` around requests")
        coordinates = self._tokens.of(user) if after is None else tuple(after)
        if coordinates:
            request["after"] = coordinates
        allowed_ms = timeout_ms or self._settings.ranking_timeout_ms
        deadline = self._clock.elapsed_seconds() + allowed_ms / 1000
        tries = Round(self._gateways, self._retry, self._clock)
        self._discovery.look()
        while True:
            left_seconds = self._try_seconds(deadline - self._clock.elapsed_seconds())
            # The gateway hears how long somebody listens, less what its answer needs to get here: so it can
            # still say why there is none.
            left_ms = left_seconds * 1000
            request["deadline_ms"] = max(int(left_ms - min(left_ms / 10, ANSWER_TRAVEL_MS)), 1)
            try:
                ranking = await self._ask(self._transport, tries.next(), path, request, headers, left_seconds)
                self._tokens.remember(user, ranking.event)
                return ranking
            except TryAgain as error:
                self._discovery.look(trouble=True)
                delay_seconds = tries.pause_seconds(error)
                if self._clock.elapsed_seconds() + delay_seconds >= deadline:
                    raise
                await self._clock.sleep(delay_seconds)
                if self._clock.elapsed_seconds() >= deadline:
                    raise  # the wait took longer than it should: nobody can be asked any more

    def _try_seconds(self, left_seconds: float) -> float:
        """How long one gateway may take: all the time there is, unless another one could be asked."""
        if len(self._gateways) == 1:
            return left_seconds
        return min(left_seconds, self._settings.ranking_try_timeout_ms / 1000)

    async def _ask(
        self,
        transport: Transport,
        base: str,
        path: str,
        request: Mapping[str, object],
        headers: Mapping[str, str],
        timeout_seconds: float,
    ) -> Ranking:
        reply = await transport.post(base, path, msgspec.json.encode(request), headers, timeout_seconds)
        if reply.status != 200:
            raise error_of(reply)
        try:
            ranking = decode_ranking(reply.body)
        except msgspec.MsgspecError as error:
            raise BadAnswer(f"{reply.url} answered 200 with something that is no ranking: {error}") from error
        if not self._epochs.accept(ranking.epoch):
            self._gateways.leave(base_of(reply.url))
            seen = f"{self._epochs.largest} has been seen"
            raise StaleAnswer(f"{reply.url} answered under epoch {ranking.epoch}, but {seen}: thrown away")
        return ranking
