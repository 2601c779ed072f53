"""This controller's copy of the coordination store, kept up to date by a watch: decisions read it without waiting.

It may lag, and that is all right: whatever is decided from it is written by compare-and-swap. What it never does is
pretend: `confirmed_at` says when the store last said that nothing newer had happened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import msgspec

from services.common.clock import Clock
from services.common.logging import get_logger
from services.controller.model import CandidateStatus, LeaderSeen, Operation, OperationSeen, Pause, StoreView
from services.coordination.base import CoordinationError, Versioned
from services.coordination.election import LeaderRecord
from services.coordination.epoch_seen import NOTHING_SEEN, Epoch
from services.coordination.keys import GENERATION, LEADER, LIVES, OPERATION_OPEN, PAUSE, REGISTRY
from services.coordination.lease import Change, Compacted, LeaseStore
from services.coordination.lives import Life
from services.coordination.region_record import acknowledged_ends_key
from streams.logs import events_log

PREFIX: Final = "/meridian/"
RETRY_SECONDS: Final = 0.1
CONTROLLER: Final = "controller"
_KEYS: Final = frozenset((GENERATION, LEADER, PAUSE, OPERATION_OPEN))

T = TypeVar("T")
log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FormerLeader:
    """The last holder whose key was seen here and is gone."""

    region: str = ""
    last_seen_ms: int = 0
    """When the store last confirmed its key."""
    gone_ms: int = 0
    epoch: Epoch = NOTHING_SEEN


class StoreMirror:
    """`run` is its task; `on_change` is called whenever something changed that decisions are made by."""

    def __init__(self, store: LeaseStore, clock: Clock, on_change: Callable[[], None]) -> None:
        self._store = store
        self._clock = clock
        self._on_change = on_change
        self._entries: dict[str, Versioned] = {}
        self._revision = 0
        self._confirmed_at = float("-inf")
        self._confirmed_ms = 0
        self._leader_gone_at = float("-inf")
        self._operation_seen = (0, float("-inf"))
        self.former = FormerLeader()
        """Who held the lease before the present holder, or before nobody did."""
        self._view: StoreView | None = None
        self._lives: list[Life] | None = None

    @property
    def confirmed_ms(self) -> int:
        """Unix ms at which the store was last heard; 0 for never."""
        return self._confirmed_ms

    @property
    def leader_entry(self) -> Versioned | None:
        """The leader key itself."""
        return self._entries.get(LEADER)

    def lives(self) -> list[Life]:
        """Every life of every region, by region and number."""
        if self._lives is None:
            found = [_decode(entry, Life) for key, entry in self._entries.items() if key.startswith(LIVES)]
            known = (life for life in found if life is not None)
            self._lives = sorted(known, key=lambda life: (life.region, life.number))
        return self._lives

    def acknowledged_elsewhere(self, region: str) -> dict[str, dict[int, int]] | None:
        """What other regions have acknowledged in the logs of lives that go on; None before the store was heard."""
        if not self._confirmed_ms:
            return None
        logs = [events_log(life.incarnation) for life in self.lives() if life.region != region and not life.sealed]
        found = {log_name: self._entries.get(acknowledged_ends_key(log_name)) for log_name in logs}
        return {name: _decode(entry, dict[int, int]) or {} for name, entry in found.items() if entry is not None}

    def view(self) -> StoreView:
        """What the store holds, as far as it is known here."""
        if self._view is None:
            self._view = self._read()
        if (self._view.revision, self._view.confirmed_at) != (self._revision, self._confirmed_at):
            self._view = replace(self._view, revision=self._revision, confirmed_at=self._confirmed_at)
        return self._view

    async def run(self) -> None:
        """List, watch, and begin anew whenever the watch ends."""
        while True:
            try:
                await self._follow()
            except Compacted:
                log.info("the watch fell behind what the store remembers, listing again")
            except CoordinationError as problem:
                log.warning("the coordination store is not followed, trying again", reason=str(problem))
                await self._clock.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        # The revision first: what changes between the two calls is then seen twice, and never missed.
        revision = await self._store.revision()
        listed = {entry.key: entry for entry in await self._store.list(PREFIX)}
        self._take_list(revision, listed)
        async for batch in self._store.watch(PREFIX, revision):
            self._take(batch)

    def _take_list(self, revision: int, listed: dict[str, Versioned]) -> None:
        if revision < self._revision:
            log.error("the store went back: it was restored from a backup", before=self._revision, now=revision)
        newest = max([revision, *(entry.revision for entry in listed.values())])
        had_leader = self._entries.get(LEADER)
        self._entries, self._revision = listed, newest
        has_leader = listed.get(LEADER)
        never_known = self._leader_gone_at == float("-inf")
        if had_leader is None:
            gone = has_leader is None and never_known
        else:
            gone = has_leader is None or has_leader.create_revision != had_leader.create_revision
        if gone:
            self._note_gone(had_leader)
        self._confirm()

    def _note_gone(self, entry: Versioned | None) -> None:
        self._leader_gone_at = self._clock.boottime()
        record = _decode(entry, LeaderRecord) if entry is not None else None
        if entry is not None and record is not None:
            epoch = (record.generation, entry.create_revision)
            self.former = FormerLeader(record.region, self._confirmed_ms, self._clock.unix_ms(), epoch)

    def _take(self, batch: Sequence[Change]) -> None:
        matters = [self._apply(change) and _is_decided_by(change.key) for change in batch]
        self._confirm(changed=any(matters))

    def _apply(self, change: Change) -> bool:
        before = self._entries.get(change.key)
        if before is not None and change.revision <= before.revision:
            return False
        if change.now is not None:
            self._entries[change.key] = change.now
        elif before is not None:
            del self._entries[change.key]
            if change.key == LEADER:
                self._note_gone(before)
        self._revision = max(self._revision, change.revision)
        return True

    def _confirm(self, *, changed: bool = True) -> None:
        self._confirmed_at = self._clock.boottime()
        self._confirmed_ms = self._clock.unix_ms()
        if changed:
            self._view = self._lives = None
            self._on_change()

    def _read(self) -> StoreView:
        leader = self._entries.get(LEADER)
        record = _decode(leader, LeaderRecord) if leader else None
        generation = self._entries.get(GENERATION)
        pause = self._entries.get(PAUSE)
        return StoreView(
            revision=self._revision,
            generation=(_decode(generation, int) or 0) if generation else 0,
            leader=LeaderSeen(record, leader.create_revision) if leader and record else None,
            leader_gone_at=self._leader_gone_at,
            former=self.former.region,
            pause=_decode(pause, Pause) if pause else None,
            pause_revision=pause.revision if pause else 0,
            operation=self._read_operation(),
            candidates=self._read_candidates(),
        )

    def _read_operation(self) -> OperationSeen | None:
        entry = self._entries.get(OPERATION_OPEN)
        if entry is None:
            return None
        operation = _decode(entry, Operation)
        if operation is None:
            return None
        if self._operation_seen[0] != entry.revision:
            self._operation_seen = (entry.revision, self._clock.boottime())
        return OperationSeen(operation, entry.revision, self._operation_seen[1])

    def _read_candidates(self) -> dict[str, CandidateStatus]:
        found: dict[str, CandidateStatus] = {}
        for key, entry in self._entries.items():
            if not key.startswith(REGISTRY) or f"/{CONTROLLER}/" not in key:
                continue
            status = _decode(entry, CandidateStatus)
            # A region whose controller was restarted has two entries until the lease of the old one ends.
            if status is not None and (status.region not in found or found[status.region].at_ms < status.at_ms):
                found[status.region] = status
        return found


def _is_decided_by(key: str) -> bool:
    """Whether a decision may differ when this key does: most of what is written are positions and the history."""
    return key in _KEYS or key.startswith(LIVES) or (key.startswith(REGISTRY) and f"/{CONTROLLER}/" in key)


def _decode(entry: Versioned, shape: type[T]) -> T | None:
    try:
        return msgspec.json.decode(entry.value, type=shape)
    except msgspec.DecodeError as problem:
        # One damaged key must not blind the controller to all others; who needs this one reads it from the store.
        log.error("a key of the store cannot be read", key=entry.key, reason=str(problem))
        return None
