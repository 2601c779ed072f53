"""What a receipt says of an inbox: known to exist, not known to be moved, and held by nobody else."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from services.coordination.inbox_record import InboxGap, InboxMarks, inbox_marks, raise_inbox_marks
from services.coordination.lives import Life
from services.coordination.memory import MemoryStore
from services.ledger.acks import Ack as LedgerAck
from services.receipts import Contact, InboxEvidence, LogEvidence, Range, Receipt, advance, issue
from services.receipts.holes import inbox_gap_receipt
from services.receipts.matching import effect_on
from tests.unit.receipts.test_matching import Ack

INBOX, LOG = "east-1.inbox", "east-1.events"
EAST_1 = Life(incarnation="east-1", region="east", number=1, cluster_id="a", opened_ms=1)
EAST_2 = Life(incarnation="east-2", region="east", number=2, cluster_id="b", opened_ms=9_000)
SEALED = msgspec.structs.replace(EAST_1, sealed_ms=9_000, sealed_because="wiped")
UNMOVED = Range(log=INBOX, partition=1, start=30, end=50, events=20)


def receipt(held: int = 10) -> Receipt:
    """East is lost. Its log ended at 10; partition 0 of its inbox was moved, of partition 1 all but 20 records."""
    return issue(
        receipt_id="r",
        kind="failover",
        life=EAST_1,
        was_active=True,
        issued_by="west",
        epoch=(0, 7),
        now_ms=5_000,
        reason="",
        survivors=["west"],
        evidence=[LogEvidence(LOG, {0: held}, {0: 10}, {0: 1}, 4_000)],
        inbox=InboxEvidence(INBOX, ends={0: 40, 1: 50}, moved={0: 40, 1: 30}, known_ms=4_500),
    )


def back(moved: dict[int, int]) -> Contact:
    """East is heard again, in the same life."""
    return Contact(6_000, {LOG: {0: 10}}, inbox_moved=moved)


def test_it_lists_what_was_not_known_to_be_moved() -> None:
    """By partition, with the time up to which that is known."""
    found = receipt()
    assert (found.inbox, found.inbox_known_ms, found.ranges) == ([UNMOVED], 4_500, [])


def test_it_heals_when_the_region_has_moved_it_all() -> None:
    """Not before: what lies in an inbox of a region that is back is still nowhere else."""
    part = advance(receipt(), {LOG: {0: 10}}, [EAST_1], back({1: 45}), 7_000)
    assert (part.state, [left.start for left in part.inbox_remaining]) == ("open", [45])
    silent = advance(part, {LOG: {0: 10}}, [EAST_1], Contact(6_500, {LOG: {0: 10}}), 7_500)
    assert [left.start for left in silent.inbox_remaining] == [45]
    whole = advance(part, {LOG: {0: 10}}, [EAST_1], back({1: 50}), 8_000)
    assert (whole.state, whole.inbox_remaining, whole.inbox) == ("healed", [], [UNMOVED])


def test_a_new_life_has_a_new_inbox() -> None:
    """What the old one held is lost with it, and the receipt says so."""
    found = advance(receipt(), {LOG: {0: 10}}, [SEALED, EAST_2], Contact(0, {}), 9_500)
    assert (found.state, found.inbox_remaining) == ("confirmed_lost", [UNMOVED])
    assert "20 records" in found.closed_because


@pytest.mark.parametrize(
    ("offset", "held", "effect"),
    [(35, 10, "affected"), (20, 10, "unaffected"), (20, 9, "unknown"), (50, 10, "unknown")],
)
def test_an_app_learns_what_that_means_for_its_records(offset: int, held: int, effect: str) -> None:
    """Not moved; moved, and the log is whole; moved into a log that is not; later than anybody knows."""
    assert effect_on(receipt(held), Ack(offset, 1, INBOX)) == effect


def test_what_came_too_late_to_be_known_is_lost_when_the_life_is() -> None:
    """As with logs."""
    lost = msgspec.structs.replace(receipt(), state="confirmed_lost")
    assert effect_on(lost, Ack(50, 1, INBOX)) == "affected"
    gone = inbox_gap_receipt("east", "east-1", 1, 5, 7, 1)
    assert [effect_on(gone, Ack(offset, 1, INBOX)) for offset in (4, 5, 6, 7)] == [
        "unaffected",
        "affected",
        "affected",
        "unaffected",
    ]


def test_what_was_moved_after_the_receipt_was_written_is_not_called_safe() -> None:
    """Its frames lie behind what was known of the log: that may be lost with the region before anybody copies them."""
    moved = advance(receipt(), {LOG: {0: 10}}, [EAST_1], back({1: 50}), 7_000)
    assert (moved.state, moved.inbox_remaining) == ("healed", [])
    unsure = advance(receipt(), {LOG: {0: 10}}, [EAST_1], Contact(6_000, {LOG: {0: 15}}, inbox_moved={1: 50}), 7_000)
    assert (unsure.state, unsure.inbox_remaining, unsure.remaining) == ("open", [], [])
    lost = advance(unsure, {LOG: {0: 10}}, [SEALED, EAST_2], Contact(0, {}, inbox_moved={1: 50}), 9_500)
    assert lost.state == "confirmed_lost"
    effects = [effect_on(each, Ack(35, 1, INBOX)) for each in (moved, unsure, lost)]
    assert effects == ["unaffected", "unknown", "affected"]


def test_the_lines_that_the_page_shows_can_be_matched() -> None:
    """As they stand there, each on one line."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "concepts" / "inbox.md").read_text()
    (block,) = [found for found in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if '"source"' in found]
    lines = [msgspec.json.decode(line, type=LedgerAck) for line in re.findall(r"{.*?}", block, re.DOTALL)]
    assert [(line.log, line.partition, line.offset, line.index) for line in lines] == [
        (INBOX, 3, 102, 0),
        (LOG, 5, 22, 4),
    ]
    assert [effect_on(receipt(), line) for line in lines] == ["unknown", "unknown"]


async def test_marks_only_grow() -> None:
    """Whoever writes late, or again after an unknown outcome, changes nothing."""
    store = MemoryStore()
    gap = InboxGap(0, 1, 3)
    await raise_inbox_marks(store, INBOX, InboxMarks(at_ms=5, ends={0: 9}, moved={0: 4}, gone=[gap]))
    late = InboxMarks(at_ms=3, ends={0: 8, 1: 2}, moved={0: 2}, gone=[gap])
    after = await raise_inbox_marks(store, INBOX, late)
    assert after == InboxMarks(at_ms=5, ends={0: 9, 1: 2}, moved={0: 4}, gone=[gap])
    assert (await inbox_marks(store, INBOX), after.lag()) == (after, 7)
