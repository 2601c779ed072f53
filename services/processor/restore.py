"""From what is on disk and in the log to a state that is up to date: snapshot or zero, replay, index."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from dataclasses import dataclass

from services.common.clock import Clock
from services.common.logging import get_logger
from services.common.region_settings import RegionSettings
from services.processor.logs import Logs, find_logs
from services.processor.settings import ProcessorSettings
from streams.dead_letter import ReplayUndertaker
from streams.errors import LogTruncated
from streams.fold import Fold
from streams.index import ReadIndex
from streams.position import Frontier
from streams.replay import Progress, replay
from streams.snapshot import load
from streams.state import State
from streams.truncation import LOOK_AGAIN_SECONDS, LOOKS_BEFORE_ALARM, LogUnreachableError, Place

log = get_logger(__name__)

RETRY_SECONDS = 0.2
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
    loaded(state)
    on_disk, known = state.frontier, state.tally.events
    loaded_at = clock.monotonic()
    fold = Fold(state)
    reports = _Reports(clock, progress, stopped)
    looks = 0
    undertaker = ReplayUndertaker(region.bootstrap, incarnation)
    while not stopped():
        progress("reading where the logs end")
        try:
            logs = await asyncio.to_thread(find_logs, region, incarnation, settings.broker_timeout_seconds)
            replayed = await asyncio.to_thread(
                replay,
                region.bootstrap,
                fold,
                logs.events,
                None,
                reports.replayed,
                undertaker.bury,
                answer_seconds=settings.broker_timeout_seconds,
                is_copy=logs.is_copy,
            )
            break
        except LogUnreachableError as problem:
            gc.enable()  # it may be a long wait
            progress(f"waiting for the broker: {problem}")
            log.warning("the broker does not answer, trying again", reason=str(problem))
            await clock.sleep(RETRY_SECONDS)
        except LogTruncated as cut:
            # A broker that has just come back may not know at once how far its log reaches; a cut does not heal.
            if looks >= LOOKS_BEFORE_ALARM:
                raise
            looks += 1
            log.warning("the log may have been cut, looking again", reason=str(cut))
            await clock.sleep(LOOK_AGAIN_SECONDS)
        except _StoppedError:
            break
    if stopped():
        return None
    for notice in replayed.notices:
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
    return Restored(state, fold, index, on_disk, logs, replayed.resume)


class _Reports:
    """Tells how far a replay is, once a second at most, and ends it when the process is to stop."""

    def __init__(self, clock: Clock, progress: Callable[[str], None], stopped: Callable[[], bool]) -> None:
        self._clock = clock
        self._progress = progress
        self._stopped = stopped
        self._logged_at = clock.monotonic()

    def replayed(self, so_far: Progress) -> None:
        """For `streams.replay`; called in its thread."""
        if self._stopped():
            raise _StoppedError
        percent = 100 * so_far.records // max(1, so_far.records_total)
        self._progress(f"replaying {percent} %")
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
