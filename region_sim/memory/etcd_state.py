"""What an etcd cluster has committed: keys, leases and history. No time, no network, no members."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

from services.coordination.base import ABSENT, CasConflict, Versioned
from services.coordination.lease import NO_LEASE, Change, Guard, LeaseLost
from services.coordination.memory import Table


class Conflict(CasConflict):
    """A comparison failed; what is there instead, and on which lease it hangs."""

    def __init__(self, text: str, found: Versioned | None, lease_id: int) -> None:
        super().__init__(text)
        self.found = found
        self.lease_id = lease_id


@dataclass(slots=True)
class GrantedLease:
    """A lease. When it ends only its leader knows."""

    ttl_seconds: float
    site: str
    """Whose client asked for it."""
    keys: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True)
class Tap:
    """Everything that happened under a prefix, with the world's time; outside of all regions and faults."""

    prefix: str
    seen: list[tuple[float, Change]] = field(default_factory=list)


class EtcdState:
    """The state machine. What raises has changed nothing."""

    def __init__(self, now: Callable[[], float], *, ttl_minimum_seconds: float) -> None:
        self.table = Table()
        self.leases: dict[int, GrantedLease] = {}
        self.changes: list[Change] = []
        """All of them, also those that clients are told no more."""
        self.compacted = 0
        """Changes below this revision are forgotten, as far as clients can see."""
        self.taps: list[Tap] = []
        self._now = now
        self._ttl_minimum_seconds = ttl_minimum_seconds
        self._lease_of: dict[str, int] = {}
        self._lease_ids = 0

    def put(
        self, key: str, value: bytes, expected: int, lease_id: int, guard: Guard | None, lasting_copy: str = ""
    ) -> Versioned:
        """Write when all conditions hold. Raises Conflict, LeaseLost."""
        before = self.table.entries.get(key)
        if guard is not None:
            guarding = self.table.entries.get(guard.key)
            created = guarding.create_revision if guarding else ABSENT
            if created != guard.create_revision:
                text = f"{guard.key} was created at {created}, not {guard.create_revision}: read it again"
                raise Conflict(text, before, self._lease_of.get(key, NO_LEASE))
        self._expect(key, expected)
        if lasting_copy:
            self._expect(lasting_copy, ABSENT)
        lease = None if lease_id == NO_LEASE else self._lease(lease_id)
        written = self.table.put(key, value, expected, lasting_copy)
        self._detach(key)
        if lease is not None:
            lease.keys[key] = None
            self._lease_of[key] = lease_id
        self._note(Change(key, written, written.revision))
        if lasting_copy:
            self._note(Change(lasting_copy, self.table.entries[lasting_copy], written.revision))
        return written

    def delete(self, key: str, expected: int) -> None:
        """Delete a key that is as expected. Raises Conflict."""
        before = self._expect(key, expected)
        if before is not None:
            self.table.delete(key, expected)
            self._detach(key)
            self._note(Change(key, None, self.table.revision))

    def grant(self, ttl_seconds: float, site: str) -> tuple[int, float]:
        """Make a lease, and return its id and its time to live, which may be longer than what was asked for."""
        self._lease_ids += 1
        ttl = max(float(math.ceil(ttl_seconds)), self._ttl_minimum_seconds)
        self.leases[self._lease_ids] = GrantedLease(ttl, site)
        return self._lease_ids, ttl

    def revoke(self, lease_id: int) -> None:
        """End a lease and delete its keys at one revision; one that is gone is no error."""
        lease = self.leases.pop(lease_id, None)
        if lease is None:
            return
        for key in self.table.drop(lease.keys):
            self._lease_of.pop(key, None)
            self._note(Change(key, None, self.table.revision))

    def compact(self, revision: int) -> None:
        """Forget what changed below a revision; the keys stay."""
        self.compacted = max(self.compacted, min(revision, self.table.revision))

    def count_up_to(self, revision: int) -> int:
        """How many changes there were up to a revision."""
        return bisect_right(self.changes, revision, key=lambda change: change.revision)

    def _expect(self, key: str, expected: int) -> Versioned | None:
        before = self.table.entries.get(key)
        found = before.revision if before else ABSENT
        if found != expected:
            text = f"{key} is at revision {found}, not {expected}: read it again"
            raise Conflict(text, before, self._lease_of.get(key, NO_LEASE))
        return before

    def _lease(self, lease_id: int) -> GrantedLease:
        lease = self.leases.get(lease_id)
        if lease is None:
            raise LeaseLost(f"the lease {lease_id:x} is gone")
        return lease

    def _detach(self, key: str) -> None:
        lease = self.leases.get(self._lease_of.pop(key, NO_LEASE))
        if lease is not None:
            lease.keys.pop(key, None)

    def _note(self, change: Change) -> None:
        self.changes.append(change)
        for tap in self.taps:
            if change.key.startswith(tap.prefix):
                tap.seen.append((self._now(), change))
