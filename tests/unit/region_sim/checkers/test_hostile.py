"""Histories that somebody wrote who wants them to pass: each lie has a checker that does not believe it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from region_sim.evidence import (
    DrillPlan,
    HeldEnds,
    PredictionsSeen,
    ReceiptSeen,
    ReceiptsRead,
    Row,
    TransitionSeen,
)
from region_sim.history import Entry
from region_sim.spec import ClockFault, Cut, Kill, Switchover, Wipe
from region_sim.verdict import judge
from tests.support.judged import complaints, found_by, without
from tests.support.planted_history import (
    FAULT_AT,
    LOG,
    SECOND,
    UNIX_MS,
    WEST_LOG,
    Planted,
    history,
    range_of,
    receipt,
    renumbered,
)

LOSS, COUNTED, HONEST, HOLDERS = "nothing-acknowledged-lost", "counted-once", "honest-receipt", "one-holder-an-epoch"


def test_a_receipt_cannot_list_what_another_life_lost() -> None:
    """West's event is gone everywhere, and the receipt about east-1 names it."""

    def end(planted: Planted) -> None:
        ack = next(ack for entry in planted.entries for ack in entry.acks if ack.log == WEST_LOG)
        for rows in planted.rows.values():
            rows[:] = [row for row in rows if row.offset != ack.offset]
        planted.states = {name: msgspec.structs.replace(one, events=one.events - 1) for name, one in
                          planted.states.items()}  # fmt: skip
        listed = msgspec.structs.replace(range_of(ack.offset, ack.offset + 1, 1), log=WEST_LOG)
        planted.receipts = [receipt(state="confirmed_lost", ranges=[listed], remaining=[listed])]

    assert found_by(LOSS, history("wipe", end=end)).verdict == "invalid"
    assert "not those of east-1" in found_by(HONEST, history("wipe", end=end)).sentence


def test_what_was_acknowledged_and_never_taken_is_found() -> None:
    """It lies in every log; both regions stopped short of it, at one frontier and with one digest."""

    def end(planted: Planted) -> None:
        last = max(ack.offset for entry in planted.entries for ack in entry.acks if ack.log == LOG)
        for name, one in planted.states.items():
            frontier = [(LOG, 0, last), (WEST_LOG, 0, 1_000)]
            planted.states[name] = msgspec.structs.replace(one, frontier=frontier, events=one.events - 1)

    entries = history(end=end)
    assert list(complaints(entries)) == [COUNTED]
    assert "has not taken 1 acknowledged events" in found_by(COUNTED, entries).sentence


def test_nothing_that_was_counted_proves_nothing() -> None:
    """No acknowledgement, no event: every one of none counts once."""

    def end(planted: Planted) -> None:
        planted.rows = {region: [] for region in planted.rows}
        planted.states = {name: msgspec.structs.replace(one, events=0) for name, one in planted.states.items()}

    entries = [msgspec.structs.replace(entry, acks=[]) for entry in history(end=end)]
    assert found_by(COUNTED, entries).verdict == "unknown"


def test_an_answer_without_an_epoch_is_no_proof() -> None:
    """Stripped of it, a stale answer would be no answer at all."""
    entries = history()
    last = max(entry.index for entry in entries if entry.op == "search" and entry.type == "ok")
    entries[last] = msgspec.structs.replace(entries[last], epoch=None)
    assert found_by("no-stale-epoch", entries).verdict == "unknown"


def test_a_world_in_memory_has_no_events_of_before() -> None:
    """Nobody said it, and it is old: that is an excuse only where there was something before the drill."""

    def end(planted: Planted) -> None:
        row = Row(900, 0, "ab" * 16, "click", UNIX_MS - 5_000, 77, 5, 0, "q", "never", "00" * 16, "")
        for region in planted.rows:
            planted.rows[region].append(row)
            one = planted.states[region]
            planted.states[region] = msgspec.structs.replace(one, events=one.events + 1)

    def on(backend: str) -> list[Entry]:
        entries = history(end=end)
        plan = entries[0].evidence
        assert isinstance(plan, DrillPlan)
        entries[0] = msgspec.structs.replace(entries[0], evidence=msgspec.structs.replace(plan, backend=backend))
        return entries

    assert complaints(on("process")) == {}
    assert complaints(on("memory")) == {"applied-was-sent": "invalid"}


def test_a_model_that_says_nothing_says_the_same_before_and_after() -> None:
    """All scores alike: whatever was restored, it would have passed."""

    def mute(seen: PredictionsSeen) -> PredictionsSeen:
        said = [msgspec.structs.replace(one, scores=[0.5] * len(one.scores)) for one in seen.predictions]
        return msgspec.structs.replace(seen, predictions=said)

    entries = [
        msgspec.structs.replace(entry, evidence=mute(entry.evidence))
        if isinstance(entry.evidence, PredictionsSeen)
        else entry
        for entry in history()
    ]
    assert found_by("same-predictions", entries).verdict == "unknown"


@pytest.mark.parametrize("gone", [(1, 2, 3), (2,)])
def test_controllers_whose_history_is_not_there_are_no_witnesses(gone: tuple[int, ...]) -> None:
    """All of it, or an entry in the middle."""

    def end(planted: Planted) -> None:
        planted.transitions.append(msgspec.structs.replace(planted.transitions[-1], seq=3, kind="receipt", epoch=None))

    entries = history(end=end)
    assert complaints(entries) == {}
    left = [e for e in entries if not (isinstance(e.evidence, TransitionSeen) and e.evidence.seq in gone)]
    assert found_by(HOLDERS, renumbered(left)).verdict == "unknown"


def test_ranges_that_nobody_compared_prove_nothing() -> None:
    """What survivors held before the heal was not written down."""
    entries = renumbered([entry for entry in history() if not isinstance(entry.evidence, HeldEnds)])
    assert found_by(HONEST, entries).verdict == "unknown"


def test_two_regions_that_show_two_receipts_under_one_name_are_found() -> None:
    """An app would be told this or that, by where it asks."""

    def twice(found: list[object]) -> list[object]:
        other = receipt(state="confirmed_lost", ranges=[range_of(2, 3, 1)])
        kept = without(found, ReceiptsRead)  # type: ignore[arg-type]
        return [*kept, ReceiptSeen(seen_in="east", receipt=other), ReceiptsRead(seen_in="east", count=1)]

    assert "two different ones" in found_by(HONEST, history(evidence=twice)).sentence  # type: ignore[arg-type]


def _contact(at: float, **changes: object) -> Callable[[Planted], None]:
    def end(planted: Planted) -> None:
        planted.receipts = [receipt(state="confirmed_lost", last_contact_ms=UNIX_MS + int(1000 * at), **changes)]

    return end


def test_a_last_contact_of_long_ago_excuses_nothing_when_nothing_was_broken() -> None:
    """Everything since would count as listed; a survivor polls every second or two."""

    def later(entries: list[Entry]) -> list[Entry]:
        """All but the plan, 20 s later: a long quiet before the fault."""
        return [
            msgspec.structs.replace(e, monotonic_seconds=e.monotonic_seconds - 20, unix_ms=e.unix_ms - 20_000)
            if e.index < 3
            else e
            for e in entries
        ]

    assert found_by(HONEST, later(history("wipe", end=_contact(9.7)))).verdict == "valid"
    found = found_by(HONEST, later(history("wipe", end=_contact(-10.0))))
    assert found.verdict == "invalid" and "20.0 s before wipe east, when nothing was broken" in found.sentence


def test_a_receipt_that_knows_less_than_a_survivor_holds_is_found() -> None:
    """Where nothing was known, everything came after the last contact."""
    told = {LOG: {0: 3}}
    assert "up to 3 only" in found_by(HONEST, history("wipe", end=_contact(9.7, known_ends=told))).sentence
    assert found_by(HONEST, history("wipe", end=_contact(9.7, known_ends={LOG: {0: 1_000}}))).verdict == "valid"


def test_ends_that_were_raised_when_the_life_came_back_are_no_omission_if_it_is_lost_later() -> None:
    """Found by a campaign, seed 23: a region was stopped, came back, was copied, and was wiped minutes later."""

    def wiped(planted: Planted) -> None:
        began = planted.add("invoke", "fault", "nemesis", 15.5, region="east", note="wipe")
        seen = next(e.evidence for e in planted.entries if e.op == "fault" and e.type == "ok")
        again = msgspec.structs.replace(seen, kind="wipe", was_active=False)  # type: ignore[type-var]
        planted.add("ok", "fault", "nemesis", 15.5, call=began.index, region="east", note="wipe", evidence=again)
        planted.heal(began, 15.6)

    def end(planted: Planted) -> None:
        healed = receipt(known_ends={LOG: {0: 20}}, created_ms=UNIX_MS + 13_000)
        planted.receipts = [healed, receipt(receipt_id="r2", state="confirmed_lost", created_ms=UNIX_MS + 15_700)]
        planted.states["east"] = msgspec.structs.replace(planted.states["east"], incarnation="east-2")

    entries = history(after=wiped, end=end, held_end=17, faults=[Kill(), Wipe(target="passive", at_seconds=5.5)])
    assert "leaves out" not in found_by(HONEST, entries).sentence


def test_a_power_loss_that_lets_copiers_fall_behind_first_strikes_later() -> None:
    """Found by a campaign, seed 88: until it struck, the lease was renewed."""

    def end(planted: Planted) -> None:
        planted.terms = [
            msgspec.structs.replace(planted.terms[0], gone_ms=UNIX_MS + int(1000 * (FAULT_AT + 3.0))),
            msgspec.structs.replace(planted.terms[1], seen_ms=UNIX_MS + int(1000 * (FAULT_AT + 3.1))),
        ]
        planted.receipts = []

    def lease(struck_at: float) -> str:
        entries = history("cut", end=end, faults=[Cut(whole_site=True, peers_behind_seconds=1.6)])
        entries = [
            msgspec.structs.replace(e, evidence=msgspec.structs.replace(e.evidence, struck_ms=UNIX_MS + struck_ms))
            if e.op == "fault" and e.type == "ok" and e.evidence is not None
            else e
            for e in entries
            for struck_ms in (int(1000 * struck_at),)
            if not (e.op == "search" and e.epoch == SECOND and e.monotonic_seconds < FAULT_AT + 3.15)
        ]
        return found_by("rto-formula", renumbered(entries)).verdict

    assert lease(FAULT_AT) == "invalid"
    assert lease(FAULT_AT + 1.6) == "valid"


def test_a_gate_was_open_at_the_latest_when_it_answered() -> None:
    """The new holder asks its gate now and then; its word must not make the first answer come before the gate."""

    def end(planted: Planted) -> None:
        told = msgspec.structs.replace(planted.receipts[0].timeline, serving_ms=UNIX_MS + 14_000)
        planted.receipts = [receipt(timeline=told)]

    (failover,) = judge(history(end=end)).failovers
    assert (failover.promotion_seconds, failover.first_answer_seconds) == (0.4, 0.0)


def test_a_contact_that_went_on_is_none_that_was_lost_with_the_fault() -> None:
    """Minutes later something else ended it: it says nothing of how old the knowledge was when this one struck."""
    assert judge(history(end=_contact(9.7))).last_contact_before_fault_seconds == 0.3
    assert judge(history(end=_contact(12.0))).last_contact_before_fault_seconds is None


@pytest.mark.parametrize(("at", "verdict"), [(15.5, "valid"), (40.0, "invalid")])
def test_a_switchover_that_was_given_up_in_the_quiet_is_found(at: float, verdict: str) -> None:
    """Found by reading a campaign's history, seed 23: among other faults, an operator's failure was no finding."""

    def aborted(planted: Planted) -> None:
        began = planted.add("invoke", "fault", "nemesis", at, region="west", note="switchover")
        seen = next(e.evidence for e in planted.entries if e.op == "fault" and e.type == "ok")
        details = "switchover from west to east: aborted nothing happened for 8.0 s"
        again = msgspec.structs.replace(  # type: ignore[type-var]
            seen, kind="switchover", target="west", region_lost=False, details=details
        )
        planted.add("ok", "fault", "nemesis", at, call=began.index, region="west", note="switchover", evidence=again)

    found = found_by("recovered", history(after=aborted, faults=[Kill(), Switchover(at_seconds=at - FAULT_AT)]))
    assert found.verdict == verdict, found.sentence


def test_a_clock_that_was_set_does_not_make_an_earlier_receipt_a_later_one() -> None:
    """Found by a campaign, seed 388: the survivor's clock was ahead, and its receipt seemed younger than the wipe."""

    def end(planted: Planted) -> None:
        planted.receipts = [receipt(state="healed", created_ms=UNIX_MS + 60_000)]

    words = "ended the life"
    assert words in found_by(HONEST, history("wipe", end=end)).sentence
    assert words not in found_by(HONEST, history("wipe", end=end, faults=[Wipe(), ClockFault()])).sentence
