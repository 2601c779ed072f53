"""One gateway from start to end.

It listens at once, so that probes and apps get a reason instead of a refused connection, and opens when the log is
proved whole: reachable, and not ending before what was acknowledged from it. It ends when it is asked to (everything
that was taken is written first, within a bound) or when the log turns out to be cut (at once, for an operator).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from services.common.clock import Clock, SystemClock, random_bytes
from services.common.health import Health
from services.common.http import serving
from services.common.logging import get_logger
from services.common.metrics import new_registry
from services.common.region_settings import RegionSettings
from services.coordination import FileStore, KeyValueStore
from services.coordination.region_record import acknowledged_ends, current_incarnation
from services.gateway.acked_ends import WHAT_TO_DO, AckedEnds, Cut
from services.gateway.app import web_app
from services.gateway.core import Core
from services.gateway.ends_recorder import EndsRecorder
from services.gateway.errors import BrokerUnreachable, LogCut, ProducerBroken
from services.gateway.events_log import EventsLog, LogSettings
from services.gateway.kafka import KafkaSink, LogShape
from services.gateway.metrics import GatewayMetrics
from services.gateway.processor_probe import ProcessorProbe
from services.gateway.pseudonym_key import open_pseudonyms
from services.gateway.rankings_tail import RankingsTail
from services.gateway.settings import GatewaySettings
from streams.events import EventReader
from streams.logs import events_log, rankings_log

RETRY_SECONDS: Final = 0.2
log = get_logger(__name__)
T = TypeVar("T")


async def serve(region: RegionSettings, settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Run a gateway until `stop`. Raises LogCut, ProducerBroken, KeyMismatch, SettingsError."""
    await Gateway(region, settings, SystemClock(), stop).run()


class Gateway:
    """The parts of one gateway process, and the order in which they start and end."""

    def __init__(self, region: RegionSettings, settings: GatewaySettings, clock: Clock, stop: asyncio.Event) -> None:
        self._region = region
        self._settings = settings
        self._clock = clock
        self._stop = stop
        self._store: KeyValueStore = FileStore(region.coordination_file)
        self._shape = LogShape(region.bootstrap, settings.broker_timeout_seconds)
        self._failure: Exception | None = None
        self._reply_to = f"{region.name}-gateway-{random_bytes(6).hex()}"

    async def run(self) -> None:
        """Start, serve, end. Raises what ended it, unless it was asked to."""
        pseudonyms = await open_pseudonyms(self._region.pseudonym_key_file, self._store)
        core = Core(
            self._settings,
            self._region.name,
            EventReader(pseudonyms),
            self._reply_to,
            GatewayMetrics(new_registry()),
            self._clock,
        )
        health = Health()
        health.add("log", core.log_blocker)
        async with serving(
            web_app(core, health),
            self._settings.host,
            self._region.gateway_port,
            shutdown_timeout_seconds=self._settings.shutdown_seconds,
        ):
            try:
                await self._serve_open(core, health, pseudonyms.fingerprint)
            finally:
                core.close("the gateway is stopping")
        if self._failure is not None:
            raise self._failure

    async def _serve_open(self, core: Core, health: Health, key_fingerprint: str) -> None:
        incarnation = await self._retried(core, self._incarnation)
        if incarnation is None:
            return
        name = events_log(incarnation)
        partitions = await self._retried(core, lambda: self._shape.partitions(name))
        ends = AckedEnds(name, await acknowledged_ends(self._store, name))
        found = await self._retried(core, lambda: self._shape.ends(name, partitions or 0))
        if partitions is None or found is None:
            return
        if cuts := ends.compare(found):
            core.metrics.log_cut.set(1)
            raise LogCut(f"{'; '.join(map(str, cuts))}. {WHAT_TO_DO}")
        answers = rankings_log(incarnation)
        rankings_ends = await self._retried(core, lambda: self._rankings_ends(answers))
        if rankings_ends is None:
            return
        tail = RankingsTail(self._region.bootstrap, answers, self._reply_to, core.desk)
        tail.start(rankings_ends)
        health.add("rankings", tail.blocker)
        try:
            await self._serve_log(
                core,
                health,
                ends,
                LogSettings(
                    log=name,
                    partitions=partitions,
                    key_fingerprint=key_fingerprint,
                    limits=self._settings.frame_limits(),
                    stall_seconds=self._settings.stall_seconds,
                ),
            )
        finally:
            await tail.close()

    async def _serve_log(self, core: Core, health: Health, ends: AckedEnds, shape: LogSettings) -> None:
        sink = KafkaSink(
            self._region.bootstrap,
            shape.log,
            delivery_timeout_ms=self._settings.delivery_timeout_ms,
            queue_bytes_max=4 * self._settings.bytes_waiting_max,
            on_fatal=lambda cause: self._on_fatal(core, events, ends, cause),
        )
        events = EventsLog(shape, sink, ends, core.metrics, lambda cut: self._on_cut(core, cut))
        recorder = EndsRecorder(self._store, shape.log, ends, self._settings.ends_interval_seconds, core.metrics)
        probe = ProcessorProbe(self._region.processor_url, core.watch, self._settings.processor_poll_ms / 1000)
        health.add("processor", lambda: core.watch.blocker(asyncio.get_running_loop().time()))
        tasks = [asyncio.create_task(recorder.run()), asyncio.create_task(probe.run())]
        core.open(events)
        log.info("open", log=shape.log, partitions=shape.partitions, port=self._region.gateway_port)
        try:
            await self._stop.wait()
        finally:
            core.close("the gateway is stopping")
            await events.close(self._settings.shutdown_seconds)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await recorder.record()

    def _on_cut(self, core: Core, cut: Cut) -> None:
        core.metrics.log_cut.set(1)
        self._fail(core, LogCut(f"{cut}. {WHAT_TO_DO}"))

    def _on_fatal(self, core: Core, events: EventsLog, ends: AckedEnds, cause: str) -> None:
        """The client gave up. A log that was cut under it is one reason: then the operator must know that."""
        core.close(f"the Kafka client gave up: {cause}")
        events.abandon(f"the Kafka client gave up: {cause}")

        async def find_out() -> None:
            found = await self._retried(core, lambda: self._shape.ends(events.name, events.partitions))
            if found is None:
                return
            cuts = ends.compare(found)
            if cuts:
                self._on_cut(core, cuts[0])
            else:
                self._fail(core, ProducerBroken(f"the Kafka client gave up for good: {cause}"))

        self._finding_out = asyncio.ensure_future(find_out())

    def _fail(self, core: Core, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure
            log.error("taking nothing more", reason=str(failure))
        core.close(str(failure))
        self._stop.set()

    async def _incarnation(self) -> str:
        found = self._region.incarnation or await current_incarnation(self._store, self._region.name)
        if not found:
            raise BrokerUnreachable(
                f"{self._region.coordination_file} knows no incarnation yet; `meridian up` opens one"
            )
        return found

    async def _rankings_ends(self, name: str) -> dict[int, int]:
        return await self._shape.ends(name, await self._shape.partitions(name))

    async def _retried(self, core: Core, step: Callable[[], Awaitable[T]]) -> T | None:
        """Try until it works; None when the gateway was asked to stop before. The phase says what is waited for."""
        while not self._stop.is_set():
            try:
                return await step()
            except BrokerUnreachable as error:
                if core.phase != str(error):
                    log.info("waiting", reason=str(error))
                core.phase = str(error)
            try:
                await asyncio.wait_for(self._stop.wait(), RETRY_SECONDS)
            except TimeoutError:
                continue
        return None
