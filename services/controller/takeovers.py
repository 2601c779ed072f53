"""Which takeovers there were, and which of them still want a receipt: from the terms that the store keeps.

Nobody's own memory is asked for it: who won may be dead before it wrote anything, and who comes next may have been cut
off while somebody else held the lease. Two terms of different regions that follow each other are a takeover; it is owed
a receipt until one stands under its epoch. Whoever leads works off what is owed, as often as it takes: the epoch names
the receipt, so there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from services.common.logging import get_logger
from services.controller.cases import Case, Takeover, takeover_case
from services.controller.mirror import FormerLeader
from services.controller.model import Operation
from services.controller.perform import Acquired
from services.coordination.base import KeyValueStore
from services.coordination.epoch_seen import NOTHING_SEEN
from services.coordination.keys import OPERATION_OPEN, OPERATIONS
from services.coordination.lives import lives_as_of
from services.coordination.terms import Term, read_terms
from services.receipts import Receipt

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Chain:
    """The takeovers that want a receipt, oldest first, and the terms of which nobody needs to know any more."""

    owed: list[tuple[Case, Takeover]]
    over: list[Term]


async def own_takeover(store: KeyValueStore, acquired: Acquired, region: str, former: FormerLeader) -> Takeover:
    """The takeover that a campaign of this process was. `former`: the last holder whose end was seen here.

    What was seen counts where the store has forgotten: it was restored, or that holder kept no copy of its key.
    Raises StoreUnavailable.
    """
    earlier = [term for term in await read_terms(store) if term.epoch < acquired.epoch]
    before, ended = (earlier[-1].record.region, earlier[-1].epoch) if earlier else ("", NOTHING_SEEN)
    if ended < former.epoch < acquired.epoch:
        before, ended = former.region, former.epoch
    saw_it = former.epoch == ended
    return Takeover(
        epoch=acquired.epoch,
        region=region,
        before=before,
        acquired_ms=acquired.at_ms,
        cause=acquired.cause,
        operation=await _operation(store, acquired.operation_id),
        last_seen_ms=former.last_seen_ms if saw_it else 0,
        lease_gone_ms=former.gone_ms if saw_it else 0,
    )


async def case_of(store: KeyValueStore, takeover: Takeover) -> Case | None:
    """What its receipt is about; None when nothing changed hands. Raises StoreUnavailable, StoreDamaged."""
    return takeover_case(takeover, await lives_as_of(store, takeover.epoch[1]))


async def follow(store: KeyValueStore, receipts: Sequence[Receipt]) -> Chain:
    """Hold the terms of the store against the receipts. Raises StoreUnavailable, StoreDamaged."""
    terms = await read_terms(store)
    owed: list[tuple[Case, Takeover]] = []
    over: list[Term] = []
    for before, term in pairwise(terms):
        found = None if is_settled(term.epoch, receipts) else await _case_between(store, before, term)
        if found is not None:
            owed.append(found)
        if not owed:
            over.append(before)
    return Chain(owed, over)


def is_settled(epoch: tuple[int, int], receipts: Sequence[Receipt]) -> bool:
    """Whether the takeover with which a term began has its receipt, open or closed."""
    return any(receipt.was_active and receipt.epoch == epoch for receipt in receipts)


async def _case_between(store: KeyValueStore, before: Term, term: Term) -> tuple[Case, Takeover] | None:
    if before.record.region == term.record.region:
        return None
    takeover = Takeover(
        epoch=term.epoch,
        region=term.record.region,
        before=before.record.region,
        acquired_ms=term.record.acquired_ms,
        cause=term.record.cause,
        operation=await _operation(store, term.record.operation_id),
    )
    case = await case_of(store, takeover)
    return None if case is None else (case, takeover)


async def _operation(store: KeyValueStore, operation_id: str) -> Operation | None:
    """The operator's operation of that id, whether it is under way or over."""
    if not operation_id:
        return None
    for key in (OPERATION_OPEN, OPERATIONS + operation_id):
        entry = await store.get(key)
        if entry is None:
            continue
        try:
            operation = msgspec.json.decode(entry.value, type=Operation)
        except msgspec.DecodeError as problem:
            # A receipt that does not name the operator's words is worth more than none.
            log.error("an operation cannot be read", key=key, reason=str(problem))
            continue
        if operation.operation_id == operation_id:
            return operation
    return None
