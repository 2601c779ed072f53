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

GATE_WORDS: Final = ("gate_refusals", "stale_dropped")
"""What the regions' own parts count of their fences; see CountsSeen."""


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """How often each thing occurred."""

    faults: int = 0
    events_acknowledged: int = 0
    answers: int = 0
    failovers: int = 0
    """Times that another region than before became active."""
    fence_rejections: int = 0
    """Stale answers refused by clients, stale rankings dropped, and answers that a shut gate did not give."""
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
            "fence_rejections": self.fence_rejections,
            "replays or rebuilt_lives": self.replays + self.rebuilt_lives,
            "receipts_with_ranges": self.receipts_with_ranges,
        }
        return [name for name, count in due.items() if count == 0]


def coverage_of(entries: Iterable[Entry]) -> Coverage:
    """What one history shows."""
    faults = acknowledged = answers = refused = rebuilt = dead = 0
    terms: dict[Epoch, str] = {}
    receipts: dict[str, bool] = {}
    counts: dict[str, int] = {}
    for entry in entries:
        faults += entry.op == "fault" and entry.type == "ok"
        acknowledged += len(entry.acks)
        answers += entry.op == "search" and entry.type == "ok"
        refused += entry.op == "search" and entry.error.startswith(STALE_ERROR)
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
        fence_rejections=refused + sum(counts.get(word, 0) for word in GATE_WORDS),
        rebuilt_lives=rebuilt,
        replays=counts.get("replays", 0),
        receipts_with_ranges=sum(receipts.values()),
        dead_letters=dead,
    )
