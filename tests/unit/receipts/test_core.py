"""What a receipt lists, when it shrinks and what closes it."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.coordination.lives import Life, LogCut
from services.receipts import Contact, LogEvidence, Range, Receipt, advance, issue, missing_ranges, new_receipt_id

LOG = "east-1.events"
EAST_1 = Life(incarnation="east-1", region="east", number=1, cluster_id="a", opened_ms=1)
SEALED = msgspec.structs.replace(EAST_1, sealed_ms=9_000, sealed_because="wiped")
EAST_2 = Life(incarnation="east-2", region="east", number=2, cluster_id="b", opened_ms=9_000)
CREATED_MS = 5_000
SILENT = Contact(0)

Ends = st.dictionaries(st.integers(0, 3), st.integers(0, 8), max_size=4)


def receipt_of(held: dict[int, int], known: dict[int, int], life: Life = EAST_1, **changes: object) -> Receipt:
    """A failover's receipt, from what was held and known."""
    evidence = LogEvidence(LOG, held, known, {p: 2 * (end - held.get(p, 0)) for p, end in known.items()}, 4_000)
    found = issue(
        receipt_id=new_receipt_id("east-1", (0, 7)),
        kind="failover",
        life=life,
        was_active=True,
        issued_by="west",
        epoch=(0, 7),
        now_ms=CREATED_MS,
        reason="the lease ran out",
        survivors=["west"],
        evidence=[evidence],
    )
    return msgspec.structs.replace(found, **changes)


def back(ends: dict[int, int], at_ms: int = CREATED_MS + 1) -> Contact:
    """The origin was heard, in the same life."""
    return Contact(at_ms, {LOG: ends})


@given(Ends, Ends)
def test_what_is_listed_is_exactly_what_is_known_and_held_by_nobody(
    held: dict[int, int], known: dict[int, int]
) -> None:
    """Offset by offset: nothing too much, nothing forgotten."""
    listed = {(found.partition, at) for found in missing_ranges(LOG, held, known, {}) for at in _offsets(found)}
    assert listed == {(p, at) for p, end in known.items() for at in range(held.get(p, 0), end)}


def test_a_cut_counts_what_was_acknowledged_and_not_what_is_still_there() -> None:
    """The log ends at 6 now; 10 had been acknowledged; the copy ends at 4: both parts are listed, uncounted."""
    cut = LogCut(LOG, 0, found=6, acknowledged_end=10)
    other_log = LogCut("east-1.dead", 0, found=0, acknowledged_end=99)
    (found,) = missing_ranges(LOG, {0: 4}, {0: 6}, {0: 12}, [cut, other_log])
    assert (found.start, found.end, found.events) == (4, 10, None)
    assert missing_ranges(LOG, {0: 10}, {0: 6}, {}, [cut]) == []


def test_a_receipt_counts_its_events_or_says_that_it_cannot() -> None:
    """The sum of all ranges; one that nobody counted makes it unknown, never smaller."""
    found = receipt_of({0: 4}, {0: 6, 1: 3})
    assert found.events_listed == 10
    assert found.remaining == found.ranges and found.state == "open"
    assert found.receipt_id == "east-1-0-7" and found.last_contact_ms == 4_000
    uncounted = [*found.ranges, Range(log=LOG, partition=2, start=0, end=1, events=None)]
    assert msgspec.structs.replace(found, ranges=uncounted).events_listed is None


def test_the_last_contact_is_that_of_the_events_log() -> None:
    """A log that was never copied because nothing was ever written to it does not make everything unknown."""
    dead = LogEvidence("east-1.dead", {}, {}, {}, 0)
    events = LogEvidence(LOG, {}, {}, {}, 4_000)
    template = receipt_of({}, {})
    found = issue(
        receipt_id="r",
        kind="failover",
        life=EAST_1,
        was_active=True,
        issued_by="west",
        epoch=(0, 7),
        now_ms=1,
        reason="",
        survivors=[],
        evidence=[dead, events],
    )
    assert found.last_contact_ms == template.last_contact_ms == 4_000


@given(Ends, Ends, st.lists(Ends, max_size=5))
def test_what_remains_is_what_is_still_held_by_nobody(
    held: dict[int, int], known: dict[int, int], later: list[dict[int, int]]
) -> None:
    """Whatever order reports come in, and the ranges of the beginning never change."""
    receipt = receipt_of(held, known)
    for now_held in later:
        before, receipt = receipt, advance(receipt, {LOG: now_held}, [EAST_1], SILENT, 6_000)
        remaining = {(left.partition, at) for left in receipt.remaining for at in _offsets(left)}
        unreported = {(left.partition, at) for left in before.remaining for at in _offsets(left)}
        assert remaining == {
            (found.partition, at)
            for found in receipt.ranges
            for at in _offsets(found)
            if (at >= now_held[found.partition] if found.partition in now_held else (found.partition, at) in unreported)
        }
        assert receipt.ranges == before.ranges and receipt.state == "open"


def test_a_drained_region_heals_its_receipt() -> None:
    """Heard again in the same life, and everything that it had then is held elsewhere."""
    receipt = receipt_of({0: 4}, {0: 6})
    receipt = advance(receipt, {LOG: {0: 5}}, [EAST_1], back({0: 8}), 6_000)
    assert receipt.state == "open" and [(left.start, left.end) for left in receipt.remaining] == [(5, 6)]
    # All that was listed is held, but not yet what was acknowledged after the last contact.
    receipt = advance(receipt, {LOG: {0: 6}}, [EAST_1], back({0: 20}, 7_000), 7_000)
    assert receipt.state == "open" and receipt.remaining == []
    # The region takes events all the time: what it had when it came back is what counts.
    receipt = advance(receipt, {LOG: {0: 8}}, [EAST_1], back({0: 30}, 8_000), 8_000)
    assert (receipt.state, receipt.closed_ms) == ("healed", 8_000)
    assert advance(receipt, {}, [SEALED, EAST_2], SILENT, 9_000) is receipt


def test_a_report_from_before_the_receipt_heals_nothing() -> None:
    """A replicator that has not noticed yet still says: reachable, caught up."""
    receipt = receipt_of({0: 6}, {0: 6})
    assert advance(receipt, {LOG: {0: 6}}, [EAST_1], back({0: 6}, CREATED_MS), 6_000) is receipt
    assert advance(receipt, {LOG: {0: 6}}, [EAST_1], back({0: 6}), 6_000).state == "healed"


def test_a_loss_is_confirmed_only_on_evidence() -> None:
    """The life is over, the next one has begun, and every other region has been asked."""
    receipt = receipt_of({0: 4}, {0: 6})
    held = {LOG: {0: 4}}
    unheard = Contact(0, unheard=["north"])
    assert advance(receipt, held, [EAST_1], SILENT, 6_000) is receipt
    assert advance(receipt, held, [SEALED], SILENT, 6_000) is receipt
    assert advance(receipt, held, [SEALED, EAST_2], unheard, 6_000) is receipt
    closed = advance(receipt, held, [SEALED, EAST_2], SILENT, 6_000)
    assert (
        closed.state == "confirmed_lost"
        and "east-2" in closed.closed_because
        and "1 range and" in closed.closed_because
    )
    assert closed.remaining == closed.ranges


def test_a_wiped_region_never_heals_even_when_nothing_known_is_missing() -> None:
    """What it had acknowledged after the last contact is gone, and the receipt must not say otherwise."""
    receipt = receipt_of({0: 6}, {0: 6})
    closed = advance(receipt, {LOG: {0: 6}}, [SEALED, EAST_2], back({0: 6}), 6_000)
    assert closed.state == "confirmed_lost" and "Nothing is missing of what was known" in closed.closed_because


def test_a_third_region_that_holds_more_shrinks_the_loss() -> None:
    """It was out of reach too when the receipt was written; what it holds was known to nobody."""
    receipt = receipt_of({0: 4}, {0: 6})
    closed = advance(receipt, {LOG: {0: 7}}, [SEALED, EAST_2], SILENT, 6_000)
    assert closed.state == "confirmed_lost" and closed.remaining == []
    assert closed.known_ends == {LOG: {0: 7}}


def test_a_copy_that_was_lost_as_well_counts_again() -> None:
    """Remaining says what is missing now, not what was missing at best."""
    receipt = receipt_of({0: 4}, {0: 6})
    receipt = advance(receipt, {LOG: {0: 6}}, [EAST_1], SILENT, 6_000)
    assert receipt.remaining == []
    assert advance(receipt, {LOG: {0: 0}}, [EAST_1], SILENT, 7_000).remaining == receipt.ranges


def test_a_life_that_nobody_knows_keeps_its_receipt_open() -> None:
    """The store was restored from before the life began: no evidence of anything."""
    receipt = receipt_of({0: 6}, {0: 6})
    assert advance(receipt, {LOG: {0: 6}}, [], back({0: 6}), 6_000).state == "open"


def _offsets(found: Range) -> range:
    return range(found.start, found.end)


def test_a_loss_lists_what_was_lost_with_another_survivor_since() -> None:
    """South held up to 6, west up to 4; east was wiped, and then south, before west had copied that."""
    receipt = receipt_of({0: 6, 1: 3}, {0: 9, 1: 3})
    assert [(found.start, found.end) for found in receipt.ranges] == [(6, 9)]
    closed = advance(receipt, {LOG: {0: 4, 1: 1}}, [SEALED, EAST_2], SILENT, 6_000)
    assert closed.state == "confirmed_lost"
    assert [(left.partition, left.start, left.end) for left in closed.remaining] == [(0, 4, 9), (1, 1, 3)]
    assert [(f.partition, f.start, f.end) for f in closed.ranges] == [(0, 6, 9), (0, 4, 6), (1, 1, 3)]
    assert closed.events_listed is None
    assert "2 ranges" in closed.closed_because


def test_a_loss_of_what_was_listed_keeps_its_count() -> None:
    """Nothing changed since, and what nobody reports is as it was."""
    receipt = receipt_of({0: 4, 1: 1}, {0: 6, 1: 3})
    closed = advance(receipt, {LOG: {0: 4}}, [SEALED, EAST_2], SILENT, 6_000)
    assert closed.remaining == closed.ranges == receipt.ranges
    assert closed.events_listed == 8
