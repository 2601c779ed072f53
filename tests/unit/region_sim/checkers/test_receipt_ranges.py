"""A receipt lists exactly what was known to exist and what no survivor held; and each loss has one."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from region_sim.evidence import FaultSeen, HeldEnds, ReceiptSeen
from region_sim.spec import ClockFault, Cut, Fault, Kill, Switchover
from services.receipts.model import Receipt
from tests.support.judged import found_by, without
from tests.support.planted_history import (
    FAULT_AT,
    FIRST,
    LOG,
    SECOND,
    UNIX_MS,
    Planted,
    history,
    range_of,
    receipt,
    renumbered,
    state,
    term,
)

NAME = "honest-receipt"
KNOWN = {LOG: {0: 20}}


def shown(*receipts: Receipt) -> Callable[[Planted], None]:
    """These receipts and no others."""

    def end(planted: Planted) -> None:
        planted.receipts = list(receipts)

    return end


def anew(*receipts: Receipt) -> Callable[[Planted], None]:
    """These receipts, and east in its next life."""

    def end(planted: Planted) -> None:
        planted.receipts = list(receipts)
        planted.states["east"] = state("east", 17, incarnation="east-2")

    return end


def test_records_that_were_known_and_that_nobody_held_must_be_listed() -> None:
    """West held 17 of 20, and the region never came back: [17, 20) is due, and not a record less."""
    lost = receipt(state="confirmed_lost", known_ends=KNOWN)
    listed = receipt(state="confirmed_lost", known_ends=KNOWN, ranges=[range_of(17, 20, None)])
    short = receipt(state="confirmed_lost", known_ends=KNOWN, ranges=[range_of(17, 18, None)])
    for one, verdict in ((listed, "valid"), (short, "invalid"), (lost, "invalid")):
        assert found_by(NAME, history("wipe", end=shown(one), held_end=17)).verdict == verdict, one
    found = found_by(NAME, history("wipe", end=shown(short), held_end=17))
    assert "leaves out east-1.events/0 [18, 20)" in found.sentence


def test_the_known_ends_of_a_life_that_came_back_were_raised_since() -> None:
    """They name what was copied later, too."""
    assert found_by(NAME, history(end=shown(receipt(known_ends=KNOWN)), held_end=17)).verdict == "valid"


def test_a_receipt_that_healed_while_the_fault_stood_knows_nothing_of_what_came_later() -> None:
    """Only what etcd says was cut: the region was heard again at once, its log went on and was copied on."""
    for known, closed, verdict in ((18, 13_500, "valid"), (18, 14_500, "invalid"), (5, 13_500, "invalid")):
        made = receipt(known_ends={LOG: {0: known}}, closed_ms=UNIX_MS + closed, last_contact_ms=UNIX_MS + 12_900)
        found = found_by(NAME, history("partition", end=shown(made), held_end=20))
        assert found.verdict == verdict, (known, closed, found.sentence)
    assert "it knows east-1.events/0 up to 5 only" in found.sentence


def test_what_was_acknowledged_before_the_last_contact_and_nobody_held_must_be_listed() -> None:
    """Also of a life that came back; what came after the contact nobody could know."""
    for held_end, ranges, contact, verdict in (
        (15, [], 9_700, "invalid"),
        (15, [range_of(15, 17, None)], 9_700, "valid"),
        (15, [], 9_000, "valid"),
        (17, [], 9_700, "valid"),
    ):
        made = receipt(ranges=ranges, last_contact_ms=UNIX_MS + contact)
        found = found_by(NAME, history(end=shown(made), held_end=held_end))
        assert found.verdict == verdict, (held_end, ranges, contact)


def test_a_range_that_a_survivor_held_must_not_be_listed() -> None:
    """And what was written after the heal began says nothing of what was held before."""
    too_much = receipt(known_ends=KNOWN, ranges=[range_of(3, 10, None)])
    assert found_by(NAME, history(end=shown(too_much), held_end=20)).verdict == "invalid"
    later = receipt(known_ends=KNOWN, ranges=[range_of(3, 10, None)], created_ms=UNIX_MS + 15_000)
    assert found_by(NAME, history(end=shown(later), held_end=20)).verdict == "valid"


def test_a_survivor_that_did_not_say_what_it_holds_proves_no_omission() -> None:
    """It may hold what the receipt leaves out."""
    entries = history(end=shown(receipt()), held_end=15)
    silent = [e for e in entries if not isinstance(e.evidence, HeldEnds)]
    assert found_by(NAME, entries).verdict == "invalid"
    assert found_by(NAME, renumbered(silent)).verdict == "unknown"


def test_a_wiped_regions_range_counts_no_fewer_than_were_acknowledged() -> None:
    """Nobody can count its rows again; the apps can count what they were promised."""

    def before(planted: Planted) -> None:
        planted.event(9.85, held="")
        planted.event(9.9, held="")

    for events, verdict in ((2, "valid"), (7, "valid"), (1, "invalid"), (None, "valid")):
        ranges = [range_of(17, 19, events)]
        made = receipt(state="confirmed_lost", ranges=ranges, remaining=ranges)
        found = found_by(NAME, history("wipe", before=before, end=shown(made), held_end=17))
        assert found.verdict == verdict, events


def test_what_every_region_holds_in_the_end_is_not_lost() -> None:
    """It says that a range is gone for good, and the events in it are there."""
    ranges = [range_of(3, 18, None)]
    made = receipt(state="confirmed_lost", ranges=ranges, remaining=[range_of(3, 6, None)])
    found = found_by(NAME, history("wipe", end=shown(made), held_end=3))
    assert found.verdict == "invalid"
    assert "every region holds" in found.sentence
    healed_since = receipt(state="confirmed_lost", ranges=ranges)
    assert found_by(NAME, history("wipe", end=shown(healed_since), held_end=3)).verdict == "valid"


def test_a_life_that_is_over_must_have_a_receipt() -> None:
    """Whoever took over: the region lives another life in the end."""

    def end(planted: Planted) -> None:
        planted.receipts = []
        planted.terms = []
        planted.states["east"] = state("east", 17, incarnation="east-2")

    found = found_by(NAME, history("wipe", end=end))
    assert found.verdict == "invalid"
    assert "east-1 was lost and no receipt says so" in found.sentence


def test_a_life_that_was_cut_may_heal_before_that_is_noticed() -> None:
    """Then another receipt says what was cut off; without that one, nothing does. A wiped life never heals."""
    early = receipt(state="healed")
    noticed = receipt(receipt_id="r2", kind="cut", was_active=False, state="confirmed_lost")
    assert found_by(NAME, history("cut", end=anew(early, noticed))).verdict == "valid"
    assert found_by(NAME, history("cut", end=anew(early))).verdict == "invalid"
    assert found_by(NAME, history("wipe", end=shown(early, noticed))).verdict == "invalid"
    before = receipt(receipt_id="r0", epoch=FIRST, issued_by="east", created_ms=UNIX_MS + 5_000)
    assert found_by(NAME, history("wipe", end=shown(before, receipt(state="confirmed_lost")))).verdict == "valid"


def test_a_life_that_goes_on_after_a_cut_of_what_was_promised_to_nobody_is_not_over() -> None:
    """Found by a campaign, seed 1059: the newest record was nobody's yet, and no end was known that reached over it."""
    healed = shown(receipt(state="healed"))
    assert found_by(NAME, history("cut", end=healed)).verdict == "valid"
    lost = found_by(NAME, history("cut", before=lambda planted: planted.event(9.9, held=""), end=healed))
    assert "ended the life" in lost.sentence
    silent = found_by(NAME, history("cut", end=lambda planted: (healed(planted), planted.states.pop("east"))))
    assert "ended the life" in silent.sentence


def test_a_cut_that_a_life_goes_on_after_is_due_no_receipt() -> None:
    """Nothing that anybody was promised is gone. West was passive, so nobody took over."""

    def after(planted: Planted) -> None:
        planted.strike(15.2, kind="cut", target="west", incarnation="west-1", was_active=False, region_lost=False)

    def lossy(planted: Planted) -> None:
        planted.event(15.1, log="west-1.events", held="")
        after(planted)

    faults: list[Fault] = [Kill(), Cut(target="west")]
    assert found_by(NAME, history(after=after, faults=faults)).verdict == "valid"
    assert "west-1 was lost and no receipt says so" in found_by(NAME, history(after=lossy, faults=faults)).sentence


def test_a_term_that_ended_at_once_had_no_time_to_write() -> None:
    """The next holder writes of whom it took over from."""

    def short(planted: Planted) -> None:
        planted.receipts = []
        planted.terms = [planted.terms[0], term("west", SECOND, 12.1, 13.0)]

    assert found_by(NAME, history(end=short)).verdict == "valid"
    assert found_by(NAME, history(end=shown())).verdict == "invalid"


def test_receipts_that_were_shown_and_are_not_in_the_history_prove_nothing() -> None:
    """One is missing: what it says is not known."""
    entries = history(evidence=lambda found: without(found, ReceiptSeen))
    found = found_by(NAME, entries)
    assert (found.verdict, "1 receipts" in found.sentence) == ("unknown", True)


@pytest.mark.parametrize("faults", [[Switchover()], [Switchover(), ClockFault()]])
def test_what_a_region_takes_after_a_switchover_was_asked_for_may_be_on_its_way(faults: list[Fault]) -> None:
    """Found by a campaign, seed 30015: over a slow link. Inputs are never fenced; what was drained is never listed."""

    def since(planted: Planted) -> None:
        struck = planted.entries[-1]
        assert isinstance(struck.evidence, FaultSeen)
        seen = msgspec.structs.replace(struck.evidence, region_lost=False)
        planted.entries[-1] = msgspec.structs.replace(struck, evidence=seen)
        planted.event(FAULT_AT + 2.6)

    for ranges, verdict in (
        ([], "valid"),
        ([range_of(17, 18, None)], "valid"),
        ([range_of(15, 18, None)], "invalid"),
        ([range_of(10, 12, None)], "invalid"),
    ):
        made = receipt(kind="switchover", ranges=ranges)
        found = found_by(NAME, history("switchover", during=since, end=shown(made), faults=faults))
        assert found.verdict == verdict, (ranges, found.sentence)
        assert verdict == "valid" or "a planned switchover lists" in found.sentence


def test_a_receipt_of_a_switchover_that_nobody_asked_for_lists_nothing() -> None:
    """No time is known since which an event may be on its way."""
    made = receipt(kind="switchover", ranges=[range_of(17, 18, None)])
    entries = history(end=shown(made), held_end=17)
    assert "a planned switchover lists" in found_by(NAME, entries).sentence


@pytest.mark.parametrize("kind", ["failover", "unreachable"])
def test_a_receipt_that_is_open_in_the_end_is_a_finding(kind: str) -> None:
    """Everything has healed."""
    assert found_by(NAME, history(end=shown(receipt(state="open", kind=kind)))).verdict == "invalid"


def test_clocks_that_were_set_do_not_date_receipts() -> None:
    """What it lists is then held against the logs of the end only."""
    too_much = receipt(known_ends=KNOWN, ranges=[range_of(3, 10, 7)], created_ms=UNIX_MS + 3_600_000)

    def later(planted: Planted) -> None:
        planted.strike(15.2, kind="clock", target="west", region_lost=False, was_active=False)

    entries = history(after=later, end=shown(too_much), held_end=20, faults=[Kill(), ClockFault(step_seconds=3600)])
    assert "counts 7 events" in found_by(NAME, entries).sentence


def test_the_finding_names_the_entry_with_the_receipt() -> None:
    """So that a report can show it."""
    entries = history(end=shown(receipt(state="open")))
    first = found_by(NAME, entries).first_index
    assert first is not None
    assert isinstance(entries[first].evidence, ReceiptSeen)
