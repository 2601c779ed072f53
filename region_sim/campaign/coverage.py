"""Whether a campaign met what it is for: a thousand valid verdicts over quiet worlds would prove nothing.

Counted from the histories alone, over all seeds: what never occurred makes the whole campaign unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import msgspec

from region_sim.checkers.stale import STALE_ERROR
from region_sim.evidence import CountsSeen, DeadSeen, Epoch, ReceiptSeen, StateSeen, TermSeen
from region_sim.history import Entry

NOT_ACTIVE: Final = "problem:not-active"
"""How a gateway's refusal names itself whose region may show no effects."""
LEASE_OVER: Final = "the lease of this region"
"""What stands in the refusal (as a bare client or the library has it) when a lease has just run out."""


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """How often each thing occurred."""

    faults: int = 0
    events_acknowledged: int = 0
    answers: int = 0
    failovers: int = 0
    """Times that another region than before became active."""
    gate_refusals: int = 0
    """Rankings that nobody was given because a gate was shut: by a gateway, or at last by the processor."""
    stale_rejections: int = 0
    """Stale answers refused by the client library, and rankings of a smaller epoch dropped by gateways."""
    rebuilt_lives: int = 0
    """Regions that came back as another life and were rebuilt from copies."""
    replays: int = 0
    """Times that a processor began with a log that it had to read again."""
    receipts_with_ranges: int = 0
    dead_letters: int = 0

    def plus(self, other: Coverage) -> Coverage:
        """Both together."""
        mine, theirs = msgspec.structs.asdict(self), msgspec.structs.asdict(other)
        return Coverage(**{name: mine[name] + theirs[name] for name in mine})

    def missing(self) -> list[str]:
        """What did not occur and should have."""
        due = {
            "failovers": self.failovers,
            "fence rejections": self.gate_refusals + self.stale_rejections,
            "replays or rebuilt_lives": self.replays + self.rebuilt_lives,
            "receipts_with_ranges": self.receipts_with_ranges,
        }
        return [name for name, count in due.items() if count == 0]


def coverage_of(entries: Iterable[Entry]) -> Coverage:
    """What one history shows."""
    faults = acknowledged = answers = refused = stale = rebuilt = dead = 0
    terms: dict[Epoch, str] = {}
    receipts: dict[str, bool] = {}
    counts: dict[str, int] = {}
    for entry in entries:
        faults += entry.op == "fault" and entry.type == "ok"
        acknowledged += len(entry.acks)
        answers += entry.op == "search" and entry.type == "ok"
        if entry.op == "search" and entry.error:
            stale += entry.error.startswith(STALE_ERROR)
            refused += NOT_ACTIVE in entry.error or LEASE_OVER in entry.error
        piece = entry.evidence
        if isinstance(piece, TermSeen):
            terms[piece.epoch] = piece.region
        elif isinstance(piece, ReceiptSeen):
            receipts[piece.receipt.receipt_id] = receipts.get(piece.receipt.receipt_id, False) or bool(
                piece.receipt.ranges
            )
        elif isinstance(piece, StateSeen):
            rebuilt += not piece.incarnation.endswith("-1")
        elif isinstance(piece, DeadSeen):
            dead += len(piece.places)
        elif isinstance(piece, CountsSeen):
            counts.update(piece.counts)
    holders = [terms[epoch] for epoch in sorted(terms)]
    return Coverage(
        faults=faults,
        events_acknowledged=acknowledged,
        answers=answers,
        failovers=sum(before != after for before, after in pairwise(holders)),
        gate_refusals=refused + counts.get("gate_refusals", 0),
        stale_rejections=stale + counts.get("stale_dropped", 0),
        rebuilt_lives=rebuilt,
        replays=counts.get("replays", 0),
        receipts_with_ranges=sum(receipts.values()),
        dead_letters=dead,
    )
