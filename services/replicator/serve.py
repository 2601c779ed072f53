"""The replicator as a process: everything that runs beside the loop of decisions, and the order of start and end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp

from services.common.clock import Clock, SystemClock, random_bytes
from services.common.deployment import Deployment
from services.common.http import serving
from services.common.logging import get_logger
from services.common.region_settings import RegionSettings
from services.coordination.base import CoordinationError
from services.coordination.lives import Life
from services.coordination.opening import opened_lease_store
from services.coordination.settings import CoordinationSettings
from services.receipts.book import ReceiptBook
from services.receipts.holes import hole_receipt
from services.replicator.blocks import BlockSums
from services.replicator.client import HoleRequest
from services.replicator.compare import Comparison, Ledger, compare_with
from services.replicator.errors import HoleRefused, KafkaSilent
from services.replicator.held import tell
from services.replicator.lives_feed import OnLives, watch_lives
from services.replicator.peer import Peer
from services.replicator.positions import Place
from services.replicator.replicator import Replicator
from services.replicator.settings import ReplicatorSettings
from services.replicator.surface import new_app
from services.replicator.tail import Tail
from streams.logs import topics_of

PROGRESS_SECONDS = 2.0
PROGRESS_RECORDS_MIN = 1000
"""Copies that lack fewer records than this catch up before anybody could read about it."""
Feed = Callable[[OnLives], Awaitable[None]]
log = get_logger(__name__)


async def serve(
    region: RegionSettings,
    settings: ReplicatorSettings,
    coordination: CoordinationSettings,
    stop: asyncio.Event,
) -> None:
    """Run until `stop`. Raises SettingsError, and what a task failed with."""
    clock = SystemClock()
    async with opened_lease_store(region, coordination, clock) as store:

        async def feed(on_lives: OnLives) -> None:
            await watch_lives(store, on_lives, clock, settings.lives_interval_ms / 1000)

        process = ReplicatorProcess(region, region.load_deployment(), settings, clock)
        process.replicator.note_hole = hole_noter(ReceiptBook(store, region.data_dir / "receipts"), region.name, clock)
        await process.run(feed, stop)


def hole_noter(book: ReceiptBook, region: str, clock: Clock) -> Callable[[HoleRequest, Life], Awaitable[None]]:
    """Return what writes the receipt of a hole before there is one: a hole that no receipt lists would be a loss."""

    async def note(wanted: HoleRequest, life: Life) -> None:
        receipt = hole_receipt(
            life,
            wanted.log,
            wanted.partition,
            wanted.start,
            wanted.end,
            by=wanted.by,
            reason=wanted.reason,
            issued_by=region,
            now_ms=clock.unix_ms(),
        )
        try:
            await book.put(receipt)
        except CoordinationError as problem:
            raise HoleRefused(f"its receipt cannot be written: {problem}. Nothing was changed; ask again.") from problem
        log.warning("a receipt lists the hole", receipt=receipt.receipt_id)

    return note


class ReplicatorProcess:
    """The parts of one process. `feed` brings it the list of lives."""

    def __init__(
        self, region: RegionSettings, deployment: Deployment, settings: ReplicatorSettings, clock: Clock
    ) -> None:
        self._region = region
        self._settings = settings
        self._clock = clock
        self.replicator = Replicator(region, deployment, settings, clock)
        self._ledger = Ledger()
        self._tail: Tail | None = None

    async def run(self, feed: Feed, stop: asyncio.Event) -> None:
        """Run until `stop`. Raises what a task failed with."""
        app = new_app(self.replicator, self._ledger, random_bytes(6).hex(), self._alarm_notice)
        try:
            async with (
                serving(app, self._settings.host, self._region.replicator_port),
                aiohttp.ClientSession() as http,
            ):
                log.info("listening", url=self._region.replicator_url)
                await self._run_tasks(feed, http, stop)
        finally:
            if self._tail is not None:
                await asyncio.to_thread(self._tail.close)
            await self.replicator.close()

    async def _run_tasks(self, feed: Feed, http: aiohttp.ClientSession, stop: asyncio.Event) -> None:
        replicator = self.replicator
        async with asyncio.TaskGroup() as group:
            events = [asyncio.Event() for _ in replicator.peers]
            jobs: list[Awaitable[None]] = [
                feed(replicator.set_lives),
                replicator.run(),
                self._every(self._settings.own_interval_ms / 1000, self._look_at_own),
                self._every(self._settings.checkpoint_interval_ms / 1000, self._save),
                self._every(PROGRESS_SECONDS, self._show_progress),
                self._compare(http),
                _spread(replicator.advanced, events),
            ]
            for peer, advanced in zip(replicator.peers.values(), events, strict=True):
                jobs += [peer.poll(), peer.ask(http), self._tell(peer, http, advanced)]
            tasks = [group.create_task(_task(job)) for job in jobs]
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def _tell(self, peer: Peer, http: aiohttp.ClientSession, advanced: asyncio.Event) -> None:
        await tell(self.replicator, self._region.name, peer, self._settings, self._clock, http, advanced)

    async def _every(self, seconds: float, job: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._clock.sleep(seconds)
            await job()

    async def _look_at_own(self) -> None:
        try:
            await self.replicator.look_at_own()
        except KafkaSilent as silent:
            log.warning("the own Kafka does not answer", reason=str(silent))
        if self._tail is None and self.replicator.incarnation:
            logs = topics_of(self.replicator.incarnation)
            self._tail = await asyncio.to_thread(
                Tail, self._region.bootstrap, logs, self._region.partitions, self.replicator.checkpoints
            )

    async def _save(self) -> None:
        await asyncio.to_thread(self.replicator.save)
        if self._tail is not None:
            try:
                await asyncio.to_thread(self._tail.save)
            except OSError as error:
                log.error("the place in the own log cannot be kept", reason=str(error))

    def _sums(self) -> dict[Place, BlockSums]:
        """The blocks of every copy, and of the own log."""
        found = self.replicator.sums()
        if self._tail is not None:
            found |= {place: state.blocks for place, state in self._tail.states.items()}
        return found

    async def _compare(self, http: aiohttp.ClientSession) -> None:
        losses = self.replicator.losses
        comparisons = {name: Comparison(name) for name in self.replicator.peers}
        while True:
            self._ledger.collect(self._sums())
            if self.replicator.losses != losses:
                losses = self.replicator.losses
                comparisons = {name: Comparison(name) for name in self.replicator.peers}
            alarms = self.replicator.compare_alarms
            before = len(alarms)
            for name, peer in self.replicator.peers.items():
                await compare_with(comparisons[name], peer.site.url("replicator"), http, self._sums, alarms)
            if self._tail is not None:
                alarms |= {f"own {place[0]}/{place[1]}": text for place, text in self._tail.alarms.items()}
            if len(alarms) > before:
                log.error("regions differ", alarms=list(alarms.values())[before:])
            await self._clock.sleep(self._settings.checksums_interval_ms / 1000)

    async def _show_progress(self) -> None:
        report = self.replicator.report()
        missing = sum(found.lag_records for found in report.logs)
        if missing < PROGRESS_RECORDS_MIN:
            return
        held = self.replicator.records_held()
        eta = "unknown" if report.eta_seconds is None else f"{report.eta_seconds:.0f} s"
        log.info(
            "catching up",
            progress=f"{100 * held / (held + missing):.1f} %",
            records_missing=missing,
            records_per_second=report.records_per_second,
            time_left=eta,
        )

    def _alarm_notice(self) -> str | None:
        alarms = self.replicator.report().alarms
        return f"{len(alarms)} up, the first: {alarms[0]}" if alarms else None


async def _task(job: Awaitable[None]) -> None:
    await job


async def _spread(source: asyncio.Event, targets: list[asyncio.Event]) -> None:
    """Pass a news on to everybody who waits for it."""
    while True:
        await source.wait()
        source.clear()
        for target in targets:
            target.set()
