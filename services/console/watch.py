"""What the console knows, kept up to date by asking every site all the time, each on its own.

The lease is asked for by long polls, at every region's controller: whoever learns first of a takeover wakes the page,
and a region that hangs keeps nobody waiting but itself. Everything else is looked at once a second, and again at once
when a lease changes. Nothing here decides anything; `picture` makes one view of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import aiohttp
import msgspec

from services.common.clock import Clock
from services.common.deployment import Deployment, Site
from services.common.waiting import news_within
from services.console.asking import ANSWER_SECONDS, ASK_FAILED, Heard, Readiness, etcd_health, get, listens, readiness
from services.console.asking import words as words_of
from services.console.drills import SERVED, Drills, DrillsSeen
from services.console.said import ExplainSaid, LeaseSaid, StatusSaid
from services.console.settings import ConsoleSettings
from services.coordination.history import HistoryAnswer
from services.inference import asking as inference
from services.inference.report import ChampionReport
from services.receipts.client import ReceiptsAnswer
from services.replicator import client as replicator
from services.replicator.client import ReplicationReport

RETRY_SECONDS: Final = 0.25
RECORDS_SECONDS: Final = 5.0
"""How long a controller may take to read history or receipts."""
ENTRIES_MAX: Final = 40
CLOSED_RECEIPTS_MAX: Final = 20
SETTLE_SECONDS: Final = 1.0
"""What led to a change of the lease is written into the history a moment after it."""
LISTENERS: Final = {
    "gateway": "gateway",
    "processor": "processor",
    "inference": "inference",
    "replicator": "replicator",
    "controller": "control",
}
"""Our processes of a region, and where each listens."""
KAFKA: Final = "kafka"

T = TypeVar("T")


@dataclass(slots=True)
class RegionSeen:
    """What was last heard from one region."""

    lease: Heard[LeaseSaid] = field(default_factory=Heard)
    status: Heard[StatusSaid] = field(default_factory=Heard)
    explain: Heard[ExplainSaid] = field(default_factory=Heard)
    replication: Heard[ReplicationReport] = field(default_factory=Heard)
    champion: Heard[ChampionReport] = field(default_factory=Heard)
    processes: dict[str, Readiness] = field(default_factory=lambda: dict.fromkeys((*LISTENERS, KAFKA), Readiness()))
    lease_changed_at: float = float("-inf")
    """When the controller last said something new of the lease, on the console's monotonic clock."""


@dataclass(slots=True)
class Seen:
    """What was last heard from everybody."""

    regions: dict[str, RegionSeen]
    etcd: dict[str, Readiness]
    """By site, the witness included."""
    history: Heard[HistoryAnswer] = field(default_factory=Heard)
    receipts: Heard[ReceiptsAnswer] = field(default_factory=Heard)
    drills: DrillsSeen = field(default_factory=DrillsSeen)


class Watch:
    """`run` is its task; `seen` is what is known; `on_change` is called after everything that was heard."""

    def __init__(
        self,
        deployment: Deployment,
        session: aiohttp.ClientSession,
        clock: Clock,
        settings: ConsoleSettings,
        on_change: Callable[[], None],
    ) -> None:
        self.seen = Seen(
            regions={site.name: RegionSeen() for site in deployment.regions},
            etcd={site.name: Readiness() for site in deployment.sites},
        )
        self._deployment = deployment
        self._session = session
        self._clock = clock
        self._settings = settings
        self._on_change = on_change
        self._drills = Drills(settings.drills)
        self._lease_news = {name: asyncio.Event() for name in self.seen.regions}
        self._record_news = asyncio.Event()
        self._recorded_of: tuple[object, ...] = ()

    async def run(self) -> None:
        """Ask for ever."""
        async with asyncio.TaskGroup() as tasks:
            for site in self._deployment.regions:
                tasks.create_task(self._follow_lease(site))
                tasks.create_task(self._look_at_controller(site))
                tasks.create_task(self._look_at_processes(site))
                tasks.create_task(self._look_at_copies(site))
            for site in self._deployment.sites:
                tasks.create_task(self._look_at_etcd(site))
            tasks.create_task(self._read_records())
            tasks.create_task(self._look_at_drills())

    @property
    def _look_seconds(self) -> float:
        return self._settings.look_ms / 1000

    async def _follow_lease(self, site: Site) -> None:
        region, url = self.seen.regions[site.name], f"{site.url('control')}/v1/lease"
        wait_ms = self._settings.lease_wait_ms
        version: int | None = None
        while True:
            asked_at = self._clock.monotonic()
            params: dict[str, int] = {} if version is None else {"since": version, "wait_ms": wait_ms}
            limit = ANSWER_SECONDS + (wait_ms / 1000 if params else 0.0)
            try:
                said = await get(self._session, url, LeaseSaid, limit, **params)
            except ASK_FAILED as problem:
                region.lease, version = region.lease.failed(words_of(problem)), None
                self._on_change()
                await self._clock.sleep(RETRY_SECONDS)
                continue
            is_news = said.version != version
            # What did not change was kept for the whole wait, so the time left in it counts from there at the earliest.
            at_seconds = asked_at if is_news else asked_at + wait_ms / 1000
            region.lease = Heard(said, at_seconds, "")
            if is_news:
                version, region.lease_changed_at = said.version, self._clock.monotonic()
                self._lease_news[site.name].set()
            self._on_change()

    async def _look_at_controller(self, site: Site) -> None:
        region, url, news = self.seen.regions[site.name], site.url("control"), self._lease_news[site.name]
        while True:
            news.clear()
            region.status, region.explain = await asyncio.gather(
                self._ask(region.status, lambda: get(self._session, f"{url}/v1/status", StatusSaid)),
                self._ask(region.explain, lambda: get(self._session, f"{url}/v1/explain", ExplainSaid)),
            )
            self._wake_records()
            self._on_change()
            await news_within(news, self._look_seconds)

    async def _look_at_processes(self, site: Site) -> None:
        region = self.seen.regions[site.name]
        names = list(LISTENERS)
        while True:
            *found, kafka = await asyncio.gather(
                *(readiness(self._session, site.url(LISTENERS[name])) for name in names),
                listens(site.host, site.port("kafka")),
            )
            region.processes = {**dict(zip(names, found, strict=True)), KAFKA: kafka}
            self._on_change()
            await self._clock.sleep(self._look_seconds)

    async def _look_at_copies(self, site: Site) -> None:
        region = self.seen.regions[site.name]
        while True:
            region.replication, region.champion = await asyncio.gather(
                self._ask(region.replication, lambda: replicator.replication(self._session, site.url("replicator"))),
                self._ask(region.champion, lambda: inference.champion(self._session, site.url("inference"))),
            )
            self._on_change()
            await self._clock.sleep(self._look_seconds)

    async def _look_at_etcd(self, site: Site) -> None:
        while True:
            self.seen.etcd[site.name] = await etcd_health(self._session, site.url("etcd_client"))
            self._on_change()
            await self._clock.sleep(2 * self._look_seconds)

    async def _ask(self, before: Heard[T], question: Callable[[], Awaitable[T]]) -> Heard[T]:
        asked_at = self._clock.monotonic()
        try:
            return Heard(await question(), asked_at, "")
        except ASK_FAILED as problem:
            return before.failed(words_of(problem))

    def _wake_records(self) -> None:
        """The whole history is read, so only when something says that it has grown."""
        said = [region.status.value for region in self.seen.regions.values() if region.status.value is not None]
        operations = tuple(sorted((s.operation.operation_id, s.operation.state) for s in said if s.operation))
        pauses = tuple(sorted(s.pause.created_ms for s in said if s.pause))
        leases = tuple(
            region.lease.value.largest_epoch for region in self.seen.regions.values() if region.lease.value is not None
        )
        known = (operations, pauses, leases, tuple(s.receipts_open for s in said))
        if known != self._recorded_of:
            self._recorded_of = known
            self._record_news.set()

    async def _read_records(self) -> None:
        while True:
            self._record_news.clear()
            self.seen.history, self.seen.receipts = await asyncio.gather(
                self._first(self.seen.history, "/v1/history", HistoryAnswer, _newest),
                self._first(self.seen.receipts, "/v1/receipts", ReceiptsAnswer, _of_interest),
            )
            self._on_change()
            failed = self.seen.history.problem or self.seen.receipts.problem
            if await news_within(self._record_news, SETTLE_SECONDS if failed else self._settings.records_seconds):
                await self._clock.sleep(SETTLE_SECONDS / 2)

    async def _first(self, before: Heard[T], path: str, shape: type[T], cut: Callable[[T], T]) -> Heard[T]:
        """Ask one controller after the other; those that were heard last come first. Keep what `cut` leaves."""
        problems: list[str] = []
        sites = sorted(self._deployment.regions, key=lambda site: -self.seen.regions[site.name].lease.at_seconds)
        for site in sites:
            asked_at = self._clock.monotonic()
            try:
                found = await get(self._session, site.url("control") + path, shape, RECORDS_SECONDS)
            except ASK_FAILED as problem:
                problems.append(f"{site.name}: {words_of(problem)}")
            else:
                return Heard(cut(found), asked_at, "")
        return before.failed("; ".join(problems))

    async def _look_at_drills(self) -> None:
        while True:
            self.seen.drills = await asyncio.to_thread(self._drills.look)
            self._on_change()
            await self._clock.sleep(self._settings.drills_seconds)

    def drill_file(self, drill: str, run: str, name: str) -> tuple[bytes, str] | None:
        """Return a served file of a drill and its type, or None. Blocking: it reads the file. Raises OSError."""
        path = self._drills.file(drill, run, name)
        return None if path is None else (path.read_bytes(), SERVED[name])


def _newest(found: HistoryAnswer) -> HistoryAnswer:
    return msgspec.structs.replace(found, entries=found.entries[-ENTRIES_MAX:])


def _of_interest(found: ReceiptsAnswer) -> ReceiptsAnswer:
    """Those that are open, and the newest of the others, oldest first."""
    closed = [receipt for receipt in found.receipts if receipt.state != "open"][-CLOSED_RECEIPTS_MAX:]
    kept = {receipt.receipt_id for receipt in closed}
    return ReceiptsAnswer(receipts=[r for r in found.receipts if r.state == "open" or r.receipt_id in kept])
