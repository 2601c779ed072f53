"""The processor as a process: rebuild the state, then fold and answer until told to stop.

The order of the start is what makes a restart harmless: snapshot (or zero), replay to the end through the same fold,
indexes, a fresh consumer group at the frontier, and only then Faust. Whatever goes wrong while records are taken ends
the process, because a restart does all of this again and loses nothing; only what a restart cannot mend says so by its
exit code.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack, suppress

from services.common.clock import Clock, SystemClock, random_bytes
from services.common.http import serving
from services.common.logging import bind_process, get_logger
from services.common.metrics import new_registry
from services.common.process import LoadedSettings
from services.common.region_settings import RegionSettings
from services.common.tracing import SpanFigures, opened
from services.common.tracing_settings import TracingSettings
from services.coordination import KeyValueStore, StoreUnavailable
from services.coordination.opening import opened_store
from services.coordination.settings import CoordinationSettings
from services.processor.assembly import Assembly, assemble
from services.processor.cut_mark import read_mark, refuse_marked
from services.processor.cuts import acknowledged, examine, seal
from services.processor.identity import Identity, read_identity
from services.processor.live import marks_of
from services.processor.metrics import Figures, FiguresCollector, ProcessorMetrics
from services.processor.quiet import quieten
from services.processor.restore import Restored, restore
from services.processor.settings import ProcessorSettings
from services.processor.surface import Shown, Surface
from streams.app import drop_empty_groups, group_of, group_prefix, set_group_offsets
from streams.errors import CopyReplaced, LogTruncated
from streams.logs import events_log
from streams.state import State
from streams.truncation import LogUnreachableError, Place

log = get_logger(__name__)

TIDY_AFTER_SECONDS = 12.0
STORE_RETRY_SECONDS = 0.5


async def serve(loaded: LoadedSettings, stop: asyncio.Event) -> None:
    """Run until `stop` is set. Raises what ends the process; see the exit codes in `__main__`."""
    region, settings = loaded[RegionSettings], loaded[ProcessorSettings]
    assert isinstance(region, RegionSettings)
    assert isinstance(settings, ProcessorSettings)
    coordination = loaded[CoordinationSettings]
    assert isinstance(coordination, CoordinationSettings)
    tracing = loaded[TracingSettings]
    assert isinstance(tracing, TracingSettings)
    quieten(SystemClock().monotonic)
    registry = new_registry()
    tracer = opened("processor", tracing, region=region.name, incarnation=region.incarnation)
    registry.register(SpanFigures(tracer))
    surface = Surface(registry, tracer)
    async with serving(surface.web_app(), settings.host, region.processor_port) as port:
        log.info("listening, not ready yet", url=f"http://{settings.host}:{port}")
        clock = SystemClock()
        process = ProcessorProcess(region, settings, surface, ProcessorMetrics(registry), clock)
        registry.register(FiguresCollector(process.figures))
        async with opened_store(region, coordination, clock) as store:
            try:
                await process.run(store, stop)
            finally:
                await tracer.close()


class ProcessorProcess:
    """One start of a processor."""

    def __init__(
        self,
        region: RegionSettings,
        settings: ProcessorSettings,
        surface: Surface,
        metrics: ProcessorMetrics,
        clock: Clock,
    ) -> None:
        self._region = region
        self._settings = settings
        self._surface = surface
        self._metrics = metrics
        self._clock = clock
        self._assembly: Assembly | None = None
        self._state: State | None = None

    async def run(self, store: KeyValueStore, stop: asyncio.Event) -> None:
        """Start, work, stop; a life whose log was cut is sealed before its processor ends."""
        identity = await self._identify(store, stop)
        if identity is None:
            return
        try:
            refuse_marked(self._region.snapshot_dir)
            await self._run_as(identity, stop)
        except CopyReplaced:
            raise
        except LogTruncated as cut:
            if not self._region.is_alone:
                await self._end_life(store, identity.incarnation, str(cut))
            raise

    async def _identify(self, store: KeyValueStore, stop: asyncio.Event) -> Identity | None:
        while not stop.is_set():
            try:
                return await read_identity(self._region, store)
            except StoreUnavailable as away:
                self._surface.phase.sentence = f"waiting for the coordination store: {away}"
                await self._clock.sleep(STORE_RETRY_SECONDS)
        return None

    async def _end_life(self, store: KeyValueStore, incarnation: str, because: str) -> None:
        mark = read_mark(self._region.snapshot_dir)
        marks = mark.known if mark is not None and mark.marks else marks_of(self._state) if self._state else {}
        ends = await acknowledged(store, incarnation)
        log_name, timeout_seconds = events_log(incarnation), self._settings.broker_timeout_seconds
        try:
            cuts = await asyncio.to_thread(examine, self._region.bootstrap, marks, log_name, ends, timeout_seconds)
        except LogUnreachableError as problem:
            log.error("what is left of the log is not known; the next start looks again", reason=str(problem))
            return
        if cuts:
            await seal(store, incarnation, because, cuts, self._clock)
        else:
            log.error("nothing of the log is missing now, so the life is not sealed", incarnation=incarnation)

    async def _run_as(self, identity: Identity, stop: asyncio.Event) -> None:
        started = self._clock.monotonic()
        restored = await self._restore(identity.incarnation, stop)
        if restored is None:
            return
        self._surface.phase.sentence = "building the indexes"
        group = group_of(identity.region, identity.incarnation, random_bytes(4).hex())
        tracer = self._surface.tracer
        tracer.lives_as(identity.incarnation)
        bind_process(incarnation=identity.incarnation)
        assembly = assemble(identity, group, restored, self._region, self._settings, self._metrics, self._clock, tracer)
        self._assembly = assembly
        self._surface.show(
            Shown(
                identity=identity,
                state=restored.state,
                gate=lambda: assembly.leadership.gate.report(self._clock.unix_ms()),
                held=assembly.held,
                snapshots=assembly.snapshots,
                snapshot_dir=self._region.snapshot_dir,
                fold=assembly.fold_report,
                canaries=assembly.live.answerer.canaries,
            )
        )
        async with AsyncExitStack() as closing:
            closing.push_async_callback(assembly.close)
            await asyncio.gather(
                asyncio.to_thread(assembly.featurizer.warm_up, self._clock.unix_ms()),
                self._set_offsets(group, assembly.next_offsets(), stop),
            )
            if stop.is_set():
                return
            self._surface.phase.sentence = "starting Faust"
            gc.freeze()  # a collection must not walk the catalogue while somebody waits for an answer
            gc.enable()
            await assembly.app.start()
            self._add_checks(assembly)
            self._surface.phase.sentence = None
            log.info("started", seconds=round(self._clock.monotonic() - started, 2), group=group)
            await self._work(assembly, identity.region, identity.incarnation, stop)

    def figures(self) -> Figures | None:
        """For the metrics page."""
        return self._assembly.figures() if self._assembly is not None else None

    async def _restore(self, incarnation: str, stop: asyncio.Event) -> Restored | None:
        def progress(sentence: str) -> None:
            self._surface.phase.sentence = sentence

        def loaded(state: State) -> None:
            self._state = state

        return await restore(
            incarnation,
            self._region,
            self._settings,
            self._clock,
            progress=progress,
            loaded=loaded,
            stopped=stop.is_set,
        )

    async def _set_offsets(self, group: str, offsets: Mapping[Place, int], stop: asyncio.Event) -> None:
        timeout_seconds = self._settings.broker_timeout_seconds
        while not stop.is_set():
            try:
                await asyncio.to_thread(set_group_offsets, self._region.bootstrap, group, offsets, timeout_seconds)
            except LogUnreachableError as problem:
                gc.enable()  # it may be a long wait
                self._surface.phase.sentence = str(problem)
                log.warning("the broker does not answer, trying again", reason=str(problem))
                await self._clock.sleep(0.2)
            else:
                return

    def _add_checks(self, assembly: Assembly) -> None:
        health = self._surface.health
        health.add("faust", assembly.faust_blocker)
        health.add("broker", assembly.broker_blocker)
        health.add("log", assembly.log_blocker)
        health.add_notice("inference", assembly.inference_notice)
        health.add_notice("copies", assembly.copies_notice)
        health.add_notice("gate", assembly.leadership.blocker)

    async def _work(self, assembly: Assembly, region: str, incarnation: str, stop: asyncio.Event) -> None:
        """Run until told to stop, or until something fails; a failure is raised."""
        bootstrap = self._region.bootstrap

        async def tidy() -> None:
            # The group of a life that was killed is empty only after its session.
            await self._clock.sleep(TIDY_AFTER_SECONDS)
            prefix = group_prefix(region, incarnation)
            with suppress(LogUnreachableError):
                await asyncio.to_thread(drop_empty_groups, bootstrap, prefix, assembly.group, 5.0)

        work: list[Awaitable[object]] = [
            assembly.failure,
            assembly.watch_log(),
            assembly.watch_faust(),
            assembly.catalogue.run(),
            assembly.snapshots.run(),
            *assembly.leadership.tasks(),
            *([] if self._region.is_alone else [assembly.follow_lives()]),
        ]
        tasks = [asyncio.ensure_future(each) for each in work]
        stopping, tidying = asyncio.create_task(stop.wait()), asyncio.create_task(tidy())
        try:
            await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    outcome = task.result()
                    raise outcome if isinstance(outcome, BaseException) else RuntimeError("a part ended by itself")
            log.info("stopping")
            await assembly.stop_in_order()
        finally:
            for task in (*tasks, stopping, tidying):
                task.cancel()
