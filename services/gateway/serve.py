"""One gateway from start to end.

It listens at once, so that probes and apps get a reason instead of a refused connection, and opens when the log is
proved whole: reachable, and not ending before what was acknowledged from it. It ends when it is asked to (everything
that was taken is written first, within a bound) or when the log turns out to be cut (at once, for an operator).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp

from services.common.clock import Clock, SystemClock, random_bytes
from services.common.health import Health
from services.common.http import serving
from services.common.logging import bind_process, get_logger
from services.common.metrics import new_registry
from services.common.own_ends import read_own_ends
from services.common.region_settings import RegionSettings
from services.common.tracing import NO_TRACER, Tracer, opened
from services.common.tracing_settings import TracingSettings
from services.coordination import CasConflict, KeyValueStore, StoreUnavailable
from services.coordination.region_record import acknowledged_ends, current_incarnation
from services.coordination.settings import CoordinationSettings
from services.gateway.acked_ends import WHAT_TO_DO, AckedEnds, Cut
from services.gateway.app import web_app
from services.gateway.canary import asks_processor
from services.gateway.core import Core, Send, write_out
from services.gateway.ends_keeper import EndsKeeper
from services.gateway.ends_recorder import EndsRecorder
from services.gateway.errors import BrokerUnreachable, EndsNotKept, LogCut, ProducerBroken
from services.gateway.events_log import EventsLog, Keeper, LogSettings, RecordSink
from services.gateway.inbox.desk import Inbox, NoInbox, make_inbox
from services.gateway.kafka import KafkaSink, LogShape
from services.gateway.metrics import GatewayMetrics
from services.gateway.processor_probe import ProcessorProbe
from services.gateway.pseudonym_key import open_pseudonyms
from services.gateway.rankings_tail import RankingsTail
from services.gateway.sealing import seal
from services.gateway.settings import GatewaySettings
from services.gateway.surroundings import Surroundings
from services.gateway.watermarks import Watermarks
from streams.events import EventReader
from streams.logs import events_log, rankings_log
from streams.pseudonym import Pseudonyms

RETRY_SECONDS: Final = 0.2
CUT_CONFIRMED_SECONDS: Final = 3.0
"""A broker that has just come back may not know its log's end at once; a cut does not heal."""
log = get_logger(__name__)
T = TypeVar("T")


async def serve(
    region: RegionSettings,
    settings: GatewaySettings,
    coordination: CoordinationSettings,
    tracing: TracingSettings,
    stop: asyncio.Event,
) -> None:
    """Run a gateway until `stop`. Raises LogCut, ProducerBroken, KeyMismatch, SettingsError."""
    async with AsyncExitStack() as stack:
        clock = SystemClock()
        tracer = opened("gateway", tracing, region=region.name, incarnation=region.incarnation, clock=clock)
        stack.push_async_callback(tracer.close)
        surroundings = await Surroundings.enter(stack, region, coordination, clock)
        await Gateway(region, settings, surroundings, clock, stop, Machinery(tracer=tracer)).run()


@asynccontextmanager
async def listening(
    core: Core, health: Health, region: RegionSettings, settings: GatewaySettings
) -> AsyncIterator[None]:
    """Serve the API over HTTP for the length of the block. Raises SettingsError when the address is taken."""
    app = web_app(core, health)
    limit_seconds = settings.shutdown_seconds
    async with serving(app, settings.host, region.gateway_port, shutdown_timeout_seconds=limit_seconds):
        yield


@dataclass(frozen=True, slots=True)
class Machinery:
    """What a gateway has of its machine: sockets, Kafka's client, files, chance. The simulator gives other ones."""

    shape: Callable[[str, float], LogShape] = LogShape
    sink: Callable[..., RecordSink] = KafkaSink
    own_ends: Callable[[Path, str], dict[int, int]] = read_own_ends
    keeper: Callable[[Path, str, int, AckedEnds, Callable[[str], None]], Keeper] = EndsKeeper
    inbox: Callable[..., Inbox | NoInbox] = make_inbox
    tail: Callable[[str, str, str, Core], RankingsTail] = RankingsTail
    listening: Callable[[Core, Health, RegionSettings, GatewaySettings], AbstractAsyncContextManager[None]] = listening
    send: Send = write_out
    session: Callable[[], aiohttp.ClientSession] = aiohttp.ClientSession
    metrics: Callable[[], GatewayMetrics] = lambda: GatewayMetrics(new_registry())
    pseudonyms: Callable[[Path, KeyValueStore], Awaitable[Pseudonyms]] = open_pseudonyms
    random_bytes: Callable[[int], bytes] = random_bytes
    tracer: Tracer = NO_TRACER


class Gateway:
    """The parts of one gateway process, and the order in which they start and end."""

    def __init__(
        self,
        region: RegionSettings,
        settings: GatewaySettings,
        surroundings: Surroundings,
        clock: Clock,
        stop: asyncio.Event,
        machinery: Machinery | None = None,
    ) -> None:
        self._machinery = machinery or Machinery()
        self._region = region
        self._settings = settings
        self._surroundings = surroundings
        self._store: KeyValueStore = surroundings.store
        self._clock = clock
        self._stop = stop
        self._shape = self._machinery.shape(region.bootstrap, settings.broker_timeout_seconds)
        self._failure: Exception | None = None
        self._cuts: list[Cut] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._reply_to = f"{region.name}-gateway-{self._machinery.random_bytes(6).hex()}"

    async def run(self) -> None:
        """Start, serve, end. Raises what ended it, unless it was asked to."""
        core = Core(
            self._settings,
            self._region.name,
            self._reply_to,
            self._machinery.metrics(),
            self._clock,
            self._surroundings.rights,
            self._surroundings.addresses,
            self._machinery.send,
            self._machinery.tracer,
        )
        health = Health()
        health.add("log", core.log_blocker)
        async with self._machinery.listening(core, health, self._region, self._settings):
            try:
                for step in self._surroundings.tasks(core):
                    self._start(core, step)
                await self._serve_open(core, health)
            finally:
                core.close("the gateway is stopping")
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failure is not None:
            raise self._failure

    async def _serve_open(self, core: Core, health: Health) -> None:
        key_file = self._region.pseudonym_key_file
        pseudonyms = await self._retried(core, lambda: self._machinery.pseudonyms(key_file, self._store))
        incarnation = await self._retried(core, lambda: self._incarnation(core))
        if pseudonyms is None or incarnation is None:
            return
        bind_process(incarnation=incarnation)
        core.tracer.lives_as(incarnation)
        core.directory.lives_as(incarnation)
        name = events_log(incarnation)
        partitions = await self._retried(core, lambda: self._shape.partitions(name))
        recorded = await self._retried(core, lambda: acknowledged_ends(self._store, name))
        if partitions is None or recorded is None:
            return
        own = self._machinery.own_ends(self._region.data_dir, name)
        ends = AckedEnds(name, {p: max(recorded.get(p, 0), own.get(p, 0)) for p in {*recorded, *own}})
        found = await self._retried(core, lambda: self._settled_ends(ends, name, partitions))
        if found is None:
            return
        if cuts := ends.compare(found):
            core.metrics.log_cut.set(1)
            await self._seal(incarnation, await self._dated(cuts, partitions))
            raise LogCut(f"{'; '.join(map(str, cuts))}. {WHAT_TO_DO}")
        ends.reach(found)
        core.acks.watermarks = Watermarks(name, found, self._settings.peer_fresh_seconds, core.acks.now())
        answers = rankings_log(incarnation)
        rankings_ends = await self._retried(core, lambda: self._rankings_ends(answers))
        if rankings_ends is None:
            return
        tail = self._machinery.tail(self._region.bootstrap, answers, self._reply_to, core)
        tail.start(rankings_ends)
        health.add("rankings", tail.blocker)
        try:
            shape = LogSettings(
                log=name,
                partitions=partitions,
                key_fingerprint=pseudonyms.fingerprint,
                limits=self._settings.frame_limits(),
                stall_seconds=self._settings.stall_seconds,
            )
            await self._serve_log(core, health, ends, shape, EventReader(pseudonyms))
            if self._cuts:
                proven = await self._dated(self._cuts, partitions)
                await self._seal(incarnation, [*proven, *await self._other_cuts(ends, name, partitions)])
        finally:
            await tail.close()

    async def _serve_log(
        self, core: Core, health: Health, ends: AckedEnds, shape: LogSettings, reader: EventReader
    ) -> None:
        sink: RecordSink = self._machinery.sink(
            self._region.bootstrap,
            shape.log,
            delivery_timeout_ms=self._settings.delivery_timeout_ms,
            queue_bytes_max=4 * self._settings.bytes_waiting_max,
            on_fatal=lambda cause: self._on_fatal(core, events, ends, cause),
        )
        keeper = self._machinery.keeper(
            self._region.data_dir, shape.log, shape.partitions, ends, lambda why: self._fail(core, EndsNotKept(why))
        )
        events: EventsLog = EventsLog(
            shape, sink, ends, keeper, core.metrics, lambda cut: self._on_cut(core, cut), core.acks.acknowledged
        )
        recorder = EndsRecorder(self._store, shape.log, ends, self._settings.ends_interval_seconds, core.metrics)
        interval_seconds = self._settings.processor_poll_ms / 1000
        probe = ProcessorProbe(self._region.processor_url, core.watch, interval_seconds, self._machinery.session)
        core.canaries.trail_of = asks_processor(self._machinery.session, self._region.processor_url)
        health.add("processor", lambda: core.processor_blocker(asyncio.get_running_loop().time()))
        life = shape.log.rpartition(".")[0]
        steps = self._surroundings.open_tasks(core, lambda: self._check_life(core, life))
        inbox = self._machinery.inbox(
            core,
            events,
            self._store,
            self._region.bootstrap,
            self._region.pseudonym_key_file,
            shape.key_fingerprint,
            recorder.record,
        )
        health.add_notice("inbox", inbox.notice)
        for step in (recorder.run(), probe.run(), inbox.run(), *steps):
            self._start(core, step)
        core.open(events, reader)
        log.info("open", log=shape.log, partitions=shape.partitions, port=self._region.gateway_port)
        try:
            await self._stop.wait()
        finally:
            if self._failure is None:
                await inbox.close()
            core.close("the gateway is stopping")
            await events.close(self._settings.shutdown_seconds)
            await recorder.record()

    def _start(self, core: Core, step: Coroutine[Any, Any, None]) -> None:
        """Run a part for as long as the gateway lives; one that ends by itself ends the gateway."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None and isinstance(error, Exception):
                self._fail(core, error)

        task = asyncio.create_task(step)
        task.add_done_callback(ended)
        self._tasks.append(task)

    def _check_life(self, core: Core, incarnation: str) -> None:
        """Somebody else (the processor, the region's next start) may have found that this life is over."""
        life = core.directory.life(incarnation)
        if life is not None and life.sealed:
            self._fail(core, LogCut(f"the life {incarnation} is over: {life.sealed_because}"))

    def _on_cut(self, core: Core, cut: Cut) -> None:
        core.metrics.log_cut.set(1)
        self._cuts.append(cut)
        self._fail(core, LogCut(f"{cut}. {WHAT_TO_DO}"))

    def _on_fatal(self, core: Core, events: EventsLog, ends: AckedEnds, cause: str) -> None:
        """The client gave up. A log that was cut under it is one reason: then the operator must know that."""
        core.close(f"the Kafka client gave up: {cause}")
        events.abandon(f"the Kafka client gave up: {cause}")

        async def find_out() -> None:
            found = await self._retried(core, lambda: self._settled_ends(ends, events.name, events.partitions))
            if found is None:
                return
            cuts = ends.compare(found)
            for cut in cuts:
                self._on_cut(core, cut)
            if not cuts:
                self._fail(core, ProducerBroken(f"the Kafka client gave up for good: {cause}"))

        self._finding_out = asyncio.ensure_future(find_out())

    def _fail(self, core: Core, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure
            log.error("taking nothing more", reason=str(failure))
        core.close(str(failure))
        self._stop.set()

    async def _seal(self, incarnation: str, cuts: list[Cut]) -> None:
        if not self._region.is_alone:
            await seal(self._store, incarnation, cuts, self._clock)

    async def _other_cuts(self, ends: AckedEnds, name: str, partitions: int) -> list[Cut]:
        """Where else the log was cut: partitions to which nothing was written since."""
        try:
            return ends.genuine(await self._shape.ends(name, partitions))
        except BrokerUnreachable as error:
            log.warning("where else the log was cut is not known", reason=str(error))
            return []

    async def _dated(self, cuts: list[Cut], partitions: int) -> list[Cut]:
        """The cuts, with the leader epoch of what comes behind them: it tells copies of that from genuine ones."""
        began = self._clock.monotonic()
        while True:
            try:
                epochs = await self._shape.epochs(cuts[0].log, partitions)
                break
            except BrokerUnreachable as error:
                if self._clock.monotonic() - began >= CUT_CONFIRMED_SECONDS:
                    log.warning("under which epoch the log was written on is not known", reason=str(error))
                    return cuts
            await asyncio.sleep(RETRY_SECONDS)
        return [replace(cut, leader_epoch=epochs.get(cut.partition, -1)) for cut in cuts]

    async def _settled_ends(self, ends: AckedEnds, name: str, partitions: int) -> dict[int, int]:
        """The log's ends; those that show a cut only after they kept doing so for a while."""
        began = self._clock.monotonic()
        found = await self._shape.ends(name, partitions)
        while ends.compare(found) and self._clock.monotonic() - began < CUT_CONFIRMED_SECONDS:
            await asyncio.sleep(RETRY_SECONDS)
            found = await self._shape.ends(name, partitions)
        return found

    async def _incarnation(self, core: Core) -> str:
        """The life to write. Raises BrokerUnreachable, StoreUnavailable, LogCut."""
        found = self._region.incarnation or await current_incarnation(self._store, self._region.name)
        if not found:
            raise BrokerUnreachable(f"{self._region.name} is in no incarnation yet; `meridian up` opens one")
        await self._surroundings.look(core)
        life = core.directory.life(found)
        if life is not None and life.sealed:
            raise LogCut(f"the life {found} is over: {life.sealed_because}")
        return found

    async def _rankings_ends(self, name: str) -> dict[int, int]:
        return await self._shape.ends(name, await self._shape.partitions(name))

    async def _retried(self, core: Core, step: Callable[[], Awaitable[T]]) -> T | None:
        """Try until it works; None when the gateway was asked to stop before. The phase says what is waited for."""
        while not self._stop.is_set():
            try:
                return await step()
            except (BrokerUnreachable, StoreUnavailable, CasConflict) as error:
                if core.phase != str(error):
                    log.info("waiting", reason=str(error))
                core.phase = str(error)
            try:
                await asyncio.wait_for(self._stop.wait(), RETRY_SECONDS)
            except TimeoutError:
                continue
        return None
