"""The coordination store in memory: for tests and for the simulator. The file driver keeps this same table on disk.

The fake is an etcd in small, with etcd's habits: leases end late rather than early and take their keys with them, the
past is compacted away, and an answer can get lost after the write it speaks of. Time is the given clock's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from services.common.clock import Clock, SystemClock
from services.coordination.base import ABSENT, CasConflict, StoreUnavailable, Versioned
from services.coordination.lease import NO_LEASE, Change, Compacted, Guard, Lease, LeaseLost

PROGRESS_SECONDS: Final = 0.2
"""How often a watch proves that it is alive."""


class Table:
    """The keys and their revisions, without any I/O: what both local drivers agree on."""

    def __init__(self, revision: int = 0, entries: dict[str, Versioned] | None = None) -> None:
        self.revision = revision
        self.entries = dict(entries or {})

    def put(self, key: str, value: bytes, expected_revision: int, lasting_copy: str = "") -> Versioned:
        """Write under compare-and-swap; raises CasConflict and changes nothing when the comparison fails."""
        before = self.expect(key, expected_revision)
        if lasting_copy:
            self.expect(lasting_copy, ABSENT)
        self.revision += 1
        created = before.create_revision if before else self.revision
        written = Versioned(key, value, created, self.revision)
        self.entries[key] = written
        if lasting_copy:
            self.entries[lasting_copy] = Versioned(lasting_copy, value, self.revision, self.revision)
        return written

    def delete(self, key: str, expected_revision: int) -> None:
        """Delete under compare-and-swap; raises CasConflict and changes nothing when the comparison fails."""
        if self.expect(key, expected_revision) is not None:
            self.revision += 1
            del self.entries[key]

    def drop(self, keys: Iterable[str]) -> list[str]:
        """Delete keys at one revision, and return which of them were there, sorted."""
        there = sorted(key for key in keys if key in self.entries)
        self.revision += bool(there)
        for key in there:
            del self.entries[key]
        return there

    def list(self, prefix: str) -> list[Versioned]:
        """Every entry under the prefix, sorted by key."""
        return [entry for key, entry in sorted(self.entries.items()) if key.startswith(prefix)]

    def expect(self, key: str, expected_revision: int) -> Versioned | None:
        """Return what is there if it is at that revision (ABSENT: nothing is there); raises CasConflict otherwise."""
        before = self.entries.get(key)
        found = before.revision if before else ABSENT
        if found != expected_revision:
            raise CasConflict(f"{key} is at revision {found}, not {expected_revision}: read it again")
        return before


@dataclass(slots=True)
class _LeaseEntry:
    ttl_seconds: float
    ends_at: float
    keys: set[str]


class MemoryStore:
    """A LeaseStore that ends with its process. Several users may share one object, as processes share a cluster."""

    def __init__(self, clock: Clock | None = None, *, ttl_minimum_seconds: float = 2.0) -> None:
        """Leases shorter than `ttl_minimum_seconds` are made that long, as etcd does."""
        self._clock = clock or SystemClock()
        self._ttl_minimum_seconds = ttl_minimum_seconds
        self._table = Table()
        self._leases: dict[int, _LeaseEntry] = {}
        self._lease_ids = 0
        self._changes: list[Change] = []
        self._compacted = 0
        self._news = asyncio.Event()
        self._unavailable = ""
        self._replies_to_drop = 0
        self._silent = False

    # What a test or a simulation may do to it.

    def drop_reply(self, count: int = 1) -> None:
        """Let the answers to the next `count` writes get lost: they happen, and their callers get StoreUnavailable."""
        self._replies_to_drop += count

    def set_available(self, available: bool, because: str = "no etcd member answered") -> None:  # noqa: FBT001 - a switch
        """Answer nobody, or answer again. Leases go on running out."""
        self._unavailable = "" if available else because
        self._tell()

    def silence_watches(self, silent: bool) -> None:  # noqa: FBT001 - a switch
        """End all watches and refuse new ones, or allow them again."""
        self._silent = silent
        self._tell()

    def compact(self, revision: int | None = None) -> None:
        """Forget what changed up to a revision (all of it by default); the keys stay."""
        self._compacted = self._table.revision if revision is None else revision
        self._changes = [change for change in self._changes if change.revision > self._compacted]

    def restore(self, entries: Sequence[Versioned], revision: int) -> None:
        """Become what an old backup holds: earlier revisions, no leases."""
        self._table = Table(revision, {entry.key: entry for entry in entries})
        self._leases = {}
        self._changes = []
        self._compacted = revision
        self._silent = False
        self._tell()

    # The contract.

    async def get(self, key: str) -> Versioned | None:
        """See KeyValueStore."""
        self._enter()
        return self._table.entries.get(key)

    async def list(self, prefix: str) -> list[Versioned]:
        """See KeyValueStore."""
        self._enter()
        return self._table.list(prefix)

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
        """See LeaseStore."""
        self._enter()
        if guard is not None:
            found = self._table.entries.get(guard.key)
            created = found.create_revision if found else ABSENT
            if created != guard.create_revision:
                raise CasConflict(f"{guard.key} was created at {created}, not {guard.create_revision}: read it again")
        if lease_id == NO_LEASE:
            written = self._table.put(key, value, expected_revision, lasting_copy)
            self._detach(key)
        else:
            self._table.expect(key, expected_revision)
            if lasting_copy:
                self._table.expect(lasting_copy, ABSENT)
            lease = self._lease(lease_id)
            written = self._table.put(key, value, expected_revision, lasting_copy)
            self._detach(key)
            lease.keys.add(key)
        self._note(Change(key, written, written.revision))
        if lasting_copy:
            self._note(Change(lasting_copy, self._table.entries[lasting_copy], written.revision))
        self._reply()
        return written

    async def compare_and_delete(self, key: str, expected_revision: int) -> None:
        """See KeyValueStore."""
        self._enter()
        existed = key in self._table.entries
        self._table.delete(key, expected_revision)
        if existed:
            self._detach(key)
            self._note(Change(key, None, self._table.revision))
        self._reply()

    async def grant(self, ttl_seconds: float) -> Lease:
        """See LeaseStore."""
        self._enter()
        self._lease_ids += 1
        ttl = max(ttl_seconds, self._ttl_minimum_seconds)
        self._leases[self._lease_ids] = _LeaseEntry(ttl, self._clock.boottime() + ttl, set())
        lease = Lease(self._lease_ids, ttl)
        self._reply()
        return lease

    async def keep_alive(self, lease_id: int) -> float:
        """See LeaseStore."""
        self._enter()
        lease = self._lease(lease_id)
        lease.ends_at = self._clock.boottime() + lease.ttl_seconds
        self._reply()
        return lease.ttl_seconds

    async def revoke(self, lease_id: int) -> None:
        """See LeaseStore."""
        self._enter()
        self._end(lease_id)
        self._reply()

    async def revision(self) -> int:
        """See LeaseStore."""
        self._enter()
        return self._table.revision

    async def watch(self, prefix: str, after_revision: int) -> AsyncIterator[Sequence[Change]]:
        """See LeaseStore."""
        seen = after_revision
        while True:
            self._enter()
            if self._silent:
                raise StoreUnavailable("the watch was silent")
            if seen < self._compacted:
                raise Compacted(f"history before {self._compacted} is gone: list again, and watch from there")
            news = self._news
            fresh = [change for change in self._changes if change.revision > seen]
            yield [change for change in fresh if change.key.startswith(prefix)]
            seen = max(seen, fresh[-1].revision) if fresh else seen
            if news is self._news:
                await self._wait(news)

    async def close(self) -> None:
        """See LeaseStore. Others may still use the object."""

    async def _wait(self, news: asyncio.Event) -> None:
        """Return when something changed, a lease may have ended, or it is time to say that nothing did."""
        next_end = min((lease.ends_at for lease in self._leases.values()), default=float("inf"))
        seconds = max(0.0, min(PROGRESS_SECONDS, next_end - self._clock.boottime()))
        waits = {asyncio.ensure_future(news.wait()), asyncio.ensure_future(self._clock.sleep(seconds))}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _enter(self) -> None:
        now = self._clock.boottime()
        for lease_id in [number for number, lease in self._leases.items() if lease.ends_at <= now]:
            self._end(lease_id)
        if self._unavailable:
            raise StoreUnavailable(self._unavailable)

    def _reply(self) -> None:
        if self._replies_to_drop > 0:
            self._replies_to_drop -= 1
            raise StoreUnavailable("the answer was lost; what was asked happened or did not")

    def _lease(self, lease_id: int) -> _LeaseEntry:
        lease = self._leases.get(lease_id)
        if lease is None:
            raise LeaseLost(f"the lease {lease_id:x} is gone")
        return lease

    def _end(self, lease_id: int) -> None:
        lease = self._leases.pop(lease_id, None)
        for key in self._table.drop(lease.keys) if lease else ():
            self._note(Change(key, None, self._table.revision))

    def _detach(self, key: str) -> None:
        for lease in self._leases.values():
            lease.keys.discard(key)

    def _note(self, change: Change) -> None:
        self._changes.append(change)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
