"""Doing what was decided: every transition is one write that can fail, and failing leaves things as they were."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import msgspec

from services.common.clock import Clock
from services.common.logging import get_logger
from services.controller.model import (
    Archive,
    Campaign,
    EndPause,
    Operation,
    OwnTerm,
    ReopenGate,
    Resign,
    Shut,
    ShutGate,
    StepOperation,
    Transition,
)
from services.coordination.base import ABSENT, CasConflict, CoordinationError, StoreDamaged
from services.coordination.election import Candidacy, Election, LostRace
from services.coordination.history import History
from services.coordination.keys import OPERATION_OPEN, OPERATIONS, PAUSE
from services.coordination.lease import LeaseStore

HISTORY_TRIES: Final = 10
HISTORY_PAUSE_SECONDS: Final = 0.5

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Acquired:
    """A campaign that was won."""

    epoch: tuple[int, int]
    at_ms: int
    cause: str
    operation_id: str


@dataclass(frozen=True, slots=True)
class _Due:
    """Something that the history shall hold, as of when it happened."""

    at_ms: int
    kind: str
    sentence: str
    by: str
    epoch: tuple[int, int] | None
    operation_id: str
    token: str
    """So that what was written, and not heard of, is not written twice."""


class Performer:
    """Holds what is this controller's own: its term, and whether its gate is shut."""

    def __init__(
        self,
        store: LeaseStore,
        clock: Clock,
        election: Election,
        who: Candidacy,
        hold_down_seconds: float,
    ) -> None:
        self._store = store
        self._clock = clock
        self._election = election
        self._who = who
        self._hold_down_seconds = hold_down_seconds
        self._shut: Shut | None = None
        self._history = History(store)
        self._to_record: list[_Due] = []
        self._noted = 0
        self.hold_down_until = float("-inf")
        self.hold_down_because = ""
        self.acquired: Acquired | None = None
        """The last campaign that was won."""

    def term(self, promised_until: float) -> OwnTerm | None:
        """The term as decisions see it."""
        held = self._election.held
        if held is None:
            self._shut = None
            return None
        return OwnTerm(held.epoch, held.deadline, held.since, self._shut, promised_until)

    async def perform(self, transition: Transition) -> bool:
        """Do it, and say whether it is done.

        A write that was overtaken by somebody else's is dropped: the next decision sees what is there.
        """
        try:
            await self._do(transition)
        except LostRace as lost:
            log.info("not elected", reason=str(lost))
        except CasConflict as conflict:
            log.info("overtaken, deciding again", transition=type(transition).__name__, reason=str(conflict))
        except CoordinationError as problem:
            log.warning("not done, or not known", transition=type(transition).__name__, reason=str(problem))
        else:
            return True
        return False

    async def record(self) -> None:
        """Write what is due into the history; what cannot be written stays due."""
        while self._to_record:
            due = self._to_record[0]
            await self._history.append(
                at_ms=due.at_ms,
                region=self._who.region,
                kind=due.kind,
                sentence=due.sentence,
                by=due.by,
                epoch=due.epoch,
                operation_id=due.operation_id,
                token=due.token,
            )
            self._to_record.pop(0)

    def note(
        self, kind: str, sentence: str, *, by: str = "", epoch: tuple[int, int] | None = None, operation_id: str = ""
    ) -> None:
        """Have something written into the history soon, as of now."""
        self._noted += 1
        token = f"{self._who.instance}/{self._noted}"
        self._to_record.append(_Due(self._clock.unix_ms(), kind, sentence, by, epoch, operation_id, token))

    async def _do(self, transition: Transition) -> None:
        match transition:
            case Campaign():
                await self._campaign(transition)
            case ShutGate():
                if self._shut is None or self._shut.operation_id != transition.operation_id:
                    self._shut = Shut(transition.cause, self._clock.boottime(), transition.operation_id)
            case ReopenGate():
                self._shut = None
            case Resign():
                await self._resign(transition)
            case StepOperation():
                await self._store.compare_and_put(
                    OPERATION_OPEN, msgspec.json.encode(transition.after), transition.revision
                )
            case Archive():
                await self._archive(transition.operation, transition.revision)
            case EndPause():
                await self._store.compare_and_delete(PAUSE, transition.revision)
                self.note("resume", transition.cause)

    async def _campaign(self, transition: Campaign) -> None:
        who = replace(self._who, cause=transition.cause, operation_id=transition.operation_id)
        held = await self._election.campaign(who)
        self._shut = None
        self.acquired = Acquired(held.epoch, self._clock.unix_ms(), transition.cause, transition.operation_id)
        log.info("acquired the lease", epoch=held.epoch, cause=transition.cause)
        self.note("acquired", f"{who.region} acquired the lease: {transition.cause}", epoch=held.epoch)

    async def _resign(self, transition: Resign) -> None:
        held = self._election.held
        if held is None:
            return
        if transition.hold_down:
            self.hold_down_until = self._clock.boottime() + self._hold_down_seconds
            self.hold_down_because = transition.cause
        self.note("resigned", f"{self._who.region} let the lease go: {transition.cause}", epoch=held.epoch)
        await self._election.resign(transition.cause)

    async def _archive(self, operation: Operation, revision: int) -> None:
        """History, then the list of those that are over, then room for the next: each can be done twice."""
        try:
            await self._history.append(
                at_ms=self._clock.unix_ms(),
                region=self._who.region,
                kind=operation.kind,
                sentence=f"{operation.kind} from {operation.source or 'no region'} to {operation.target} "
                f"{operation.state}: {operation.detail} ({operation.reason})",
                by=operation.by,
                operation_id=operation.operation_id,
            )
        except StoreDamaged as damaged:
            # Until there is room nothing else is decided: no failover may wait for the mending of a record.
            log.warning("an operation is not in the history", operation_id=operation.operation_id, reason=str(damaged))
        try:
            await self._store.compare_and_put(
                OPERATIONS + operation.operation_id, msgspec.json.encode(operation), ABSENT
            )
        except CasConflict:
            log.debug("the operation is archived already", operation_id=operation.operation_id)
        await self._store.compare_and_delete(OPERATION_OPEN, revision)
