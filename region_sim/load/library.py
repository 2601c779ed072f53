"""An app that uses Meridian's client library: it moves between regions and tries again by itself."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from region_sim.history import Entry, HistoryWriter, Said
from region_sim.load.base import acked, conclude_publish, said_events, said_items, said_search, search_acks
from region_sim.load.script import EventSaid, ItemSaid, SearchSaid
from region_sim.spec import Load
from services.client import (
    Accepted,
    Body,
    Cart,
    Click,
    ClientSettings,
    Event,
    Item,
    MeridianClient,
    MeridianError,
    Outcome,
    Purchase,
    Refused,
    View,
)
from services.common.clock import Clock
from services.ledger.acks import Ack

_BODIES: dict[str, type[Click | View | Cart | Purchase]] = {
    "click": Click,
    "view": View,
    "cart": Cart,
    "purchase": Purchase,
}


class LibraryApp:
    """Use with `async with`."""

    def __init__(self, process: str, urls: list[str], load: Load, history: HistoryWriter, clock: Clock) -> None:
        self.process = process
        self._source = f"/drill/{process}"
        self._load = load
        self._history = history
        self._clock = clock
        self._client = MeridianClient(
            urls,
            source=self._source,
            settings=ClientSettings(outbox_events_max=100_000, connections_max=256),
        )
        self._open: dict[str, Said] = {}
        """Events whose fate is not known yet."""

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def search(self, said: SearchSaid) -> None:
        """See App."""
        now_ms = self._clock.unix_ms()
        event = said_search(self._source, now_ms, said)
        invoke = self._history.add("invoke", "search", self.process, said=[event])
        try:
            answer = await self._client.search(
                said.user,
                said.query,
                id=said.id,
                time_ms=now_ms,
                timeout_ms=self._load.search_timeout_ms,
                ack=self._load.search_ack or None,
            )
        except MeridianError as error:
            # The search event may be in a log all the same; nobody was promised it.
            text = f"{type(error).__name__}: {error}"
            self._history.add("info", "search", self.process, call=invoke.index, error=text)
            return
        self._history.add(
            "ok",
            "search",
            self.process,
            call=invoke.index,
            region=answer.region,
            epoch=answer.epoch,
            rung=answer.rung,
            acks=search_acks(self._load, event, answer.event),
        )

    async def publish(self, said: list[EventSaid]) -> None:
        """See App."""
        now_ms = self._clock.unix_ms()
        bodies = [_BODIES[e.kind](user=e.user, item=e.item, query=e.query) for e in said]
        events = [self._client.event(body, id=e.id, time_ms=now_ms) for e, body in zip(said, bodies, strict=True)]
        await self._publish(events, said_events(self._source, now_ms, said))

    async def publish_items(self, items: list[ItemSaid]) -> None:
        """Publish the catalogue."""
        now_ms = self._clock.unix_ms()
        bodies: list[Body] = [Item(item=i.item, title=i.title, price=i.price) for i in items]
        events = [self._client.event(body, id=i.id, time_ms=now_ms) for i, body in zip(items, bodies, strict=True)]
        await self._publish(events, said_items(self._source, now_ms, items))

    async def settle(self, timeout_seconds: float) -> None:
        """Send again what nobody answered: the outbox still has it, under the same ids."""
        if not self._open:
            return
        invoke = self._history.add("invoke", "publish", self.process, said=list(self._open.values()), note="flush")
        outcomes = await self._client.flush(timeout_seconds=timeout_seconds)
        known = [outcome for outcome in outcomes if outcome.id in self._open]
        self._conclude(invoke, [self._open[outcome.id] for outcome in known], known)

    async def _publish(self, events: list[Event], said: list[Said]) -> None:
        invoke = self._history.add("invoke", "publish", self.process, said=said)
        try:
            outcomes = await self._client.publish(
                events, timeout_seconds=self._load.publish_timeout_seconds, ack=self._load.ack or None
            )
        except MeridianError as error:
            self._open.update({one.id: one for one in said})
            conclude_publish(
                self._history, invoke, acks=[], refused=[], unknown=[one.id for one in said], error=str(error)
            )
            return
        self._conclude(invoke, said, outcomes)

    def _conclude(self, invoke: Entry, said: list[Said], outcomes: list[Outcome]) -> None:
        acks: list[Ack] = []
        refused: list[str] = []
        unknown: list[str] = []
        error = ""
        for one, outcome in zip(said, outcomes, strict=True):
            self._open.pop(one.id, None)
            if isinstance(outcome, Accepted):
                acks.append(acked(one, outcome.coordinates))
            elif isinstance(outcome, Refused):
                refused.append(one.id)
                error = outcome.problem.sentence()
            else:
                self._open[one.id] = one
                unknown.append(one.id)
                error = outcome.reason
        conclude_publish(self._history, invoke, acks=acks, refused=refused, unknown=unknown, error=error)
