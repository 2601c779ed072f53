"""What an operator gave up is listed, and nothing else is said to be lost with it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from services.common.clock import SystemClock
from services.controller.cases import other_cases
from services.coordination import MemoryStore
from services.coordination.lives import Life
from services.ledger.acks import Ack
from services.ledger.deployment import is_listed
from services.receipts import ReceiptBook
from services.receipts.holes import hole_receipt
from services.receipts.matching import effect_on
from services.replicator.client import HoleRequest
from services.replicator.errors import HoleRefused
from services.replicator.serve import hole_noter

LOG = "east-1.events"
LIFE = Life(incarnation="east-1", region="east", number=1, cluster_id="a", opened_ms=1)
RECEIPT = hole_receipt(LIFE, LOG, 3, 80, 100, by="ada", reason="retention", issued_by="west", now_ms=5_000)
WANTED = HoleRequest(log=LOG, partition=3, start=80, end=100, by="ada", reason="retention")


def ack(offset: int, partition: int = 3, log: str = LOG) -> Ack:
    """Acknowledged long after the hole was accepted."""
    return Ack(
        source="s", id="i", time_ms=1, kind="click", log=log, partition=partition, offset=offset, index=0,
        acknowledged_ms=9_000,
    )  # fmt: skip


def test_only_the_hole_is_lost() -> None:
    """The life goes on: what it acknowledges later, elsewhere or beside is not concerned."""
    assert [effect_on(RECEIPT, ack(offset)) for offset in (79, 80, 99, 100)] == [
        "unaffected",
        "affected",
        "affected",
        "unaffected",
    ]
    assert effect_on(RECEIPT, ack(90, partition=2)) == "unaffected"
    assert effect_on(RECEIPT, ack(90, log="east-1.rankings")) == "unaffected"
    assert is_listed([ack(80)], [RECEIPT])
    assert not is_listed([ack(100)], [RECEIPT])
    assert (RECEIPT.events_listed, RECEIPT.state) == (None, "confirmed_lost")


def test_a_hole_is_not_the_receipt_of_its_life() -> None:
    """A life that is over later gets one of its own."""
    over = msgspec.structs.replace(LIFE, sealed_ms=6_000, sealed_because="east came back as east-2")
    assert [case.kind for case in other_cases([over], [RECEIPT], None, 7_000, 10.0)] == ["unreachable"]


async def test_there_is_no_hole_without_a_receipt(tmp_path: Path) -> None:
    """The store must keep it first; asked for again, there is one."""
    store = MemoryStore()
    book = ReceiptBook(store, tmp_path)
    note = hole_noter(book, "west", SystemClock())
    store.set_available(False)
    with pytest.raises(HoleRefused, match="receipt"):
        await note(WANTED, LIFE)
    store.set_available(True)
    await note(WANTED, LIFE)
    await note(WANTED, LIFE)
    (found,) = await book.all()
    assert (found.kind, found.issued_by, found.ranges) == ("hole", "west", RECEIPT.ranges)
