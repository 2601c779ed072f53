"""Every takeover has a receipt in the end, also one whose winner did not live to write it; and it has one only."""

from __future__ import annotations

import pytest

from services.receipts.model import Receipt
from tests.support.judged import found_by
from tests.support.planted_history import FIRST, SECOND, Planted, history, receipt, term

HONEST = "honest-receipt"
HOLDERS = "one-holder-an-epoch"
THIRD = (0, 31)


def short_term(*receipts: Receipt, lasts_seconds: float = 30.0) -> str:
    """The verdict on receipts: west took over for a second, was lost, and east led again for so long."""

    def end(planted: Planted) -> None:
        planted.receipts = list(receipts)
        planted.terms = [
            term("east", FIRST, 0.0, 12.0),
            term("west", SECOND, 12.1, 13.0),
            term("east", THIRD, 13.1, 13.1 + lasts_seconds),
        ]

    found = found_by(HONEST, history(end=end))
    return f"{found.verdict}: {found.sentence}"


OF_EAST = receipt(taken_over_by="west", issued_by="east")
OF_WEST = receipt(receipt_id="r2", region="west", incarnation="west-1", issued_by="east", epoch=THIRD)


def test_a_takeover_that_was_over_in_a_second_is_owed_its_receipt() -> None:
    """Found by campaigns that nobody complained of: a term that was too short to write one was excused for ever."""
    assert short_term(OF_EAST, OF_WEST).startswith("valid")
    assert short_term(OF_WEST).startswith("invalid: east-1 was lost and no receipt says so")


def test_nobody_has_written_it_while_no_term_lasted() -> None:
    """Whoever leads has ten seconds for its gate, and looks every second."""
    assert short_term(OF_WEST, lasts_seconds=10.0).startswith("valid")


def test_a_takeover_with_two_receipts_is_found() -> None:
    """An app would send twice what it should send once."""
    twice = receipt(receipt_id="r1-2", taken_over_by="west", issued_by="east")
    assert "has another one, r1" in short_term(OF_EAST, twice, OF_WEST)


@pytest.mark.parametrize(("whose", "verdict"), [("west", "valid"), ("east", "invalid")])
def test_who_writes_what_is_owed_does_not_say_that_it_held_that_epoch(whose: str, verdict: str) -> None:
    """It names whose term it was."""

    def end(planted: Planted) -> None:
        planted.receipts = [receipt(issued_by="east", taken_over_by=whose)]

    assert found_by(HOLDERS, history(end=end)).verdict == verdict
