"""What is collected in a planted drill: a receipt, states, terms, transitions, markers, predictions."""

from __future__ import annotations

import msgspec

from region_sim.evidence import (
    Epoch,
    MarkerSeen,
    Prediction,
    PredictionsSeen,
    StateSeen,
    TermSeen,
    TransitionSeen,
)
from services.receipts.model import Range, Receipt, Timeline

SECOND: Epoch = (0, 9)
UNIX_MS = 1_800_000_000_000
LOG = "east-1.events"


def receipt(**changes: object) -> Receipt:
    """The receipt of the planted drill: contact until 0.3 s before the fault, nothing missing, healed."""
    made = Receipt(
        receipt_id="r1",
        kind="failover",
        region="east",
        incarnation="east-1",
        was_active=True,
        issued_by="west",
        epoch=SECOND,
        created_ms=UNIX_MS + 13_000,
        reason="lease expired",
        survivors=["west"],
        last_contact_ms=UNIX_MS + 9_700,
        ranges=[],
        remaining=[],
        state="healed",
        timeline=Timeline(
            last_seen_ms=UNIX_MS + 11_900,
            lease_gone_ms=UNIX_MS + 12_000,
            acquired_ms=UNIX_MS + 12_100,
            serving_ms=UNIX_MS + 12_300,
        ),
    )
    return msgspec.structs.replace(made, **changes)


def range_of(start: int, end: int, events: int | None) -> Range:
    """A range of the planted log."""
    return Range(log=LOG, partition=0, start=start, end=end, events=events)


def state(region: str, events: int, **changes: object) -> StateSeen:
    """A region's word at the end."""
    frontier = [(LOG, 0, 1_000), ("west-1.events", 0, 1_000)]
    made = StateSeen(
        region=region,
        incarnation=f"{region}-1",
        frontier=frontier,
        digest="d1",
        events=events,
        item_events=0,
        late=0,
        dead=0,
    )
    return msgspec.structs.replace(made, **changes)


def term(region: str, epoch: Epoch, seen_at: float, gone_at: float = 0.0, **changes: object) -> TermSeen:
    """A term, by seconds of the planted drill; `gone_at` 0: still there."""
    made = TermSeen(
        region=region,
        instance=f"{region}-controller",
        epoch=epoch,
        seen_ms=UNIX_MS + int(seen_at * 1000),
        gone_ms=UNIX_MS + int(gone_at * 1000) if gone_at else 0,
    )
    return msgspec.structs.replace(made, **changes)


def transition(seq: int, at: float, region: str, kind: str, epoch: Epoch | None) -> TransitionSeen:
    """A line of the controllers' own history."""
    return TransitionSeen(
        seq=seq,
        at_ms=UNIX_MS + int(at * 1000),
        region=region,
        kind=kind,
        sentence=f"{region} {kind}",
        by="",
        epoch=epoch,
        operation_id="",
    )


def marker(region: str, epoch: Epoch, partition: int) -> MarkerSeen:
    """A marker at the beginning of a partition of its writer's rankings log."""
    return MarkerSeen(
        seen_in=region,
        log=f"{region}-1.rankings",
        partition=partition,
        offset=0,
        region=region,
        incarnation=f"{region}-1",
        epoch=epoch,
    )


def predictions(region: str, when: str, **changes: object) -> PredictionsSeen:
    """Two questions, twelve items each."""
    asked = [
        Prediction(
            question=question,
            items=[f"item-{place}" for place in range(12)],
            scores=[first - place / 16 for place in range(12)],
        )
        for question, first in (("red lamp", 0.9), ("warm rug", 0.8))
    ]
    made = PredictionsSeen(region=region, when=when, model="ranker 3", predictions=asked)  # type: ignore[arg-type]
    return msgspec.structs.replace(made, **changes)
