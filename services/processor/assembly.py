"""Putting the parts of a processor together, and taking them apart in the right order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from models.catalogue import Catalogue
from models.encode import counters_score, popularity_score
from models.similar.blend import MODEL as SIMILAR
from models.similar.blend import counters_alone
from services.common.clock import Clock
from services.common.logging import get_logger
from services.common.region_settings import RegionSettings
from services.common.tracing import NO_TRACER, Tracer
from services.inference.client import InferenceClient
from services.processor.answering import Answerer
from services.processor.catalogue_follower import CatalogueFollower
from services.processor.client import FoldReport
from services.processor.cut_mark import leave_mark
from services.processor.features import ModelFeaturizer
from services.processor.fold_meter import FoldMeter
from services.processor.held_digests import HeldDigests
from services.processor.identity import Identity
from services.processor.ladder import Ladder, first_of
from services.processor.leadership import Leadership, lead, publisher
from services.processor.live import Live, marks_of
from services.processor.logs import KnownLogs, Logs, asker, find_logs
from services.processor.metrics import Figures, ProcessorMetrics
from services.processor.restore import Restored
from services.processor.settings import ProcessorSettings
from services.processor.snapshots import Snapshots
from services.processor.stall import DeliveryStalledError, StallDetector
from streams.agents import add_events_agent, read_also
from streams.app import DeliveringApp, FaustSettings, make_app
from streams.broker_probe import BrokerProbe
from streams.dead_letter import bury
from streams.delivery import Delivery, DeliveryError
from streams.errors import LogTruncated
from streams.intake import Intake
from streams.logs import events_log
from streams.state import State
from streams.truncation import EpochsSeen, LogUnreachableError, Place, Watch

log = get_logger(__name__)

RANKER = "ranker"
STOP_SECONDS = 3.0


@dataclass(slots=True)
class Assembly:
    """Everything that one running processor consists of."""

    group: str
    app: DeliveringApp
    watch: Watch
    seen: EpochsSeen
    leadership: Leadership
    live: Live
    catalogue: CatalogueFollower
    featurizer: ModelFeaturizer
    snapshots: Snapshots
    inference: InferenceClient
    similar: InferenceClient
    """Of the model of similar items."""
    delivery: Delivery
    failure: asyncio.Future[BaseException]
    region: RegionSettings
    settings: ProcessorSettings
    clock: Clock
    intake: Intake
    logs: KnownLogs
    held: HeldDigests

    def fold_report(self) -> FoldReport | None:
        """How far the fold is behind."""
        return None if self.live.fold is None else self.live.fold.report()

    def next_offsets(self) -> dict[Place, int]:
        """What is read next of each partition, as offsets of this region's Kafka; where the group starts."""
        return {place: self.intake.read_to.get(place, 0) for place in self.logs.now.places}

    def figures(self) -> Figures:
        """What the process looks like now."""
        return self.live.figures(
            self.group,
            self.next_offsets(),
            self.snapshots.age_seconds,
            gate_open=self.leadership.blocker() is None,
            leader_epoch=self.leadership.leader_epoch,
        )

    def faust_blocker(self) -> str | None:
        """Why no records come; None once the broker has answered a fetch."""
        return None if self.seen.last_answer_seconds is not None else "no fetch was answered yet"

    def broker_blocker(self) -> str | None:
        """Whether the broker still answers."""
        answered = self.seen.last_answer_seconds
        silent = self.clock.monotonic() - answered if answered is not None else 0.0
        limit = 2 * self.settings.silence_ms / 1000
        return f"no fetch was answered for {silent:.1f} s" if silent > limit else None

    def inference_notice(self) -> str | None:
        """Whether rankings come from the model; the lower rungs answer when they do not."""
        state = self.inference.breaker_state.value
        if state != "closed":
            return f"the worker is not asked (breaker {state}); counters answer"
        problem = self.live.answerer.model_problem
        return None if problem is None else f"the newest answer did not come from the model: {problem}"

    def copies_notice(self) -> str | None:
        """What is the matter with the copies of other logs; none of it keeps the region from working."""
        watch = self.watch
        found = [*watch.refused.values(), *self.intake.missing.values(), *watch.refilling.values()]
        return "; ".join(found) if found else None

    async def watch_log(self) -> None:
        """Look at the log's ends every so often, for ever. Raises LogTruncated, DeliveryStalledError."""
        stall = StallDetector(self.settings.stall_seconds)
        while True:
            await self.clock.sleep(self.settings.watch_interval_seconds)
            try:
                await self.watch.look()
            except LogUnreachableError as problem:
                self.live.unreachable(problem)
                continue
            ends = {place: end.next_offset for place, end in self.watch.ends.items()}
            reason = stall.stalled(self.clock.monotonic(), ends, self.next_offsets(), self.seen.last_answer_seconds)
            if reason is not None:
                raise DeliveryStalledError(f"{reason}; the processor starts again from its snapshot")

    async def follow_lives(self) -> None:
        """Read the logs of lives that begin while this runs, for ever. Their topics are made by others."""
        admin = asker(self.region)
        while True:
            await self.clock.sleep(self.settings.lives_interval_seconds)
            try:
                found = await asyncio.to_thread(
                    find_logs, admin, self.region, self.logs.now.own, self.settings.broker_timeout_seconds
                )
            except LogUnreachableError as problem:
                log.debug("the logs are not known", reason=str(problem))
                continue
            new = [name for name in found.incarnations if name not in self.logs.now.incarnations]
            if new:
                self.logs.now = replace(found, incarnations=(*self.logs.now.incarnations, *new))
                self.watch.places = tuple(self.logs.now.places)
                await read_also(self.app, self.logs.now.incarnations)
                log.info("reading the logs of more lives", incarnations=new)

    async def watch_faust(self) -> None:
        """Wait until Faust ends by itself, which it must not. Raises its reason."""
        await self.app.wait_until_stopped()
        raise DeliveryStalledError(f"Faust ended: {self.app.crash_reason}") from self.app.crash_reason

    def log_blocker(self) -> str | None:
        """Whether a log was cut."""
        return None if self.watch.cut is None else str(self.watch.cut)

    async def stop_in_order(self) -> None:
        """No more effects, no more records, then what is known is written down."""
        self.leadership.gate.end("the processor is stopping")
        await self.live.answerer.drain(0.2)
        await self._stop_faust()
        if self.watch.cut is None:
            await self.snapshots.save_now()

    async def close(self) -> None:
        """Let everything go; safe after any failure. A Faust that crashed is left alone: the process ends."""
        self.leadership.gate.end("the processor has ended")
        if not self.failure.done():
            await self._stop_faust()
        await self.live.answerer.drain(0)
        await self.inference.close()
        await self.similar.close()
        await self.leadership.close()
        await self.delivery.close(1.0)

    async def _stop_faust(self) -> None:
        if self.app.should_stop:
            return
        with suppress(TimeoutError, RuntimeError):
            await asyncio.wait_for(self.app.stop(), STOP_SECONDS)


def assemble(
    identity: Identity,
    group: str,
    restored: Restored,
    region: RegionSettings,
    settings: ProcessorSettings,
    metrics: ProcessorMetrics,
    clock: Clock,
    tracer: Tracer = NO_TRACER,
) -> Assembly:
    """Build a processor around a state that is up to date. Call it in the loop that it will run in."""
    state = restored.state
    seen = EpochsSeen(settings.silence_ms / 1000)
    failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    delivery = _delivery(region, settings, lambda error: _settle(failure, error))
    logs, known_logs = restored.logs, KnownLogs(restored.logs)
    watch = _watch(group, logs, state, seen, region, settings, clock)
    leadership = lead(group, known_logs, region, settings, clock)
    items = Catalogue(state.catalogue)
    featurizer = ModelFeaturizer(items, restored.index.read, settings.candidates_max)
    inference, similar = _clients(region, clock)
    catalogue = CatalogueFollower(items.follow, featurizer.text_index, settings.catalogue_interval_seconds, clock.sleep)
    live = Live(
        state=state,
        watch=watch,
        answerer=Answerer(
            region=identity.region,
            featurizer=featurizer,
            ladder=Ladder(inference.infer, counters_score, popularity_score),
            similar=Ladder(first_of(similar.infer, inference.infer), counters_alone, popularity_score),
            gate=leadership.gate,
            publish=publisher(leadership.rankings, identity.incarnation, metrics),
            frontier=lambda: state.frontier,
            clock=clock,
            limits=settings.ask_limits,
            observer=metrics,
            changes=catalogue,
            tracer=tracer,
        ),
        catalogue=catalogue,
        metrics=metrics,
        clock=clock,
        key_fingerprint=identity.key_fingerprint,
        asks_frame_max=settings.asks_frame_max,
        own_log=events_log(identity.incarnation),
    )
    intake = _intake(identity, restored, watch, seen, delivery, live, clock)
    app = make_app(_faust(region, group, settings), seen, clock.monotonic, partial(_is_passive, leadership))
    add_events_agent(app, list(logs.incarnations), intake, lambda error: _settle(failure, error))
    return Assembly(
        group=group,
        app=app,
        watch=watch,
        seen=seen,
        leadership=leadership,
        live=live,
        catalogue=catalogue,
        featurizer=featurizer,
        snapshots=_snapshots(restored, intake, watch, region, settings, clock),
        inference=inference,
        similar=similar,
        delivery=delivery,
        failure=failure,
        region=region,
        settings=settings,
        clock=clock,
        intake=intake,
        logs=known_logs,
        held=HeldDigests(intake, state, clock, lambda error: _settle(failure, error)),
    )


def _clients(region: RegionSettings, clock: Clock) -> tuple[InferenceClient, InferenceClient]:
    """Of the ranker, and of the model of similar items."""
    ranker, similar = (InferenceClient(region.inference_url, model=model, clock=clock) for model in (RANKER, SIMILAR))
    return ranker, similar


def _intake(
    identity: Identity,
    restored: Restored,
    watch: Watch,
    seen: EpochsSeen,
    delivery: Delivery,
    live: Live,
    clock: Clock,
) -> Intake:
    intake = Intake(
        fold=restored.fold,
        watch=watch,
        seen=seen,
        bury=partial(bury, delivery, identity.incarnation),
        observer=live,
        sleep=clock.sleep,
        monotonic=clock.monotonic,
        is_copy=restored.logs.is_copy,
        read_to=restored.read_to,
    )
    live.fold = FoldMeter(restored.state, lambda: intake.read_to, lambda: watch.ends, clock.monotonic)
    return intake


def _is_passive(leadership: Leadership) -> bool:
    return leadership.blocker() is not None


def _faust(region: RegionSettings, group: str, settings: ProcessorSettings) -> FaustSettings:
    return FaustSettings(bootstrap=region.bootstrap, group=group, fetch_wait_ms=settings.fetch_wait_ms)


def _delivery(
    region: RegionSettings, settings: ProcessorSettings, on_fatal: Callable[[DeliveryError], None]
) -> Delivery:
    return Delivery(
        region.bootstrap,
        delivery_timeout_ms=int(settings.delivery_timeout_seconds * 1000),
        queue_messages_max=settings.dead_letters_queue_max,
        on_fatal=on_fatal,
    )


def _watch(
    group: str,
    logs: Logs,
    state: State,
    seen: EpochsSeen,
    region: RegionSettings,
    settings: ProcessorSettings,
    clock: Clock,
) -> Watch:
    def on_cut(cut: LogTruncated) -> None:
        log.error("a log was cut", reason=str(cut))
        leave_mark(region.snapshot_dir, str(cut), clock.unix_ms(), marks_of(state))

    probe = BrokerProbe(region.bootstrap, f"{group}.probe", settings.broker_timeout_seconds)
    return Watch(
        probe,
        seen,
        lambda: marks_of(state),
        on_cut,
        sleep=clock.sleep,
        places=logs.places,
        is_copy=logs.is_copy,
    )


def _snapshots(
    restored: Restored,
    intake: Intake,
    watch: Watch,
    region: RegionSettings,
    settings: ProcessorSettings,
    clock: Clock,
) -> Snapshots:
    return Snapshots(
        restored.state,
        region.snapshot_dir,
        paused=intake.paused,
        clock=clock,
        interval_seconds=settings.snapshot_interval_seconds,
        copy_to=settings.snapshot_copy or None,
        may_write=lambda: watch.cut is None,
        written=restored.on_disk,
    )


def _settle(failure: asyncio.Future[BaseException], error: BaseException) -> None:
    if not failure.done():
        failure.set_result(error)
