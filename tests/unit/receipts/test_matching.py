"""Which acknowledged events a receipt concerns."""

from dataclasses import dataclass

import msgspec
import pytest

from services.receipts import Range, Receipt, match
from services.receipts.matching import effect_on
from services.receipts.model import State

LOG = "east-1.events"


@dataclass(frozen=True)
class Ack:
    """What matching needs of an acknowledgement."""

    offset: int
    partition: int = 0
    log: str = LOG
    acknowledged_ms: int = 0


def receipt(state: State = "open", *, left: bool = True, ends: bool = True) -> Receipt:
    """West held 4 of 6 records in partition 0 and all 9 in partition 1."""
    missing = Range(log=LOG, partition=0, start=4, end=6, events=5)
    return Receipt(
        receipt_id="r",
        kind="failover",
        region="east",
        incarnation="east-1",
        was_active=True,
        issued_by="west",
        epoch=(0, 7),
        created_ms=5_000,
        reason="",
        survivors=["west"],
        last_contact_ms=4_000,
        ranges=[missing],
        remaining=[missing] if left else [],
        state=state,
        known_ends={LOG: {0: 6, 1: 9}} if ends else {},
    )


@pytest.mark.parametrize(
    ("ack", "while_open", "when_lost"),
    [
        (Ack(3), "unaffected", "unaffected"),
        (Ack(4), "affected", "affected"),
        (Ack(5), "affected", "affected"),
        (Ack(6), "unknown", "affected"),
        (Ack(8, partition=1), "unaffected", "unaffected"),
        (Ack(9, partition=1), "unknown", "affected"),
        (Ack(0, partition=2), "unknown", "affected"),
        # Another life, another region: not this receipt's business.
        (Ack(5, log="east-2.events"), "unaffected", "unaffected"),
        (Ack(5, log="west-1.events"), "unaffected", "unaffected"),
    ],
)
def test_positions_decide(ack: Ack, while_open: str, when_lost: str) -> None:
    """Whatever clocks say; beyond the known end it is unknown first, and lost once the loss is confirmed."""
    assert effect_on(receipt(), ack) == while_open
    assert effect_on(receipt("confirmed_lost"), ack) == when_lost
    assert effect_on(receipt("healed", left=False), ack) == "unaffected"


@pytest.mark.parametrize(("acknowledged_ms", "effect"), [(4_000, "unaffected"), (4_001, "unknown"), (0, "unknown")])
def test_times_decide_only_without_known_ends(acknowledged_ms: int, effect: str) -> None:
    """And an acknowledgement whose time nobody noted is never called unaffected."""
    ack = Ack(7, acknowledged_ms=acknowledged_ms)
    assert effect_on(receipt(ends=False), ack) == effect
    assert effect_on(receipt(), ack) == "unknown"


def test_what_came_back_is_counted_as_such() -> None:
    """A range that a survivor holds by now is no loss any more."""
    acks = [Ack(3), Ack(4), Ack(5), Ack(6)]
    found = match(receipt(), acks)
    assert (found.affected, found.unknown, found.unaffected, found.recovered) == ([1, 2], [3], 1, 0)
    found = match(msgspec.structs.replace(receipt(), remaining=[]), acks)
    assert (found.affected, found.unknown, found.unaffected, found.recovered) == ([], [3], 3, 2)
    assert found.acknowledged == 4
