"""The replicator of one region: for every life that is not its own current one, the logs are copied into its Kafka.

This is the shell around `control.py`: it knows who is there, walks, attaches flows to pumps, inspects origins and
raises no decision of its own. One loop does all of that; what takes long goes to threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.common.clock import Clock
from services.common.deployment import Deployment
from services.common.logging import get_logger
from services.common.region_settings import RegionSettings
from services.common.waiting import news_within
from services.coordination.lives import Life, current_lives, incarnations_to_subscribe
from services.replicator.blocks import BlockSums
from services.replicator.checkpoint import Checkpoints
from services.replicator.client import HoleRequest, ReplicationReport
from services.replicator.control import Act, PartitionControl
from services.replicator.copied_log import CopiedLog
from services.replicator.errors import HoleRefused, KafkaSilent
from services.replicator.holes import hole_blocker, write_hole
from services.replicator.kafka import KafkaSide
from services.replicator.peer import Peer
from services.replicator.positions import CopyState, Place
from services.replicator.progress import Rate, TokenBucket, eta_seconds
from services.replicator.pump import Pump
from services.replicator.settings import ReplicatorSettings
from services.replicator.sources import OriginShown, cluster_alarm
from services.replicator.target import Target
from services.replicator.walk import Walk, walk
from streams.logs import topics_of
from streams.truncation import LogEnd

_TICK_BUSY_SECONDS = 0.05
_FLUSH_SECONDS = 5.0
log = get_logger(__name__)


@dataclass(slots=True)
class _Carrier:
    """A peer and the pump that reads it."""

    peer: Peer
    pump: Pump


@dataclass(frozen=True, slots=True)
class Machinery:
    """What a replicator has of its machine: Kafka's clients, threads and files. The simulator gives other ones."""

    own: Callable[[str, float], KafkaSide] = KafkaSide
    peer: Callable[[str, float], KafkaSide] = KafkaSide
    target: Callable[[str, ReplicatorSettings, Callable[[], None]], Target] = Target
    pump: Callable[..., Pump] = Pump
    checkpoints: Callable[[Path], Checkpoints] = Checkpoints
    walk: Callable[[KafkaSide, Mapping[Place, CopyState | None], float], dict[Place, Walk]] = walk


_USUAL: Final = Machinery()


class Replicator:
    """Make it inside the event loop; `run` copies until it is cancelled, `close` lets go of everything."""

    def __init__(
        self,
        region: RegionSettings,
        deployment: Deployment,
        settings: ReplicatorSettings,
        clock: Clock,
        machinery: Machinery = _USUAL,
    ) -> None:
        self.region = region
        self._machinery = machinery
        self.own = machinery.own(region.bootstrap, settings.answer_seconds)
        self.checkpoints = machinery.checkpoints(region.data_dir / "replicator")
        self.logs: dict[str, CopiedLog] = {}
        self.lives: list[Life] = []
        self.incarnation = region.incarnation
        self.advanced = asyncio.Event()
        """Set whenever a copy has grown or a flow has ended; whoever waits for it clears it."""
        self.compare_alarms: dict[str, str] = {}
        """Differences of checksums that were found, by block."""
        self.phase = "the list of lives was not read yet"
        """Why nothing is copied yet; empty once something can be."""
        self.losses = 0
        """How often a copy had lost records: what was compared before says nothing about what is filled in again."""
        self._deployment = deployment
        self._settings = settings
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._woken = False
        self._target = machinery.target(region.bootstrap, settings, self.notify)
        self._carriers = self._make_carriers(TokenBucket(settings.bytes_per_second_max, clock.monotonic()))
        self._peers = {name: carrier.peer for name, carrier in self._carriers.items()}
        self._rate = Rate()
        self._controls: dict[Place, PartitionControl] = {}
        self._holes = asyncio.Lock()
        self.note_hole: Callable[[HoleRequest, Life], Awaitable[None]] | None = None
        """Called before a hole is written, to list it where losses are listed. Raises HoleRefused."""
        self._walk_trouble = ""

    @property
    def peers(self) -> Mapping[str, Peer]:
        """The other regions by name."""
        return self._peers

    def notify(self) -> None:
        """Something moved. Called from any thread."""
        if not self._woken and not self._loop.is_closed():
            self._woken = True
            self._loop.call_soon_threadsafe(self._on_notice)

    async def set_lives(self, lives: list[Life]) -> None:
        """Take the list of lives: begin to copy those that are new, and heed those that ended."""
        news, self.lives = lives != self.lives, lives
        if not self.incarnation:
            mine = current_lives(lives).get(self.region.name)
            self.incarnation = mine.incarnation if mine else ""
        for life in lives:
            if life.incarnation == self.incarnation:
                continue
            for name in topics_of(life.incarnation):
                if name in self.logs:
                    self.logs[name].life = life
                else:
                    await self._begin(life, name)
        if news:
            await self._make_topics()
        self.phase = ""
        self._wake.set()

    async def _begin(self, life: Life, name: str) -> None:
        copied = CopiedLog(life, name, self.region.partitions, self._peers, self._settings)
        await asyncio.to_thread(copied.load, self.checkpoints)
        self.logs[name] = copied
        self._controls |= {control.place: control for control in copied.controls}
        log.info("copying", log=name, origin=life.region, sealed=life.sealed)

    async def run(self) -> None:
        """Decide and act, until cancelled. Raises what a pump failed with."""
        await self._make_topics()
        while True:
            self._raise_failures()
            if self._target.broken:
                await self._renew_target()
            is_busy = await self._round()
            self._rate.add(self.records_held(), self._clock.monotonic())
            self._wake.clear()
            await news_within(self._wake, _TICK_BUSY_SECONDS if is_busy else self._settings.tick_ms / 1000)

    async def close(self) -> None:
        """End pumps and producer; what was sent is waited for, and positions are kept."""
        await asyncio.gather(*(asyncio.to_thread(carrier.pump.close) for carrier in self._carriers.values()))
        await asyncio.to_thread(self._target.close, _FLUSH_SECONDS)
        await asyncio.to_thread(self.save)

    def save(self) -> None:
        """Keep all positions on disk. Blocks."""
        for copied in list(self.logs.values()):
            try:
                copied.save(self.checkpoints)
            except OSError as error:
                log.error(
                    "a checkpoint cannot be written; the next start walks further", log=copied.name, why=str(error)
                )

    def records_held(self) -> int:
        """The sum of all positions: what the rate is measured by."""
        return sum(control.held for control in self._controls.values())

    def sums(self) -> dict[Place, BlockSums]:
        """Checksums of the blocks of every copy."""
        return {place: control.state.blocks for place, control in self._controls.items() if control.state is not None}

    @property
    def carried(self) -> tuple[int, int]:
        """Records and bytes of values that were copied since the start."""
        pumps = [carrier.pump for carrier in self._carriers.values()]
        return sum(pump.records for pump in pumps), sum(pump.bytes for pump in pumps)

    def walk_blocker(self) -> str | None:
        """Why it is not known yet where the copies stand; None when it is."""
        unknown = [f"{c.place[0]}/{c.place[1]}" for c in self._controls.values() if c.walks == 0]
        if not unknown:
            return None
        return f"{len(unknown)} copies were not walked yet, the first is {unknown[0]}. Is the region's Kafka up?"

    def cluster_alarms(self) -> list[str]:
        """Origins that are another cluster than their life was written on."""
        found = {
            cluster_alarm(copied.life, copied.origin.seen) for copied in self.logs.values() if copied.origin is not None
        }
        return sorted(text for text in found if text)

    def report(self) -> ReplicationReport:
        """What `GET /v1/replication` answers."""
        now = self._clock.monotonic()
        logs = [copied.report(now) for copied in self.logs.values()]
        alarms = [partition.alarm for found in logs for partition in found.partitions if partition.alarm]
        rate = self._rate.per_second()
        return ReplicationReport(
            region=self.region.name,
            incarnation=self.incarnation,
            at_ms=self._clock.unix_ms(),
            logs=logs,
            alarms=[*self.cluster_alarms(), *alarms, *self.compare_alarms.values()],
            records_per_second=round(rate, 1),
            eta_seconds=eta_seconds(sum(found.lag_records for found in logs), rate),
        )

    async def accept_hole(self, wanted: HoleRequest) -> int:
        """Write the hole that an operator accepts; return where in the copy it stands. Raises HoleRefused."""
        async with self._holes:
            control = self._controls.get((wanted.log, wanted.partition))
            blocker = hole_blocker(wanted, control, self.logs.get(wanted.log))
            if blocker is not None or control is None:
                raise HoleRefused(blocker or "unknown")
            if self.note_hole is not None:
                await self.note_hole(wanted, self.logs[wanted.log].life)
            where = await write_hole(self.region.bootstrap, wanted, self._settings.answer_seconds)
            control.hole_was_written(self._clock.monotonic())
            log.warning("a hole was accepted", log=wanted.log, partition=wanted.partition, start=wanted.start,
                        end=wanted.end, by=wanted.by, reason=wanted.reason)  # fmt: skip
            self._wake.set()
            return where

    async def look_at_own(self) -> None:
        """Hold the own copies against what was written to them. Raises KafkaSilent."""
        before = {
            place: control.state.copy_end
            for place, control in self._controls.items()
            if control.is_walked and control.state is not None and not (control.flow and control.flow.pending)
        }
        ends = await asyncio.to_thread(self.own.ends, before)
        for place, expected in before.items():
            control = self._controls[place]
            is_still = control.is_walked and not (control.flow and control.flow.pending)
            if is_still and control.state is not None and control.state.copy_end == expected:
                end = ends[place].next_offset if place in ends else 0
                if end != expected:
                    control.own_end_differs(end, self._clock.monotonic())
                    self._wake.set()

    async def _round(self) -> bool:
        """One decision for every partition; True when some of them wait for something that is about to happen."""
        now = self._clock.monotonic()
        walks, inspections, is_busy = [], [], False
        for copied in self.logs.values():
            origin = copied.origin
            for control in copied.controls:
                control.topic_id_now = origin.topic_ids.get(copied.name, "") if origin and copied.at_origin() else ""
                flow = control.flow
                act = control.step(now, copied.holders(control), copied.limit(control.place[1]))
                if flow is not None and flow.ended is not None:
                    is_busy = True
                    self._carriers[flow.source].pump.detach(flow)
                if act is Act.WALK:
                    walks.append(control)
                elif act is Act.ATTACH:
                    self._attach(copied, control)
                elif act is Act.INSPECT:
                    inspections.append(control)
        if walks:
            await self._walk(walks)
        for control in inspections:
            await self._inspect(control)
        return is_busy or bool(walks or inspections)

    def _attach(self, copied: CopiedLog, control: PartitionControl) -> None:
        assert control.chosen is not None
        carrier = self._carriers[control.chosen.region]
        flow = control.new_flow(carrier.peer.contact, copied.limit(control.place[1]))
        carrier.pump.attach(flow, self._target)

    async def _walk(self, controls: list[PartitionControl]) -> None:
        known = {control.place: control.known for control in controls}
        try:
            walks = await asyncio.to_thread(self._machinery.walk, self.own, known, self._settings.answer_seconds)
        except KafkaSilent as silent:
            if str(silent) != self._walk_trouble:
                log.warning("the own copies cannot be walked yet", reason=str(silent))
            self._walk_trouble = str(silent)
            await self._clock.sleep(self._settings.tick_ms / 1000)
            return
        if len(walks) < len(controls):
            await self._make_topics()
        now = self._clock.monotonic()
        for control in controls:
            found = walks.get(control.place)
            if found is not None:
                control.walked(found.state, found.lost, found.problem, now)
                self.losses += bool(found.lost)
                if found.lost or found.problem:
                    log.error("a copy is not what it was", lost=found.lost, problem=found.problem)

    async def _inspect(self, control: PartitionControl) -> None:
        assert control.chosen is not None
        kafka, place = self._peers[control.chosen.region].kafka, control.place
        shown: OriginShown | None = None
        try:
            lows = await asyncio.to_thread(kafka.lows, [place])
            ends = await asyncio.to_thread(kafka.ends, [place])
            end = ends[place].next_offset if place in ends else 0
            shown = OriginShown(lows.get(place, 0), end)
        except KafkaSilent as silent:
            log.warning("the origin cannot be looked at", reason=str(silent))
        now = self._clock.monotonic()
        control.inspected(shown, now)
        if control.is_stopped:
            log.error("a partition is not copied any further", reason=control.alarm(now))

    async def _make_topics(self) -> None:
        """Make the topics that are missing here, of copies and of the lives to come; most are made before the start."""
        try:
            there = await asyncio.to_thread(self.own.partition_counts)
            regions = [site.name for site in self._deployment.regions]
            coming = [name for life in incarnations_to_subscribe(self.lives, regions) for name in topics_of(life)]
            missing = [name for name in dict.fromkeys([*self.logs, *coming]) if name not in there]
            if missing:
                await asyncio.to_thread(self.own.make_topics, missing, self.region.partitions)
                log.info("made topics", logs=missing)
        except KafkaSilent as silent:
            log.warning("topics cannot be made", reason=str(silent))

    async def _renew_target(self) -> None:
        """The producer gave up for good: every copy is walked again, and a new producer goes on from there."""
        log.error("the producer gave up; the copies are walked and gone on with", reason=self._target.broken)
        fresh = self._machinery.target(self.region.bootstrap, self._settings, self.notify)
        broken, self._target = self._target, fresh
        await asyncio.to_thread(broken.drop)

    def _on_notice(self) -> None:
        self._woken = False
        self.advanced.set()
        if any(control.flow is not None and control.flow.ended is not None for control in self._controls.values()):
            self._wake.set()

    def _raise_failures(self) -> None:
        for carrier in self._carriers.values():
            if carrier.pump.failure is not None:
                raise carrier.pump.failure

    def _make_carriers(self, throttle: TokenBucket) -> dict[str, _Carrier]:
        found = {}
        for site in self._deployment.peers_of(self.region.name):

            def wanted(region: str = site.name) -> list[Place]:
                return self._places_from(region)

            def on_ends(ends: Mapping[Place, LogEnd], region: str = site.name) -> None:
                self._take_ends(region, ends)

            peer = Peer(site, self._settings, self._clock, wanted, on_ends, self._machinery.peer)
            pump = self._machinery.pump(
                site.name,
                site.bootstrap,
                self._settings,
                self._clock,
                is_fresh=peer.is_fresh,
                on_end=self.notify,
                throttle=throttle,
            )
            found[site.name] = _Carrier(peer, pump)
        return found

    def _places_from(self, region: str) -> list[Place]:
        """Partitions whose origin is the Kafka that `region` runs now."""
        cluster_id = self._peers[region].cluster_id
        return [
            control.place
            for copied in self.logs.values()
            if copied.life.region == region and copied.life.cluster_id == cluster_id
            for control in copied.controls
        ]

    def _take_ends(self, region: str, ends: Mapping[Place, LogEnd]) -> None:
        now, peer = self._clock.monotonic(), self._peers[region]
        for copied in self.logs.values():
            # A log that became known while the origin was being asked was not asked about.
            if copied.life.region == region and copied.at_origin() and copied.controls[0].place in peer.asked:
                copied.take_ends(ends, peer.last_contact_ms, now)
