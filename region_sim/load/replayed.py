"""A shop's log as the load of a drill: said by one app with the library, and ranked in real time around the fault.

The app is the one of `meridian replay`: the catalogue and the first searches are only published; then each search asks
for a ranking before its click is said, at its own time, and the ranking is judged by that click. Its calls go into the
drill's history like those of any other client, so that the same checkers judge them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec

from models.errors import ModelError
from models.quality import QualityFigures, rank_of
from models.records import Source
from region_sim.errors import DrillBroken
from region_sim.history import Entry, HistoryWriter, Said
from region_sim.load.base import acked, conclude_publish
from region_sim.spec import Load
from services.client import (
    Accepted,
    Body,
    ClientSettings,
    Event,
    MeridianClient,
    MeridianError,
    Outcome,
    Ranking,
    Refused,
    SystemClock,
)
from services.client.client import Ack
from services.common.clock import Clock
from services.ledger.acks import AckWriter
from services.receipts.client import receipts
from services.receipts.model import Receipt
from services.replay.cli import open_log
from services.replay.errors import ReplayError
from services.replay.judge import Expected, Judge
from services.replay.latency import report as latency_report
from services.replay.player import Player
from services.replay.report import ranking_report
from services.replay.run import OUTBOX_EVENTS_MAX
from services.replay.script import Script, SearchStep, Step, split
from services.replay.tally import Tally

PROCESS: Final = "library-replay"
ACKS_FILE: Final = "acks.jsonl"
FIGURES_FILE: Final = "replay.json"
SPARE_SECONDS: Final = 180.0
"""The log must go on for so long after the searches that are to be ranked: until the drill stops its load."""
RECEIPT_POLL_SECONDS: Final = 0.25
TOLD_LINES: Final = 4
_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError)


class ReplayFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the app itself found: `replay.json` beside the history. None: not measured."""

    source: str
    events_acknowledged: int
    events_refused: int
    events_unknown: int
    events_republished: int
    rankings_asked: int
    rankings_served: int
    rankings_failed: int
    rankings_stale: int
    rungs: dict[str, int]
    failures: dict[str, int]
    outage_seconds: float
    p50_ms: float | None
    p99_ms: float | None
    judged: int
    quality: dict[str, QualityFigures]
    """By method: ours, popularity, query_table."""


class RecordedJudge(Judge):
    """Writes each rank down as it is judged, so that a report can tell rankings before, during and after a fault."""

    def __init__(self, history: HistoryWriter) -> None:
        super().__init__()
        self._history = history

    def take(self, place: int, expected: Expected, items: Sequence[str], rung: str) -> None:
        """See Judge. `note` of the entry: the rank of the item that was clicked, 0 for none."""
        super().take(place, expected, items, rung)
        if expected.clicked:
            rank = rank_of(items, expected.clicked)
            self._history.add("info", "judged", PROCESS, rung=rung, note=str(rank))


class RecordedClient(MeridianClient):
    """The library's client; every publish and every search is written down before it is made, and what came of it."""

    def __init__(self, urls: Sequence[str], source: str, history: HistoryWriter, clock: SystemClock) -> None:
        settings = ClientSettings(
            outbox_events_max=OUTBOX_EVENTS_MAX,
            connections_max=256,
            batches_in_flight_max=64,
            remember_users_max=OUTBOX_EVENTS_MAX,
        )
        super().__init__(urls, source=source, settings=settings, clock=clock)
        self._history = history
        self._open: dict[str, Said] = {}
        """Events whose fate is not known yet."""

    async def publish(
        self, events: Sequence[Body | Event], *, timeout_seconds: float | None = None, ack: Ack | None = None
    ) -> list[Outcome]:
        """See MeridianClient."""
        prepared = [event if isinstance(event, Event) else self.event(event) for event in events]
        said = [said_of(event) for event in prepared]
        invoke = self._history.add("invoke", "publish", PROCESS, said=said)
        try:
            outcomes = await super().publish(prepared, timeout_seconds=timeout_seconds, ack=ack)
        except MeridianError as error:
            ids = [one.id for one in said]
            conclude_publish(self._history, invoke, acks=[], refused=[], unknown=ids, error=str(error))
            raise
        self._conclude(invoke, said, outcomes)
        return outcomes

    async def flush(self, *, timeout_seconds: float | None = None) -> list[Outcome]:
        """See MeridianClient."""
        invoke = self._history.add("invoke", "publish", PROCESS, said=list(self._open.values()), note="flush")
        outcomes = await super().flush(timeout_seconds=timeout_seconds)
        known = [outcome for outcome in outcomes if outcome.id in self._open]
        self._conclude(invoke, [self._open[outcome.id] for outcome in known], known)
        return outcomes

    async def search(self, user: str, query: str, **options: Any) -> Ranking:
        """See MeridianClient."""
        event = Said(
            source=self._source, id=options["id"], time_ms=options["time_ms"], kind="search", user=user, query=query
        )
        invoke = self._history.add("invoke", "search", PROCESS, said=[event])
        try:
            answer = await super().search(user, query, **options)
        except MeridianError as error:
            text = f"{type(error).__name__}: {error}"
            self._history.add("info", "search", PROCESS, call=invoke.index, error=text)
            raise
        self._history.add(
            "ok",
            "search",
            PROCESS,
            call=invoke.index,
            region=answer.region,
            epoch=answer.epoch,
            rung=answer.rung,
            acks=[acked(event, answer.event)] if answer.event is not None else [],
        )
        return answer

    def _conclude(self, invoke: Entry, said: Sequence[Said], outcomes: Sequence[Outcome]) -> None:
        pairs = list(zip(said, outcomes, strict=True))
        unknown = [one for one, outcome in pairs if not isinstance(outcome, Accepted | Refused)]
        for one in said:
            self._open.pop(one.id, None)
        self._open.update({one.id: one for one in unknown})
        refusals = [outcome.problem.sentence() for outcome in outcomes if isinstance(outcome, Refused)]
        conclude_publish(
            self._history,
            invoke,
            acks=[acked(one, outcome.coordinates) for one, outcome in pairs if isinstance(outcome, Accepted)],
            refused=[one.id for one, outcome in pairs if isinstance(outcome, Refused)],
            unknown=[one.id for one in unknown],
            error=refusals[0] if refusals else "",
        )


def said_of(event: Event) -> Said:
    """An event as a history's invoke tells it."""
    body = event.body
    return Said(
        source=event.source,
        id=event.id,
        time_ms=event.time_ms,
        kind=body.kind,
        user=body.user_or_none or "",
        item=getattr(body, "item", None) or "",
        query=getattr(body, "query", None) or "",
    )


class Told:
    """How far a long piece of work is, in a few lines. See services.replay.progress."""

    def __init__(self, label: str, total: int, say: Callable[[str], None]) -> None:
        self._label, self._total, self._say = label, total, say
        self._done = self._told = 0

    def advance(self, count: int) -> None:
        """So much more is done."""
        self._done += count
        part = min(self._done, self._total) * TOLD_LINES // max(self._total, 1)
        if part > self._told:
            self._told = part
            self._say(f"{self._label}: {self._done:,} of {self._total:,}")


class ReplayedLoad:
    """Use with `async with`. Writes `acks.jsonl` and `replay.json` into `directory`."""

    def __init__(
        self,
        urls: Sequence[str],
        controls: Sequence[str],
        load: Load,
        history: HistoryWriter,
        clock: Clock,
        directory: Path,
        say: Callable[[str], None],
    ) -> None:
        """`controls`: addresses of controllers. Raises DrillBroken when the log cannot be read or is too short."""
        self._load, self._clock, self._directory, self._say = load, clock, directory, say
        self._controls = controls
        source = _opened(load)
        self._name = source.name
        script = Script(source)
        self._catalogue = script.catalogue()
        self._bulk, self._ranked = split(script.steps(limit=_searches(load)), load.bulk_searches)
        self._acks = AckWriter(directory / ACKS_FILE)
        self._tally = Tally(self._acks, clock.unix_ms)
        self._judge = RecordedJudge(history)
        client_clock = SystemClock()
        self._client = RecordedClient(urls, script.event_source, history, client_clock)
        self._player = Player(self._client, client_clock, self._tally, self._judge)
        self._playing: asyncio.Task[None] | None = None
        self._is_stopped = False
        self._republished = 0

    async def __aenter__(self) -> Self:
        self._acks.__enter__()
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._playing is not None and not self._playing.done():
            self._playing.cancel()
            await asyncio.wait([self._playing])
        await self._client.__aexit__(kind, error, trace)
        self._acks.__exit__(kind, error, trace)

    async def preload(self, seconds_max: float) -> str | None:
        """Publish the catalogue and the bulk part; why that cannot be ranked on, or None. Raises DrillBroken."""
        player = self._player
        try:
            await player.bulk(self._catalogue, Told("catalogue", len(self._catalogue), self._say))
            await player.flush()
            await player.bulk(self._bulk, Told("publish in bulk", len(self._bulk), self._say))
            await player.flush()
            first_ms = next((step.event.time_ms for step in self._ranked), 0)
            taken_in = await player.barrier(first_ms, seconds_max)
        except* (MeridianError, ReplayError) as problems:
            raise DrillBroken(f"the log could not be published: {problems.exceptions[0]}") from None
        return None if taken_in else "the bulk part has not been taken in"

    def start(self) -> None:
        """Begin to rank: an open loop that goes on until it is stopped."""
        load = self._load
        progress = Told("rank, then publish clicks", load.ranked_searches, self._say)
        self._playing = asyncio.create_task(self._player.ranked(self._until(), load.searches_per_second, progress))

    async def stop(self) -> None:
        """Go on until as many were ranked as are wanted, and return when all have their answer. Raises DrillBroken."""
        self._is_stopped = True
        if self._playing is None:
            return
        try:
            await self._playing
        except* (MeridianError, ReplayError) as problems:
            raise DrillBroken(f"the log could not be replayed: {problems.exceptions[0]}") from None

    async def settle(self, seconds_max: float) -> None:
        """Send again what nobody answered, and what a receipt names as lost; write down what was found."""
        await self._player.flush(seconds_max)
        for receipt in await self._closed_receipts(seconds_max):
            outcomes = await self._client.republish(msgspec.json.encode(receipt))
            self._republished += sum(isinstance(outcome, Accepted) for outcome in outcomes)
        (self._directory / FIGURES_FILE).write_bytes(msgspec.json.encode(self.figures()))

    def figures(self) -> ReplayFigures:
        """What the app found so far."""
        published, rankings = self._tally.report(), ranking_report(self._player)
        latency = latency_report(self._player.attempts)
        quality = self._judge.report()
        return ReplayFigures(
            source=self._name,
            events_acknowledged=published.acknowledged,
            events_refused=published.refused,
            events_unknown=published.unknown,
            events_republished=self._republished,
            rankings_asked=rankings.asked if rankings else 0,
            rankings_served=rankings.served if rankings else 0,
            rankings_failed=rankings.failed if rankings else 0,
            rankings_stale=rankings.stale if rankings else 0,
            rungs=rankings.rungs if rankings else {},
            failures=rankings.failures if rankings else {},
            outage_seconds=latency.outage_seconds,
            p50_ms=latency.p50_ms if latency.measured else None,
            p99_ms=latency.p99_ms if latency.measured else None,
            judged=quality.judged,
            quality={name: method.overall for name, method in quality.methods.items()} if quality.judged else {},
        )

    async def _closed_receipts(self, seconds_max: float) -> list[Receipt]:
        """All receipts once none of them is open, or as they stand when that takes too long."""
        deadline = self._clock.monotonic() + seconds_max
        async with aiohttp.ClientSession() as session:
            while True:
                found = await _receipts(session, self._controls)
                settled = found is not None and all(receipt.state != "open" for receipt in found)
                if settled or self._clock.monotonic() >= deadline:
                    return found or []
                await self._clock.sleep(RECEIPT_POLL_SECONDS)

    def _until(self) -> Iterator[Step]:
        """The ranked part, up to where the drill stops its load."""
        searches = 0
        for step in self._ranked:
            if isinstance(step, SearchStep):
                if self._is_stopped and searches >= self._load.ranked_searches:
                    return
                searches += 1
            yield step


async def _receipts(session: aiohttp.ClientSession, controls: Sequence[str]) -> list[Receipt] | None:
    """All receipts, as the first controller that answers knows them; None when none does."""
    for url in controls:
        try:
            return await receipts(session, url)
        except _FAILURES:
            continue
    return None


def _searches(load: Load) -> int:
    """How many searches may be said."""
    return load.bulk_searches + load.ranked_searches + int(load.searches_per_second * SPARE_SECONDS)


def _opened(load: Load) -> Source:
    """The log. Raises DrillBroken when it cannot be read or is too short."""
    wanted = load.bulk_searches + load.ranked_searches
    try:
        source = open_log(load.data, "", [], None, _searches(load))
    except (ModelError, ReplayError, OSError) as error:
        raise DrillBroken(f"load.data {load.data!r} cannot be replayed: {error}") from error
    if len(source.searches) < wanted:
        raise DrillBroken(
            f"{source.name} has {len(source.searches):,} searches, and this drill needs {wanted:,}: --set "
            "load.bulk_searches=N makes it less"
        )
    return source
