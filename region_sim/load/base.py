"""What every app does alike: say something once, and write down what became of it."""

from __future__ import annotations

from typing import Protocol

from region_sim.history import Entry, EntryType, HistoryWriter, Said
from region_sim.load.script import EventSaid, ItemSaid, SearchSaid
from region_sim.spec import Load
from services.client import Coordinates
from services.ledger.acks import Ack


class App(Protocol):
    """A client of the regions, under a name of its own."""

    process: str

    async def search(self, said: SearchSaid) -> None:
        """Ask for a ranking; the history tells what came of it."""

    async def publish(self, said: list[EventSaid]) -> None:
        """Publish events in one call; the history tells what came of it."""

    async def settle(self, timeout_seconds: float) -> None:
        """Find out what became of what nobody answered, if this kind of client does such a thing."""


def said_events(source: str, time_ms: int, events: list[EventSaid]) -> list[Said]:
    """Events as a history's invoke tells them."""
    return [
        Said(source=source, id=e.id, time_ms=time_ms, kind=e.kind, user=e.user, item=e.item, query=e.query)
        for e in events
    ]


def said_items(source: str, time_ms: int, items: list[ItemSaid]) -> list[Said]:
    """Catalogue entries as a history's invoke tells them."""
    return [Said(source=source, id=i.id, time_ms=time_ms, kind="item", item=i.item) for i in items]


def said_search(source: str, time_ms: int, search: SearchSaid) -> Said:
    """A search as a history's invoke tells it."""
    return Said(source=source, id=search.id, time_ms=time_ms, kind="search", user=search.user, query=search.query)


def acked(said: Said, at: Coordinates) -> Ack:
    """An acknowledgement: what was said, and where it lies."""
    return Ack(
        source=said.source,
        id=said.id,
        time_ms=said.time_ms,
        kind=said.kind,
        log=at.log,
        partition=at.partition,
        offset=at.offset,
        index=at.index,
        query=said.query,
        item=said.item,
        user=said.user,
    )


def search_acks(load: Load, said: Said, at: Coordinates | None) -> list[Ack]:
    """What a ranking promises of its search event: nothing, where only another region's copy counts as a promise."""
    return [] if at is None or load.search_ack != load.ack else [acked(said, at)]


def conclude_publish(
    history: HistoryWriter,
    invoke: Entry,
    *,
    acks: list[Ack],
    refused: list[str],
    unknown: list[str],
    url: str = "",
    error: str = "",
) -> None:
    """Complete a publish: ok when all was acknowledged, fail when nothing was kept for sure, info otherwise."""
    outcome: EntryType = "ok" if not refused and not unknown else "fail" if not acks and not unknown else "info"
    history.add(
        outcome,
        "publish",
        invoke.process,
        call=invoke.index,
        url=url,
        acks=acks,
        refused=refused,
        unknown=unknown,
        error=error,
    )
