"""Who held the lease, one key a win, until it is no longer needed: what a successor must know of those before it.

The leader key vanishes with its lease, and nobody can be asked who held it: a winner may be killed in the next moment,
a watch may not have told of it yet. So whoever wins writes the same record a second time, without a lease, in the same
step. Both keys come to be at one revision, so the copy has the term's epoch, and the order of the copies is the order
of the terms. The newest stays; one before it goes once nothing is owed for its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.logging import get_logger
from services.coordination.base import CasConflict, KeyValueStore, StoreDamaged
from services.coordination.election import LeaderRecord, read_leader
from services.coordination.epoch_seen import Epoch
from services.coordination.keys import TERMS

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Term:
    """One win of the leader key, whatever became of it."""

    record: LeaderRecord
    key: str
    create_revision: int

    @property
    def epoch(self) -> Epoch:
        """The epoch of that term."""
        return self.record.generation, self.create_revision


async def read_terms(store: KeyValueStore) -> list[Term]:
    """Return the terms that the store still knows, oldest first. Raises StoreUnavailable."""
    terms = []
    for entry in await store.list(TERMS):
        try:
            terms.append(Term(read_leader(entry), entry.key, entry.create_revision))
        except StoreDamaged as damaged:
            # One damaged key must not keep all other takeovers from their receipts.
            log.error("a term cannot be read", reason=str(damaged))
    return sorted(terms, key=lambda term: term.create_revision)


async def forget_terms(store: KeyValueStore, terms: Sequence[Term]) -> None:
    """Remove terms of which nobody needs to know any more; one that is gone is no error. Raises StoreUnavailable."""
    for term in terms:
        try:
            await store.compare_and_delete(term.key, term.create_revision)
        except CasConflict:
            log.debug("somebody else removed the term", key=term.key)
