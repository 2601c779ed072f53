"""What is left of a log that was cut: for the record of the life that ends with it.

Whoever notices a cut knows, for each partition, the last record that it took and under which leader epoch. What stands
there now under a later epoch was written after the cut, so the first such record is where the genuine part ends. Epochs
only grow along a log: a few looks find it. Where nothing can be said, nothing counts as genuine: peers then hold what
they hold, and the receipt lists the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from confluent_kafka import Consumer

from services.common.clock import Clock
from services.common.logging import get_logger
from services.coordination.base import CoordinationError, KeyValueStore
from services.coordination.lives import LogCut, seal_life
from services.coordination.region_record import acknowledged_ends
from streams.broker_probe import BrokerProbe
from streams.locate import records_at
from streams.logs import consumer_settings, events_log
from streams.truncation import LogProbe, Mark, Place

log = get_logger(__name__)

UNKNOWN_EPOCH = -1


def cut_of(
    place: Place, mark: Mark, end: int, acknowledged_end: int, epoch_at: Callable[[int], int | None], *, shows: bool
) -> LogCut | None:
    """What was cut from one partition; None when nothing was.

    `end`: where it ends now; `shows`: whether it still shows the record at the mark; `epoch_at`: the leader epoch of
    the record at an offset below `end`.
    """
    known_end = max(mark.next_offset, acknowledged_end)
    if shows and end >= known_end:
        return None
    found = min(end, mark.next_offset) if not shows else end
    if not shows:
        found = 0 if mark.leader_epoch == UNKNOWN_EPOCH else first_after(mark.leader_epoch, found, epoch_at)
    return LogCut(log=place[0], partition=place[1], found=found, acknowledged_end=known_end)


def with_epoch(cut: LogCut, mark: Mark, end: int, leader_epoch: int, epoch_at: Callable[[int], int | None]) -> LogCut:
    """Add under which leader epoch it was written on: that of the first record behind the cut, or the one of now."""
    if mark.leader_epoch == UNKNOWN_EPOCH:
        return cut
    behind = epoch_at(cut.found) if cut.found < end else leader_epoch
    return cut if behind is None else msgspec.structs.replace(cut, leader_epoch=behind)


def first_after(leader_epoch: int, end: int, epoch_at: Callable[[int], int | None]) -> int:
    """The first offset below `end` whose record was written under a later epoch; `end` when there is none."""
    low, high = 0, end
    while low < high:
        middle = (low + high) // 2
        epoch = epoch_at(middle)
        if epoch is None or epoch > leader_epoch:
            high = middle
        else:
            low = middle + 1
    return low


def examine(
    bootstrap: str,
    marks: Mapping[Place, Mark],
    log_name: str,
    acknowledged: Mapping[int, int],
    timeout_seconds: float,
) -> list[LogCut]:
    """Look at every partition of a log that was cut. Blocks. Raises LogUnreachableError."""
    probe = BrokerProbe(bootstrap, f"{log_name}.cut-probe", timeout_seconds)
    consumer = Consumer(
        {**consumer_settings(bootstrap, f"{log_name}.cut"), "enable.partition.eof": True, "log_level": 2}
    )
    try:
        return examine_with(probe, consumer, marks, log_name, acknowledged, timeout_seconds)
    finally:
        consumer.close()


def examine_with(
    probe: LogProbe,
    consumer: Consumer,
    marks: Mapping[Place, Mark],
    log_name: str,
    acknowledged: Mapping[int, int],
    timeout_seconds: float,
) -> list[LogCut]:
    """As `examine`, with what asks the broker. `consumer` must report ends of partitions."""
    own = {place: mark for place, mark in marks.items() if place[0] == log_name and mark.next_offset > 0}
    own |= {(log_name, p): Mark(0, 0, UNKNOWN_EPOCH) for p in acknowledged if (log_name, p) not in own}
    cuts = []
    ends = probe.ends(own)
    for place, mark in sorted(own.items()):
        end = ends[place].next_offset if place in ends else 0

        def epoch_at(offset: int, place: Place = place) -> int | None:
            shown = records_at(consumer, {place: offset}, timeout_seconds).get(place)
            return None if shown is None else shown.leader_epoch

        shown = probe.checksum_at(place, mark.next_offset - 1) if end >= mark.next_offset > 0 else None
        shows = mark.next_offset == 0 or shown == mark.checksum
        cut = cut_of(place, mark, end, acknowledged.get(place[1], 0), epoch_at, shows=shows)
        if cut is not None:
            last = ends[place].leader_epoch if place in ends else UNKNOWN_EPOCH
            cuts.append(with_epoch(cut, mark, end, last, epoch_at))
    return cuts


async def acknowledged(store: KeyValueStore, incarnation: str) -> dict[int, int]:
    """The acknowledged ends of a life's events log; none when the store does not say."""
    try:
        return await acknowledged_ends(store, events_log(incarnation))
    except CoordinationError as problem:
        log.warning("the acknowledged ends are not known", reason=str(problem))
        return {}


async def seal(store: KeyValueStore, incarnation: str, because: str, cuts: list[LogCut], clock: Clock) -> bool:
    """Say that this life is over; whether the store took it. One that does not is told again at the next start."""
    try:
        await seal_life(store, incarnation, because, clock.unix_ms(), cuts)
    except CoordinationError as problem:
        log.error("the life could not be sealed; the next start tries again", reason=str(problem))
        return False
    log.error("the life is sealed", incarnation=incarnation, cuts=[f"{c.log}/{c.partition}@{c.found}" for c in cuts])
    return True
