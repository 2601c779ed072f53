"""One log that is copied: its partitions, who holds how much of it, and what is reported about it."""

from __future__ import annotations

from collections.abc import Mapping

from services.coordination.lives import Life
from services.gateway.client import HeldAnswer
from services.replicator.blocks import BLOCK_RECORDS
from services.replicator.checkpoint import Checkpoints, PartitionPoint, state_of
from services.replicator.client import LogReport, PartitionReport
from services.replicator.control import PartitionControl
from services.replicator.peer import Peer
from services.replicator.positions import Bounds, Place
from services.replicator.settings import ReplicatorSettings
from services.replicator.sources import Holder, limit_of, origin_blocker, reachable_end
from streams.truncation import LogEnd


class CopiedLog:
    """The copy of one log of another life. `peers` are the other regions by name."""

    def __init__(
        self,
        life: Life,
        name: str,
        partitions: int,
        peers: Mapping[str, Peer],
        settings: ReplicatorSettings,
    ) -> None:
        self.life = life
        self.name = name
        self.controls = [PartitionControl((name, partition), settings) for partition in range(partitions)]
        self.said: HeldAnswer | None = None
        """What the origin's gateway said last, and what was held when it was asked."""
        self.said_held: dict[int, int] = {}
        self._peers = peers
        self._saved: tuple[list[PartitionPoint], int] = ([], 0)

    @property
    def origin(self) -> Peer | None:
        """The region that wrote it, unless that is the own one."""
        return self._peers.get(self.life.region)

    def at_origin(self) -> bool:
        """Whether the Kafka of the origin's region is the one that wrote it."""
        return self.origin is not None and origin_blocker(self.life, self.origin.seen) is None

    def limit(self, partition: int) -> int | None:
        """See `sources.limit_of`."""
        return limit_of(self.life, self.name, partition)

    def holders(self, control: PartitionControl) -> list[Holder]:
        """Every region that holds the partition, or some of it."""
        partition, found = control.place[1], []
        for region, peer in self._peers.items():
            if region == self.life.region and peer.cluster_id in {"", self.life.cluster_id}:
                blocker = origin_blocker(self.life, peer.seen)
                found.append(Holder(region, is_origin=True, end=control.bounds.end, blocker=blocker))
                continue
            held = peer.held(self.name, partition)
            if held:
                blocker = None if peer.answers and peer.seen.reachable else f"{region} does not answer"
                found.append(Holder(region, is_origin=False, end=held, blocker=blocker))
        return found

    def load(self, checkpoints: Checkpoints) -> None:
        """Take what is on disk as where the first walk may begin."""
        points = checkpoints.load(self.name)
        # A replicator that starts while the origin is gone must still say when it was last heard.
        self.last_contact_ms = checkpoints.load_contact(self.name)
        for control in self.controls:
            point = points.get(control.place[1])
            if point is not None:
                before = point.last.end // BLOCK_RECORDS if point.last else 0
                control.known = state_of(point.last, checkpoints.load_blocks(self.name, point.partition, before))
                control.bounds = Bounds(tuple(point.bounds))
                control.topic_id = point.topic_id

    def save(self, checkpoints: Checkpoints) -> None:
        """Keep on disk where it is, if that has changed. Blocks. Raises OSError."""
        # Read before the bounds: these must be no older than the contact that they are kept with.
        contact_ms = self.last_contact_ms
        points, fresh = [], []
        for control in self.controls:
            state = control.state
            if state is None:
                return
            partition = control.place[1]
            # One read of `last`: deliveries go on meanwhile. A block that is completed after it is not loaded again.
            points.append(
                PartitionPoint(
                    partition=partition,
                    last=state.last,
                    bounds=list(control.bounds.seen),
                    topic_id=control.topic_id,
                )
            )
            while state.blocks.fresh:
                number = state.blocks.fresh.popleft()
                fresh.append((partition, number, state.blocks.done[number]))
        if (points, contact_ms) == self._saved and not fresh:
            return
        checkpoints.save(self.name, points, fresh, contact_ms)
        self._saved = (points, contact_ms)

    def take_ends(self, ends: Mapping[Place, LogEnd], asked_ms: int, now: float) -> None:
        """The origin was asked at `asked_ms` where the log ends: a contact only if it said so of every partition.

        What a receipt promises about the time of the last contact must hold for each of them: whatever was acknowledged
        before it is known here. A log that ends before where it was seen, or held, has lost records, and perhaps more
        than anybody knew: it says nothing about what was acknowledged since.
        """
        for control in self.controls:
            end = ends.get(control.place)
            if end is not None:
                control.saw_end(end, now)
            else:
                control.saw_no_topic(now)
        if all(control.place in ends and control.is_known and not control.is_short for control in self.controls):
            self.last_contact_ms = asked_ms

    def take_answer(self, answer: HeldAnswer, held: dict[int, int]) -> None:
        """The origin's gateway said what it acknowledged, when it heard that `held` is held."""
        if answer.incarnation == self.life.incarnation:
            self.said, self.said_held = answer, held

    def end_of(self, control: PartitionControl) -> int:
        """The largest end that the origin was ever seen at, by anybody who said so."""
        partition = control.place[1]
        said = self.said.partitions.get(partition) if self.said else None
        end = max(control.held, control.bounds.end, said.acknowledged_end if said else 0)
        for peer in self._peers.values():
            end = max(end, peer.origin_end(self.name, partition))
        return end

    def behind(self, control: PartitionControl, end: int | None = None) -> int:
        """Records that somebody holds or a living origin has, and we have not. `end`: of `end_of`, if known."""
        if self.life.sealed:
            able = reachable_end(self.limit(control.place[1]), self.holders(control))
            return max(0, able - control.held)
        return max(0, (self.end_of(control) if end is None else end) - control.held)

    def lag_events(self, control: PartitionControl, end: int | None = None) -> int | None:
        """Events that are missing here; None when the origin did not say how many. `end`: of `end_of`, if known."""
        end = self.end_of(control) if end is None else end
        if control.held >= end:
            return 0
        said = self.said.partitions.get(control.place[1]) if self.said else None
        if said is None or said.acknowledged_end < end:
            return None
        return said.events_after_held

    def counted_events(self, control: PartitionControl, end: int | None = None) -> int | None:
        """As `lag_events`, but only a count of exactly what is missing now: a receipt repeats it."""
        end = self.end_of(control) if end is None else end
        if control.held < end and self.said_held.get(control.place[1]) != control.held:
            return None
        return self.lag_events(control, end)

    def is_caught_up(self) -> bool:
        """Whether nothing that can be had is missing; not known before every other region was asked once."""
        return self._all_asked() and all(control.is_walked and self.behind(control) == 0 for control in self.controls)

    def report(self, now: float) -> LogReport:
        """What this log's part of the report is."""
        # Asked several times a second of every log that ever was: nothing is found out twice.
        ends = [self.end_of(control) for control in self.controls]
        behind = [self.behind(control, end) for control, end in zip(self.controls, ends, strict=True)]
        partitions = [self._partition(control, now, end) for control, end in zip(self.controls, ends, strict=True)]
        lags = [self.lag_events(control, end) for control, end in zip(self.controls, ends, strict=True)]
        sources = [control.flow.source for control in self.controls if control.flow and control.flow.ended is None]
        origin = self.origin
        return LogReport(
            log=self.name,
            origin=self.life.region,
            incarnation=self.life.incarnation,
            source=self.life.region if self.life.region in sources else next(iter(sources), ""),
            reachable=self.at_origin(),
            last_contact_ms=self.last_contact_ms if origin else 0,
            sealed=self.life.sealed,
            caught_up=self._all_asked() and not any(behind) and all(control.is_walked for control in self.controls),
            lag_records=sum(behind),
            lag_events=None if any(lag is None for lag in lags) else sum(lag or 0 for lag in lags),
            lag_seconds=self.lag_seconds(now),
            partitions=partitions,
            walked=all(control.is_known for control in self.controls),
        )

    last_contact_ms = 0
    """Unix ms before sending the last poll of the origin, as this life, that was answered."""

    def lag_seconds(self, now: float) -> float:
        """For how long any partition has been behind what its origin was seen at; 0 for a life that is over."""
        if self.life.sealed:
            return 0.0
        return round(max(control.lag.seconds(control.held, now) for control in self.controls), 3)

    def _all_asked(self) -> bool:
        return all(peer.was_asked for peer in self._peers.values())

    def _partition(self, control: PartitionControl, now: float, end: int) -> PartitionReport:
        last, held = control.state.last if control.state else None, control.held
        return PartitionReport(
            partition=control.place[1],
            held=held,
            origin_end=max(end, held),
            lag_events=self.counted_events(control, end),
            leader_epoch=last.leader_epoch if last else -1,
            checksum=f"{last.checksum:016x}" if last else "",
            alarm=control.alarm(now),
        )
