"""Everything that a drill breaks, in its order: inject, see that it took, heal, see that it is gone.

Every fault is a task of its own, so that one that takes long does not move the next. What a fault aims at (`active`) is
looked up when its time comes: after a failover that is another region than before. While there is none it waits, for as
long as a takeover may take, and all that comes later is moved by as much: the quiet before a fault is what lets regions
that were broken come back.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from region_sim.backends.base import Backend, not_recovered
from region_sim.errors import RegionSimError
from region_sim.evidence import FaultSeen
from region_sim.faults.base import FaultPlay, wait_until_none
from region_sim.history import Entry, HistoryWriter
from region_sim.spec import Cut, Drill, Fault, Kill, OperatorPause, Restart, Switchover, TopicLoss, Wipe, kind_of
from region_sim.watching import Watch

NEMESIS = "nemesis"
REFUSED = "refused: "
"""How the error of a fault begins that this world cannot do to itself."""
INJECT_SECONDS_MAX = 30.0
"""A worker that has to refuse a model is started, and reads it, before it does."""
POLL_SECONDS = 0.05
STATUS_SECONDS = 0.5
MOVES_NOTHING_BACK = (Kill, Wipe, Cut, TopicLoss, Restart)
"""Healed by starting what is dead; everything else only has to be let go."""


@dataclass(slots=True, eq=False)
class Struck:
    """One fault that is in force, or was."""

    fault: Fault
    began: Entry
    play: FaultPlay
    target: str
    was_active: bool
    incarnation: str
    taken: bool = False
    healing: bool = False

    @property
    def label(self) -> str:
        """For whoever watches."""
        return f"{kind_of(self.fault)} {self.target}"


@dataclass(slots=True)
class _First:
    """Whom the first fault hit."""

    known: asyncio.Event = field(default_factory=asyncio.Event)
    target: str = ""


class Nemesis:
    """The faults of one drill on one world."""

    def __init__(self, drill: Drill, backend: Backend, history: HistoryWriter, watch: Watch) -> None:
        self._drill = drill
        self._backend = backend
        self._clock = backend.clock
        self._history = history
        self._watch = watch
        self._first = _First()
        self._struck: list[Struck] = []
        self._over = [asyncio.Event() for _ in drill.faults]
        """For each fault: it was struck, and healed where that has a time."""
        self._latest = 0.0
        """When the last of them began."""
        self._late_seconds = 0.0
        """By how much faults strike later than planned, because one of them waited for its target."""

    async def strike(self) -> None:
        """Carry out the timeline: each fault at its time, and its heal where that has a time; takeovers are awaited.

        Raises what a fault raises that is no RegionSimError.
        """
        began = self._latest = self._clock.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, fault in sorted(enumerate(self._drill.faults), key=lambda pair: (pair[1].at_seconds, pair[0])):
                group.create_task(self._one(number, fault, began))
        await self._until(self._latest + self._drill.phases.fault_seconds)

    async def heal_left(self) -> str | None:
        """Heal what is still broken; why something did not heal, or None."""
        left = [struck for struck in self._struck if not struck.healing]
        problems = await asyncio.gather(*(self._heal(struck) for struck in left))
        return next((problem for problem in problems if problem is not None), None)

    async def let_go(self) -> list[str]:
        """After a drill that was ended early: undo what is undone at once; returns what is left to an operator."""
        left: list[str] = []
        for struck in self._struck:
            if struck.healing or isinstance(struck.fault, MOVES_NOTHING_BACK):
                left += [struck.label] if isinstance(struck.fault, MOVES_NOTHING_BACK) else []
                continue
            struck.healing = True
            try:
                await struck.play.heal()
            except RegionSimError as error:
                left.append(f"{struck.label} ({error})")
        return left

    async def _one(self, number: int, fault: Fault, began: float) -> None:
        if fault.after_recovery:
            await self._recovery_before(number)
            began = self._clock.monotonic()
        planned = began + fault.at_seconds
        # What made another fault wait may move this one while it sleeps.
        while self._clock.monotonic() < planned + self._late_seconds:
            await self._until(planned + self._late_seconds)
        struck = await self._strike(number, fault, planned)
        if struck is not None:
            struck_at = self._clock.monotonic()
            if struck.taken and self._takeover_due(struck):
                await self._takeover(struck)
            if fault.for_seconds is not None:
                await self._until(struck_at + fault.for_seconds)
                await self._heal(struck)
        self._over[number].set()

    async def _recovery_before(self, number: int) -> None:
        """Wait until what came before is over and all regions are back, for as long as a heal may take."""
        for over in self._over[:number]:
            await over.wait()

        async def still_ill() -> str | None:
            return await not_recovered(self._backend)

        limit = self._drill.phases.heal_seconds_max
        problem = await wait_until_none(self._clock, still_ill, limit, STATUS_SECONDS)
        self._watch.said("all regions are back" if problem is None else f"not recovered: {problem}")

    async def _strike(self, number: int, fault: Fault, planned: float) -> Struck | None:
        """Choose the target, break it, and see that it is broken; None when nothing was broken."""
        active, leader, target = await self._aim(number, fault, planned)
        if not target:
            self._fail(fault, self._begin(fault, ""), f"nobody says which site is {fault.target}: nothing was broken")
            return None
        incarnation = await self._backend.incarnation(target) if target in self._backend.regions else ""
        if target == active:
            await self._backend.collect_forecast(active)
        began = self._begin(fault, target)
        try:
            play = self._backend.play(fault, target, leader, incarnation)
            struck = Struck(fault, began, play, target, target == active, incarnation)
            # From here on it has to be healed, whatever becomes of it.
            self._struck.append(struck)
            details = await play.inject()
        except RegionSimError as error:
            self._fail(fault, began, str(error))
            return None
        struck_ms = self._clock.unix_ms()
        problem = await wait_until_none(self._clock, play.not_injected, INJECT_SECONDS_MAX, POLL_SECONDS)
        struck.taken = problem is None
        seen = FaultSeen(
            kind=kind_of(fault),
            target=target,
            was_active=struck.was_active,
            region_lost=play.region_lost,
            incarnation=incarnation,
            verified=struck.taken,
            details=details,
            struck_ms=struck_ms,
            etcd_leader_hit=_hits_etcd_leader(fault, target, leader),
        )
        self._history.add(
            "ok" if struck.taken else "fail",
            "fault",
            NEMESIS,
            call=began.index,
            region=target,
            note=kind_of(fault),
            error=problem or "",
            # What clients said who are no apps of the drill, as a herd does.
            said=getattr(play, "said", None),
            evidence=seen,
        )
        self._watch.broken(struck.label, details if problem is None else f"did not take: {problem}")
        return struck

    async def _aim(self, number: int, fault: Fault, planned: float) -> tuple[str, str, str]:
        """The active region, the site of etcd's leader, and the target: empty when nobody says so for too long."""
        deadline = self._clock.monotonic() + self._drill.phases.takeover_seconds_max
        waited = False
        while True:
            active, leader = await self._backend.active(), await self._backend.etcd_leader()
            target = await self._target(fault, active, leader)
            if target or self._clock.monotonic() >= deadline:
                break
            waited = True
            await self._clock.sleep(POLL_SECONDS)
        now = self._clock.monotonic()
        self._latest = max(self._latest, now)
        if waited:
            self._late_seconds = max(self._late_seconds, now - planned)
            self._watch.said(f"{kind_of(fault)} waited for a site that is {fault.target}: {now - planned:.1f} s late")
        if number == 0:
            self._first.target = target
            self._first.known.set()
        return active, leader, target

    async def _target(self, fault: Fault, active: str, leader: str) -> str:
        if fault.target == "active":
            return active
        if fault.target == "passive":
            return next((region for region in self._backend.regions if region != active), "") if active else ""
        if fault.target == "etcd-leader":
            return leader
        if fault.target == "first":
            await self._first.known.wait()
            return self._first.target
        return fault.target

    def _takeover_due(self, struck: Struck) -> bool:
        """Whether another region must answer before this is healed."""
        if not struck.was_active or not (struck.play.region_lost or isinstance(struck.fault, Switchover)):
            return False
        if any(isinstance(other.fault, OperatorPause) and not other.healing for other in self._struck):
            return False
        patience = struck.fault.for_seconds
        return patience is None or patience >= self._drill.phases.takeover_seconds_max

    async def _takeover(self, struck: Struck) -> None:
        """Wait until another region answers. Beside other faults it is no failure when none does."""
        before = self._answers_elsewhere(struck)

        async def nobody_else() -> str | None:
            return None if self._answers_elsewhere(struck) != before else "no other region answers"

        limit = self._drill.phases.takeover_seconds_max
        problem = await wait_until_none(self._clock, nobody_else, limit, POLL_SECONDS)
        alone = all(other is struck for other in self._struck)
        self._history.add(
            "ok" if problem is None else "fail" if alone else "info",
            "takeover",
            NEMESIS,
            call=struck.began.index,
            error=problem or "",
        )
        self._watch.said(problem or "another region answers")

    def _answers_elsewhere(self, struck: Struck) -> dict[str, int]:
        return {region: count for region, count in self._history.answers.items() if region != struck.target}

    async def _heal(self, struck: Struck) -> str | None:
        """Heal one fault; why it did not, or None."""
        struck.healing = True
        if struck.play.region_lost and struck.incarnation:
            await self._backend.collect_held_ends(struck.target, struck.incarnation)
        kind = kind_of(struck.fault)
        call = struck.began.index
        self._history.add("invoke", "heal", NEMESIS, call=call, region=struck.target, note=kind)
        problem: str | None
        try:
            await struck.play.heal()
            limit = self._drill.phases.heal_seconds_max
            problem = await wait_until_none(self._clock, struck.play.not_healed, limit, STATUS_SECONDS)
        except RegionSimError as error:
            problem = str(error)
        self._history.add(
            "ok" if problem is None else "fail",
            "heal",
            NEMESIS,
            call=call,
            region=struck.target,
            note=kind,
            error=problem or "",
        )
        self._watch.mended(struck.label, problem or "")
        return problem

    def _begin(self, fault: Fault, target: str) -> Entry:
        return self._history.add("invoke", "fault", NEMESIS, region=target, note=kind_of(fault))

    def _fail(self, fault: Fault, began: Entry, why: str) -> None:
        self._history.add(
            "fail", "fault", NEMESIS, call=began.index, region=began.region, note=kind_of(fault), error=why
        )
        self._watch.said(f"{kind_of(fault)}: {why}")

    async def _until(self, moment: float) -> None:
        await self._clock.sleep(max(moment - self._clock.monotonic(), 0))


def _hits_etcd_leader(fault: Fault, target: str, leader: str) -> bool | None:
    """Whether etcd's leader is hit, too; None when nobody says who leads."""
    if isinstance(fault, Kill) and fault.also_etcd_leader:
        return True
    return target == leader if leader else None
