"""Every checker finds what is planted in a history, and finds nothing in one that is right."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from region_sim.evidence import Evidence, LogRead, MarkerSeen, ReceiptsRead, StateSeen
from region_sim.history import Entry
from region_sim.spec import Marks
from region_sim.verdict import Checked, Verdict, judge
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
    state,
)


def finding(verdict: Verdict, words: str) -> Checked:
    """The finding of the checker whose name has these words."""
    return next(found for found in verdict.checks if words in found.check)


def without(entries: Sequence[Evidence], *kinds: type) -> list[Evidence]:
    """Evidence of other kinds."""
    return [piece for piece in entries if not isinstance(piece, kinds)]


@pytest.mark.parametrize("kind", ["kill", "wipe", "cut", "partition"])
def test_a_history_in_which_all_is_well_is_valid(kind: str) -> None:
    """Without a right one, a checker that always complains would pass every other test here."""
    verdict = judge(history(kind))
    assert verdict.verdict == "valid", [found for found in verdict.checks if found.verdict != "valid"]
    assert verdict.exit_code == 0
    assert verdict.lost == verdict.lost_unlisted == verdict.counted_twice == verdict.stale_answers == 0
    assert verdict.digests_equal is True
    assert verdict.rto_seconds == 2.5
    assert verdict.last_contact_before_fault_seconds == 0.3
    assert verdict.gap_seconds == pytest.approx(3.3)


def test_the_takeover_is_broken_down_by_the_receipts_timeline() -> None:
    """Lease, acquisition, promotion and first answer add up to the RTO; so they do where nobody watched the key."""

    def unwatched(planted: Planted) -> None:
        planted.terms = []

    for entries in (history(), history(end=unwatched)):
        verdict = judge(entries)
        parts = (verdict.lease_seconds, verdict.acquire_seconds, verdict.promotion_seconds)
        assert (*parts, verdict.first_answer_seconds) == (2.0, 0.1, 0.2, 0.2)


def test_an_acknowledged_event_that_a_region_does_not_hold_is_lost() -> None:
    """It is in west and not in east, long before the fault: no receipt excuses that."""
    verdict = judge(history(before=lambda p: p.event(8.0, held="west")))
    assert (verdict.verdict, verdict.lost, verdict.lost_unlisted) == ("invalid", 1, 1)
    assert "not in east" in finding(verdict, "lost").examples[0]


def test_an_event_under_another_identity_is_lost() -> None:
    """Something lies at the coordinates, but not what was acknowledged."""

    def plant(planted: Planted) -> None:
        row = planted.rows["west"][0]
        planted.rows["west"][0] = msgspec.structs.replace(row, identity="00" * 16)

    verdict = judge(history(end=plant))
    assert (verdict.verdict, verdict.lost_unlisted) == ("invalid", 1)
    assert "another identity" in finding(verdict, "lost").examples[0]


def test_an_event_that_says_something_else_is_lost() -> None:
    """The same place, another item."""

    def plant(planted: Planted) -> None:
        planted.rows["west"][0] = msgspec.structs.replace(planted.rows["west"][0], item="other")

    assert judge(history(end=plant)).lost_unlisted == 1


def test_a_lost_event_in_a_range_is_listed() -> None:
    """The receipt of a wiped region lists it."""

    def plant(planted: Planted) -> None:
        planted.event(9.0, held="")

    def end(planted: Planted) -> None:
        planted.receipts = [
            receipt(state="confirmed_lost", ranges=[range_of(17, 18, 1)], remaining=[range_of(17, 18, 1)])
        ]

    verdict = judge(history("wipe", before=plant, end=end, held_end=17))
    assert (verdict.verdict, verdict.lost, verdict.lost_unlisted, verdict.rpo_events) == ("valid", 1, 0, 1)
    for lost_max, word in ((1, "valid"), (0, "invalid")):
        marked = history("wipe", before=plant, end=end, held_end=17, marks=Marks(lost_max=lost_max))
        assert judge(marked).verdict == word


def test_a_lost_event_acknowledged_after_the_last_contact_is_listed_and_one_before_is_not() -> None:
    """0.3 s before the fault was the last contact: what came later nobody could know."""

    def after(planted: Planted) -> None:
        planted.event(9.9, held="")

    def just_before(planted: Planted) -> None:
        planted.event(9.6, held="")

    assert judge(history("wipe", before=after)).lost_unlisted == 0
    assert judge(history("wipe", before=just_before)).lost_unlisted == 1


def test_a_receipt_that_names_no_last_contact_excuses_nothing() -> None:
    """Its writer never heard of the incarnation: that is no time after which losses are accounted for."""

    def plant(planted: Planted) -> None:
        planted.event(9.9, held="")

    def end(planted: Planted) -> None:
        planted.receipts = [msgspec.structs.replace(found, last_contact_ms=0) for found in planted.receipts]

    assert judge(history("wipe", before=plant, end=end)).lost_unlisted == 1


def test_a_healed_receipt_excuses_nothing() -> None:
    """All came back, it says: then nothing may be missing."""

    def plant(planted: Planted) -> None:
        planted.event(9.9, held="west")

    assert judge(history("kill", before=plant)).lost_unlisted == 1


def test_logs_that_were_not_read_prove_nothing() -> None:
    """Unknown, never valid."""
    verdict = judge(history(evidence=lambda found: without(found, LogRead)))
    assert (verdict.verdict, verdict.lost) == ("unknown", None)
    assert verdict.exit_code == 2


def test_without_acknowledgements_nothing_is_proven() -> None:
    """A drill whose load never got through is no success."""
    entries = [msgspec.structs.replace(entry, acks=[]) for entry in history()]
    assert finding(judge(entries), "lost").verdict == "unknown"


def test_an_event_that_is_counted_twice_is_found() -> None:
    """One more counted than there are identities."""

    def plant(planted: Planted) -> None:
        planted.states["west"] = state("west", planted.states["west"].events + 1)

    verdict = judge(history(end=plant))
    assert (verdict.verdict, verdict.counted_twice) == ("invalid", 1)


def test_an_event_in_two_logs_counts_once() -> None:
    """The same identity, published to two gateways: a region that counts both counts twice."""

    def plant(planted: Planted) -> None:
        for rows in planted.rows.values():
            rows.append(msgspec.structs.replace(rows[0], offset=900))

    assert judge(history(end=plant)).counted_twice == 0


def test_an_event_that_is_not_counted_is_found() -> None:
    """One fewer."""

    def plant(planted: Planted) -> None:
        planted.states["west"] = state("west", planted.states["west"].events - 1)

    assert finding(judge(history(end=plant)), "counted").verdict == "invalid"


def test_different_digests_at_one_frontier_are_found() -> None:
    """The fold is a function of the set of events: the same frontier, the same digest."""

    def plant(planted: Planted) -> None:
        planted.states["west"] = msgspec.structs.replace(planted.states["west"], digest="d2")

    verdict = judge(history(end=plant))
    assert (verdict.verdict, verdict.digests_equal) == ("invalid", False)


def test_different_frontiers_prove_nothing_about_digests() -> None:
    """Equal or not: it may be chance."""

    def plant(planted: Planted) -> None:
        planted.states["west"] = msgspec.structs.replace(planted.states["west"], frontier=[(LOG, 0, 999)])

    verdict = judge(history(end=plant))
    assert finding(verdict, "digests").verdict == "unknown"
    assert verdict.digests_equal is None


def test_a_region_without_a_state_proves_nothing() -> None:
    """A region that never said what it holds."""
    verdict = judge(history(evidence=lambda found: without(found, StateSeen)))
    assert {finding(verdict, words).verdict for words in ("digests", "counted")} == {"unknown"}


def test_the_library_must_not_accept_an_epoch_smaller_than_its_own_largest() -> None:
    """It had heard of the new holder, and took an answer of the old one."""

    def plant(planted: Planted) -> None:
        asked = planted.ask("library-east", 11.9)
        planted.search("library-east", 12.4, "west", SECOND)
        planted.search("library-east", 12.5, "east", FIRST, asked_at=asked)

    verdict = judge(history("partition", during=plant))
    assert (verdict.verdict, verdict.stale_answers) == ("invalid", 1)


def test_the_library_must_not_accept_what_anybody_knew_to_be_stale() -> None:
    """Another client had the new epoch before this one asked."""

    def plant(planted: Planted) -> None:
        planted.search("bare-west", 12.4, "west", SECOND)
        planted.search("library-east", 12.5, "east", FIRST)

    assert judge(history("partition", during=plant)).stale_answers == 1


def test_a_bare_client_may_get_what_was_in_flight_and_nothing_later() -> None:
    """What was asked for before anybody knew better is counted; what was asked for later is a broken fence."""

    def in_flight(planted: Planted) -> None:
        asked = planted.ask("bare-east", 11.9)
        planted.search("bare-west", 12.4, "west", SECOND)
        planted.search("bare-east", 12.5, "east", FIRST, asked_at=asked)

    def late(planted: Planted) -> None:
        planted.search("bare-west", 12.4, "west", SECOND)
        planted.search("bare-east", 12.5, "east", FIRST)

    verdict = judge(history("partition", during=in_flight))
    assert (verdict.verdict, verdict.stale_bare_in_flight, verdict.stale_bare_late) == ("valid", 1, 0)
    verdict = judge(history("partition", during=late))
    assert (verdict.verdict, verdict.stale_bare_late) == ("invalid", 1)


def test_what_the_library_threw_away_is_counted() -> None:
    """Near misses are worth knowing."""

    def plant(planted: Planted) -> None:
        call = planted.ask("library-east", 12.0)
        planted.add("info", "search", "library-east", 12.1, call=call, error="StaleAnswer: epoch (0, 5)")

    assert judge(history(during=plant)).stale_refused == 1


def test_two_holders_of_one_epoch_are_found_in_answers_and_in_markers() -> None:
    """Both regions under the same number: the lease was granted twice."""
    marker = MarkerSeen(
        seen_in="west", log="west-1.rankings", partition=0, offset=3, region="west", incarnation="west-1", epoch=FIRST
    )
    assert finding(judge(history(evidence=lambda found: [*found, marker])), "holder").verdict == "invalid"
    answers = history(during=lambda p: p.search("bare-west", 12.0, "west", FIRST))
    assert finding(judge(answers), "holder").verdict == "invalid"


@pytest.mark.parametrize(
    ("kind", "shown", "held_end", "problem"),
    [
        ("kill", [], 1_000, "no receipt says so"),
        ("kill", [receipt(ranges=[range_of(3, 4, 1)])], 1_000, "a survivor held"),
        ("kill", [receipt(ranges=[range_of(3, 4, 7)])], 3, "counts 7 events"),
        ("kill", [receipt(state="open")], 1_000, "still open"),
        ("kill", [receipt(remaining=[range_of(3, 4, 1)])], 1_000, "something remains"),
        ("kill", [receipt(state="confirmed_lost")], 1_000, "says that it is lost"),
        ("wipe", [receipt(state="healed", ranges=[range_of(17, 18, 1)])], 17, "ended the life"),
        ("cut", [receipt(state="open")], 1_000, "still open"),
        ("cut", [receipt(state="confirmed_lost", remaining=[range_of(3, 4, 1)])], 1_000, "a survivor held"),
    ],
)
def test_a_receipt_that_is_not_honest_is_found(kind: str, shown: list[object], held_end: int, problem: str) -> None:
    """It is missing, lists too much, counts wrong, or ends as it should not."""

    def plant(planted: Planted) -> None:
        planted.receipts = list(shown)  # type: ignore[arg-type]

    verdict = judge(history(kind, end=plant, held_end=held_end))
    found = finding(verdict, "honest")
    assert found.verdict == "invalid"
    assert any(problem in example for example in found.examples)


def test_receipts_that_nobody_showed_prove_nothing() -> None:
    """Not asked is not the same as none."""
    verdict = judge(history(evidence=lambda found: without(found, ReceiptsRead)))
    assert finding(verdict, "honest").verdict == "unknown"


def change(entries: list[Entry], op: str, kind: str, **changes: object) -> list[Entry]:
    """Entries with those of one operation and type changed."""
    return [
        msgspec.structs.replace(entry, **changes) if (entry.op, entry.type) == (op, kind) else entry
        for entry in entries
    ]


@pytest.mark.parametrize("op", ["recover", "settle"])
def test_a_region_that_does_not_come_back_is_found(op: str) -> None:
    """The drill went on without it."""
    verdict = judge(change(history(), op, "ok", type="fail", error="east is not ready"))
    assert verdict.verdict == "invalid"
    assert f"{op} failed: east is not ready" in finding(verdict, "come back").sentence


def test_nobody_taking_over_is_found() -> None:
    """West never answered."""
    entries = [entry for entry in history() if not (entry.op == "search" and entry.region == "west")]
    verdict = judge([msgspec.structs.replace(entry, index=number) for number, entry in enumerate(entries)])
    assert finding(verdict, "come back").verdict == "invalid"
    assert verdict.rto_seconds is None


def test_a_fault_that_did_not_take_proves_nothing() -> None:
    """The processes lived on: the regions were not tested."""
    verdict = judge(change(history(), "fault", "ok", type="fail"))
    assert verdict.verdict == "unknown"


def test_a_drill_on_sick_regions_proves_nothing() -> None:
    """Half of the searches failed before anything was broken."""

    def plant(planted: Planted) -> None:
        for _ in range(8):
            call = planted.ask("library-east", 9.0)
            planted.add("info", "search", "library-east", 9.1, call=call, error="503")

    verdict = judge(history(before=plant))
    assert verdict.verdict == "unknown"
    assert "before the fault" in verdict.sentence


def test_a_partition_without_events_on_both_sides_proves_nothing() -> None:
    """The cut-off side was never asked: the fence was not tested."""
    entries = history("partition")
    cut = [
        msgspec.structs.replace(entry, acks=[])
        if entry.op == "publish" and entry.monotonic_seconds > FAULT_AT and any(a.log == LOG for a in entry.acks)
        else entry
        for entry in entries
    ]
    verdict = judge(cut)
    assert finding(verdict, "tested").verdict == "unknown"
    assert "east" in finding(verdict, "tested").sentence


def test_a_mark_that_is_missed_or_not_measured_does_not_pass() -> None:
    """Too slow is invalid; not measured is unknown."""
    assert judge(history(marks=Marks(rto_seconds_max=2.0))).verdict == "invalid"
    assert judge(history(marks=Marks(rto_seconds_max=3.0))).verdict == "valid"

    def plant(planted: Planted) -> None:
        planted.receipts = [receipt(last_contact_ms=0)]

    verdict = judge(history(marks=Marks(last_contact_seconds_max=1.0), end=plant))
    assert finding(verdict, "marks").verdict == "unknown"


def test_last_contact_is_counted_back_from_the_fault() -> None:
    """0.3 s before; the mark holds it to a bound."""

    def plant(planted: Planted) -> None:
        planted.receipts = [receipt(last_contact_ms=UNIX_MS + 8_000)]

    verdict = judge(history(marks=Marks(last_contact_seconds_max=1.0), end=plant))
    assert verdict.last_contact_before_fault_seconds == 2.0
    assert finding(verdict, "marks").verdict == "invalid"


def test_a_receipt_of_an_earlier_loss_says_nothing_about_this_one() -> None:
    """The same life can be lost, and heal, several times: only what was written since the fault counts."""

    def plant(planted: Planted) -> None:
        planted.receipts = [receipt(created_ms=UNIX_MS + 5_000, epoch=FIRST, issued_by="east", region="west")]

    verdict = judge(history(end=plant))
    assert "no receipt says so" in finding(verdict, "honest").sentence
    assert verdict.promotion_seconds is None
