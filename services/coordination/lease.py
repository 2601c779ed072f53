"""The contract of leases: keys that vanish with their holder, and the news of what changed.

A lease gives liveness, never safety: its holder may act only until a deadline that it computes itself, from before it
*sent* the keep-alive that was last answered (`fence.py`); whoever receives effects checks the epoch. All drivers pass
`tests/contract/test_lease_store.py`.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from services.coordination.base import CoordinationError, KeyValueStore, Versioned

NO_LEASE: Final = 0


class LeaseLost(CoordinationError):
    """The lease is gone (expired, revoked): everything that hung on it is, or will be, gone as well."""


class Compacted(CoordinationError):
    """The store no longer knows what changed since then: list again, and watch from there."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as the store granted it."""

    lease_id: int
    ttl_seconds: float
    """What was granted, which may be longer than what was asked for."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition on another key: it must (still) have been created at this revision (ABSENT: must not exist)."""

    key: str
    create_revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one key."""

    key: str
    now: Versioned | None
    """None: the key was deleted, or its lease ended."""
    revision: int


class LeaseStore(KeyValueStore, Protocol):
    """A KeyValueStore whose keys can hang on leases, and which tells what changes."""

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
        """As `KeyValueStore.compare_and_put`; the key lives as long as the lease, and `guard` must hold as well.

        `lasting_copy`: another key, which must not exist; it gets the same value in the same step, at the same
        revision, and outlives the lease.

        Raises CasConflict when a condition does not hold, LeaseLost when the lease is gone, StoreUnavailable when it is
        unknown whether the write happened.
        """

    async def grant(self, ttl_seconds: float) -> Lease:
        """Return a new lease. Raises StoreUnavailable."""

    async def keep_alive(self, lease_id: int) -> float:
        """Renew a lease and return its new time to live in seconds, counted from when the store received this.

        Raises LeaseLost when the store says that it is gone; StoreUnavailable for anything else: "not renewed".
        """

    async def revoke(self, lease_id: int) -> None:
        """End a lease and delete its keys; one that is gone already is no error. Raises StoreUnavailable."""

    async def revision(self) -> int:
        """Return the store's revision now, read from a quorum. Raises StoreUnavailable."""

    def watch(self, prefix: str, after_revision: int) -> AsyncIterator[Sequence[Change]]:
        """Yield what changed under `prefix` after a revision, in order, each change once.

        An empty batch says that nothing did and the watch is alive (at least every second).
        Raises Compacted, and StoreUnavailable when the store falls silent or loses its quorum: list and watch again.
        """

    async def close(self) -> None:
        """Let connections go."""
