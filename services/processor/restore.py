"""From what is on disk and in the log to a state that is up to date: snapshot or zero, replay, index."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from dataclasses import dataclass

from services.common.clock import Clock
from services.common.logging import get_logger
from services.common.region_settings import RegionSettings
from services.processor.logs import Logs, asker, find_logs
from services.processor.rebuild import Copying, choose, fetch, find_peer
from services.processor.settings import ProcessorSettings
from streams.dead_letter import ReplayUndertaker
from streams.errors import LogTruncated
from streams.fold import Fold
from streams.index import ReadIndex
from streams.logs import events_log
from streams.position import Frontier
from streams.replay import Progress, ReplayResult, replay
from streams.snapshot import load
from streams.state import State
from streams.truncation import LOOK_AGAIN_SECONDS, LOOKS_BEFORE_ALARM, LogUnreachableError, Place

log = get_logger(__name__)

RETRY_SECONDS = 0.2
COPIES_SECONDS = 0.25
LOG_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Restored:
    """A state at the log's end."""

    state: State
    fold: Fold
    index: ReadIndex
    on_disk: Frontier
    """What the newest snapshot covers."""
    logs: Logs
    read_to: dict[Place, int]
    """By partition, the next offset of this region's Kafka to read."""


class _StoppedError(Exception):
    """The process was told to stop while it was replaying."""


async def restore(
    incarnation: str,
    region: RegionSettings,
    settings: ProcessorSettings,
    clock: Clock,
    *,
    progress: Callable[[str], None],
    loaded: Callable[[State], None],
    stopped: Callable[[], bool],
) -> Restored | None:
    """Rebuild the state; `progress` is told what is going on. None when `stopped` said so meanwhile.

    `loaded` is given the state as soon as there is one, before the replay.

    Waits for a broker that does not answer. Raises LogTruncated, LogGap, UnknownFrameVersion, DeliveryError.
    """
    started = clock.monotonic()
    progress("reading the snapshot")
    state = await asyncio.to_thread(_load, region, settings)
    on_disk, copying = state.frontier, None
    if not state.points and not region.is_alone:
        progress("asking the other regions for what they know")
        state, copying = await _begin_rebuild(state, incarnation, region, settings)
    loaded(state)
    known, loaded_at = state.tally.events, clock.monotonic()
    fold = Fold(state)
    replaying = _Replaying(incarnation, region, settings, clock, fold, _Reports(clock, progress, stopped))
    done = await replaying.run(copying)
    if done is None:
        return None
    for notice in done.notices:
        log.warning("a copy is not whole", reason=notice)
    replayed_at = clock.monotonic()
    progress("building the read index")
    fold.index = index = await asyncio.to_thread(ReadIndex, state)
    log.info(
        "restored",
        events=state.tally.events,
        replayed_events=state.tally.events - known,
        snapshot_seconds=round(loaded_at - started, 3),
        replay_seconds=round(replayed_at - loaded_at, 3),
        index_seconds=round(clock.monotonic() - replayed_at, 3),
    )
    return Restored(state, fold, index, on_disk, replaying.logs, done.resume)


async def _begin_rebuild(
    empty: State, incarnation: str, region: RegionSettings, settings: ProcessorSettings
) -> tuple[State, Copying | None]:
    """The state to go on from, and what the copies must hold before the rebuild is done."""
    peer = await find_peer(region)
    if peer is None:
        return empty, None
    how, why = choose(peer.offer, settings)
    log.info("rebuilding", how=how, why=why, peer=peer.name, events=peer.offer.events_now)
    state = await fetch(peer, region, settings) if how == "snapshot" else None
    return state or empty, Copying(peer.target(events_log(incarnation)), settings.rebuild_patience_seconds)


class _Replaying:
    """Replays until the state is at the end of the logs, and of what is still to be copied."""

    def __init__(
        self,
        incarnation: str,
        region: RegionSettings,
        settings: ProcessorSettings,
        clock: Clock,
        fold: Fold,
        reports: _Reports,
    ) -> None:
        self._region = region
        self._settings = settings
        self._clock = clock
        self._fold = fold
        self._reports = reports
        self._undertaker = ReplayUndertaker(region.bootstrap, incarnation)
        self._admin = asker(region)
        self._looks = 0
        self.logs = Logs(incarnation, (incarnation,), region.partitions)

    async def run(self, copying: Copying | None) -> ReplayResult | None:
        """Replay until nothing is left, also of `copying`; None when the process is to stop. Raises as `restore`."""
        while not self._reports.stopped():
            try:
                result = await self._once()
            except LogUnreachableError as problem:
                gc.enable()  # it may be a long wait
                self._reports.say(f"waiting for the broker: {problem}")
                log.warning("the broker does not answer, trying again", reason=str(problem))
                await self._clock.sleep(RETRY_SECONDS)
                continue
            except LogTruncated as cut:
                # A broker that has just come back may not know at once how far its log reaches; a cut does not heal.
                if self._looks >= LOOKS_BEFORE_ALARM:
                    raise
                self._looks += 1
                log.warning("the log may have been cut, looking again", reason=str(cut))
                await self._clock.sleep(LOOK_AGAIN_SECONDS)
                continue
            except _StoppedError:
                break
            now = self._clock.monotonic()
            if copying is None or copying.done(now, result.held):
                if copying is not None and copying.stuck(now):
                    log.warning("no copies come any more; going on with what is here", progress=copying.sentence(now))
                return result
            self._reports.copied(copying.sentence(now))
            await self._clock.sleep(COPIES_SECONDS)
        return None

    async def _once(self) -> ReplayResult:
        answer_seconds = self._settings.broker_timeout_seconds
        self._reports.reading()
        self.logs = await asyncio.to_thread(find_logs, self._admin, self._region, self.logs.own, answer_seconds)
        return await asyncio.to_thread(
            replay,
            self._region.bootstrap,
            self._fold,
            self.logs.events,
            None,
            self._reports.replayed,
            self._undertaker.bury,
            answer_seconds=answer_seconds,
            is_copy=self.logs.is_copy,
        )


class _Reports:
    """Tells how far a replay is, once a second at most, and ends it when the process is to stop."""

    def __init__(self, clock: Clock, progress: Callable[[str], None], stopped: Callable[[], bool]) -> None:
        self._clock = clock
        self.say = progress
        self.stopped = stopped
        self._logged_at = clock.monotonic()
        self._copying = ""

    def reading(self) -> None:
        """A replay begins."""
        if not self._copying:
            self.say("reading where the logs end")

    def copied(self, sentence: str) -> None:
        """How far the copies are; said once a second in the log."""
        self._copying = sentence
        self.say(sentence)
        if self._clock.monotonic() - self._logged_at >= LOG_SECONDS:
            self._logged_at = self._clock.monotonic()
            log.info(sentence)

    def replayed(self, so_far: Progress) -> None:
        """For `streams.replay`; called in its thread."""
        if self.stopped():
            raise _StoppedError
        percent = 100 * so_far.records // max(1, so_far.records_total)
        self.say(self._copying or f"replaying {percent} %")
        if self._clock.monotonic() - self._logged_at >= LOG_SECONDS:
            self._logged_at = self._clock.monotonic()
            log.info(
                "replaying",
                percent=percent,
                records=so_far.records,
                records_total=so_far.records_total,
                events=so_far.events,
            )


def _load(region: RegionSettings, settings: ProcessorSettings) -> State:
    found = load(
        region.snapshot_dir, settings.parameters, lambda reason: log.warning("snapshot skipped", reason=reason)
    )
    return State(settings.parameters) if found is None else found
