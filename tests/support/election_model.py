"""Regions without processes: the shipped decisions and election over a fake store, a gate each, and links that break.

Each region has a clock of its own that starts elsewhere, sees the store as it was when it last looked, and has a
processor that keeps acting on a promise until the promise ends or it asks again. What is held against it: never two
processors that act at once, never one epoch for two, nothing done while paused, nothing without a cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from services.controller.board import LeaseBoard
from services.controller.decide import decide
from services.controller.model import (
    CandidateStatus,
    DataPlane,
    Decision,
    GateSeen,
    Lag,
    LeaderSeen,
    Limits,
    Now,
    Operation,
    OperationSeen,
    Pause,
    StoreView,
    View,
)
from services.controller.perform import Performer
from services.coordination.base import CoordinationError, StoreUnavailable, Versioned
from services.coordination.election import Candidacy, Election, read_leader
from services.coordination.epoch_seen import EpochSeen
from services.coordination.fence import FenceTimes
from services.coordination.keys import GENERATION, LEADER, OPERATION_OPEN, PAUSE
from services.coordination.lease import NO_LEASE, Guard, Lease
from services.coordination.memory import MemoryStore
from tests.support.turned_clock import TurnedClock

LIMITS = Limits()
EPOCH_CLOSED = (-1, -1)


class Link(MemoryStore):
    """One region's way to the store: it can be cut, and answers can get lost on it alone, or come late."""

    def __init__(self, store: MemoryStore, turn: Callable[[float], None]) -> None:
        super().__init__()
        self._real = store
        self._turn = turn
        self.cut = False
        self.lose = 0
        self.late_seconds = 0.0
        """How long the next answer is on its way, or its asker stopped."""

    def _out(self) -> None:
        if self.cut:
            raise StoreUnavailable("the link is cut")

    def _back(self) -> None:
        late_seconds, self.late_seconds = self.late_seconds, 0.0
        self._turn(late_seconds)
        if self.lose > 0:
            self.lose -= 1
            raise StoreUnavailable("the answer was lost")

    async def get(self, key: str) -> Versioned | None:
        self._out()
        found = await self._real.get(key)
        self._back()
        return found

    async def list(self, prefix: str) -> list[Versioned]:
        self._out()
        return await self._real.list(prefix)

    async def compare_and_put(
        self,
        key: str,
        value: bytes,
        expected_revision: int,
        *,
        lease_id: int = NO_LEASE,
        guard: Guard | None = None,
        lasting_copy: str = "",
    ) -> Versioned:
        self._out()
        written = await self._real.compare_and_put(
            key, value, expected_revision, lease_id=lease_id, guard=guard, lasting_copy=lasting_copy
        )
        self._back()
        return written

    async def compare_and_delete(self, key: str, expected_revision: int) -> None:
        self._out()
        await self._real.compare_and_delete(key, expected_revision)
        self._back()

    async def grant(self, ttl_seconds: float) -> Lease:
        self._out()
        lease = await self._real.grant(ttl_seconds)
        self._back()
        return lease

    async def keep_alive(self, lease_id: int) -> float:
        self._out()
        ttl = await self._real.keep_alive(lease_id)
        self._back()
        return ttl

    async def revoke(self, lease_id: int) -> None:
        self._out()
        await self._real.revoke(lease_id)
        self._back()

    async def revision(self) -> int:
        self._out()
        return await self._real.revision()


@dataclass
class Promise:
    """What a region's processor goes by."""

    epoch: tuple[int, int] = EPOCH_CLOSED
    until: float = float("-inf")


@dataclass
class Region:
    """One region of the model."""

    name: str
    clock: TurnedClock
    link: Link
    seen: EpochSeen
    regions: tuple[str, ...]
    starts: int = 0
    promise: Promise = field(default_factory=Promise)
    data: DataPlane = field(default_factory=lambda: DataPlane(sick=None, lag=Lag(unknown=""), champion=None))
    store_view: StoreView = field(default_factory=StoreView)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """The controller process begins anew; the processor keeps its promise."""
        self.starts += 1
        self.instance = f"{self.name}-{self.starts}"
        times = FenceTimes(0.001, LIMITS.quiesce_seconds)
        self.election = Election(self.link, self.clock, self.seen, 2.0, times)
        who = Candidacy(self.name, self.instance, f"http://{self.name}", "")
        self.performer = Performer(self.link, self.clock, self.election, who, LIMITS.hold_down_seconds)
        self.board = LeaseBoard(self.view, self.clock, lambda: self.election.seen.epoch)

    def view(self) -> View:
        """What it knows."""
        return View(
            region=self.name,
            instance=self.instance,
            regions=self.regions,
            store=self.store_view,
            term=self.performer.term(self.board.promised_until),
            data=self.data,
            hold_down_until=self.performer.hold_down_until,
            hold_down_because=self.performer.hold_down_because,
        )

    def acts(self) -> bool:
        """Whether its processor would show an effect now."""
        return self.promise.epoch != EPOCH_CLOSED and self.clock.boottime() < self.promise.until

    def ask_lease(self) -> None:
        """The processor asks its controller, and goes by the answer."""
        asked_at = self.clock.boottime()
        answer = self.board.answer()
        until = asked_at + answer.remaining_ms / 1000
        self.promise = Promise(answer.epoch, until) if answer.active else Promise()

    def look_at_gate(self) -> None:
        """The controller asks the processor."""
        now = self.clock.boottime()
        before = self.data.gate.shut_asks if self.data.gate is not None else ()
        gate = GateSeen(self.acts(), self.promise.epoch, "", now, () if self.acts() else (*before, now)[-32:])
        self.data = replace(self.data, gate=gate, acknowledged_at=self.clock.boottime())

    async def cycle(self) -> Decision:
        """Decide on what was last seen, and do it."""
        leader = self.store_view.leader
        entry = None
        if leader is not None:
            raw = msgspec.json.encode(leader.record)
            entry = Versioned(LEADER, raw, leader.create_revision, leader.create_revision)
        if self.store_view.confirmed_at > float("-inf"):
            self.election.heed(entry, self.store_view.generation, self.store_view.revision)
        now = Now(self.clock.boottime(), self.clock.unix_ms())
        decision = decide(self.view(), LIMITS, now)
        for transition in decision.transitions:
            await self.performer.perform(transition)
        return decision


class World:
    """All regions and the true time."""

    def __init__(self, names: Sequence[str]) -> None:
        self.clock = TurnedClock(seconds=5_000.0)
        self.store = MemoryStore(self.clock)
        self.regions = [
            Region(name, TurnedClock(seconds=1_000.0 * place), Link(self.store, self.turn), EpochSeen(), tuple(names))
            for place, name in enumerate(names)
        ]
        self.holders: dict[tuple[int, int], str] = {}

    def turn(self, seconds: float) -> None:
        """Let time pass everywhere."""
        for clock in (self.clock, *(region.clock for region in self.regions)):
            clock.turn(seconds)

    async def look(self, region: Region) -> None:
        """One region sees the store as it is now, if it can."""
        try:
            revision = await region.link.revision()
        except CoordinationError:
            return
        leader, generation = await self.store.get(LEADER), await self.store.get(GENERATION)
        pause, operation = await self.store.get(PAUSE), await self.store.get(OPERATION_OPEN)
        now = region.clock.boottime()
        before = region.store_view
        gone_at = before.leader_gone_at if before.leader is None and before.confirmed_at > 0 else now
        known = before.operation
        same = operation is not None and known is not None and known.revision == operation.revision
        region.store_view = StoreView(
            revision=revision,
            generation=msgspec.json.decode(generation.value, type=int) if generation else 0,
            leader=LeaderSeen(read_leader(leader), leader.create_revision) if leader else None,
            leader_gone_at=gone_at,
            pause=msgspec.json.decode(pause.value, type=Pause) if pause else None,
            pause_revision=pause.revision if pause else 0,
            operation=OperationSeen(
                msgspec.json.decode(operation.value, type=Operation),
                operation.revision,
                known.seen_at if same and known is not None else now,
            )
            if operation
            else None,
            candidates={each.name: self._status(each) for each in self.regions},
            confirmed_at=now,
        )

    def _status(self, region: Region) -> CandidateStatus:
        return CandidateStatus(
            region=region.name,
            instance=region.instance,
            incarnation=f"{region.name}-1",
            at_ms=region.starts,
            gateway_url="",
            control_url="",
            blocker=region.data.sick or "",
            serving_epoch=None,
            epoch_seen=EPOCH_CLOSED,
            lag_events=0,
            lag_seconds=0.0,
        )

    def check(self) -> None:
        """Hold it to what it promises."""
        acting = [region for region in self.regions if region.acts()]
        assert len(acting) <= 1, f"two act at once: {[(each.name, each.promise) for each in acting]}"
        for region in self.regions:
            held = region.election.held
            if held is not None:
                holder = self.holders.setdefault(held.epoch, region.instance)
                assert holder == region.instance, f"epoch {held.epoch} has two holders"
