"""Every failover is within the formula, part by part, or is not judged and says why."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from region_sim.checkers.rto import bounds
from region_sim.history import Entry
from region_sim.spec import ClockFault, Cut, Fault, Kill, Load, Partition
from region_sim.verdict import judge
from tests.support.judged import found_by
from tests.support.planted_history import (
    FAULT_AT,
    FIRST,
    SECOND,
    TIMES,
    UNIX_MS,
    Planted,
    history,
    receipt,
    term,
)

NAME = "rto-formula"
SLOW = Kill(), Kill(target="west", at_seconds=20)


def with_hit(entries: Sequence[Entry], **changes: object) -> list[Entry]:
    """The first fault, as it is seen otherwise."""
    return [
        msgspec.structs.replace(e, evidence=msgspec.structs.replace(e.evidence, **changes))
        if e.op == "fault" and e.type == "ok" and e.evidence is not None
        else e
        for e in entries
    ]


def delayed(entries: Sequence[Entry], seconds: float) -> list[Entry]:
    """Everything from the first answer of the new region on comes so much later."""
    return [
        msgspec.structs.replace(
            e,
            monotonic_seconds=e.monotonic_seconds + seconds,
            unix_ms=UNIX_MS + int(1000 * (e.monotonic_seconds + seconds)),
        )
        if e.monotonic_seconds > FAULT_AT + 2.0 and e.op in ("search", "heal", "recover", "phase")
        else e
        for e in entries
    ]


def late(gone: float, seen: float, serving: float = 0.2) -> list[Entry]:
    """A drill whose old key was gone, and new one seen, so many seconds after the fault; by all that saw it."""

    def end(planted: Planted) -> None:
        planted.terms = [term("east", FIRST, 0.0, FAULT_AT + gone), term("west", SECOND, FAULT_AT + seen)]
        at = UNIX_MS + int(1000 * FAULT_AT)
        told = msgspec.structs.replace(
            planted.receipts[0].timeline,
            lease_gone_ms=at + int(1000 * gone),
            acquired_ms=at + int(1000 * seen),
            serving_ms=at + int(1000 * (seen + serving)),
        )
        planted.receipts = [receipt(timeline=told)]

    return delayed(history(end=end), max(seen + serving - 2.4, 0.0))


def test_the_bounds_are_those_of_the_formula() -> None:
    """T + 0.5 s + commit, and an election and its time-out more when etcd's leader goes too."""
    short = bounds(TIMES, Load(), etcd_leader_too=False)
    assert short["lease"] == pytest.approx(2.0 + 0.5 + 0.3)
    long = bounds(TIMES, Load(), etcd_leader_too=True)
    assert long["lease"] - short["lease"] == pytest.approx(1.5 * TIMES.etcd_election)
    assert {part: bound for part, bound in long.items() if part != "lease"} == {
        part: bound for part, bound in short.items() if part != "lease"
    }


def test_a_failover_within_its_bounds_is_valid_and_says_what_they_were() -> None:
    """Each part beside its bound."""
    verdict = judge(history())
    assert verdict.checkers[NAME].verdict == "valid"
    assert verdict.checkers[NAME].sentence == "1 of 1 failovers were judged, all within their bounds"
    (one,) = verdict.failovers
    assert (one.from_region, one.to_region, one.within) == ("east", "west", True)
    assert one.bound_seconds == pytest.approx(sum(one.bounds.values()))
    parts = (one.lease_seconds, one.acquire_seconds, one.promotion_seconds, one.first_answer_seconds)
    assert sum(part for part in parts if part is not None) == pytest.approx(one.rto_seconds)


@pytest.mark.parametrize(
    ("entries", "part"),
    [(late(2.9, 2.95), "lease"), (late(0.1, 3.1), "acquire"), (late(1.0, 1.1, 1.7), "promotion")],
)
def test_a_part_that_takes_longer_than_it_may_is_found(entries: list[Entry], part: str) -> None:
    """Also when the whole is still within its bound."""
    found = found_by(NAME, entries)
    assert found.verdict == "invalid"
    assert f"{part} took" in found.sentence
    assert found.first_index == judge(entries).failovers[0].fault


def test_a_first_answer_that_comes_too_late_is_found() -> None:
    """The region served; clients did not find it."""
    entries = delayed(history(), 3.0)
    found = found_by(NAME, entries)
    assert found.verdict == "invalid"
    assert "first_answer took" in found.sentence


def test_the_longer_formula_is_for_a_fault_that_hit_etcds_leader() -> None:
    """Hit: valid; not hit: invalid; nobody says: unknown."""
    entries = late(4.0, 4.1)
    assert found_by(NAME, with_hit(entries, etcd_leader_hit=True)).verdict == "valid"
    assert found_by(NAME, with_hit(entries, etcd_leader_hit=False)).verdict == "invalid"
    doubtful = found_by(NAME, with_hit(entries, etcd_leader_hit=None))
    assert doubtful.verdict == "unknown"
    assert "nobody says" in doubtful.sentence
    assert found_by(NAME, with_hit(late(20.0, 20.1), etcd_leader_hit=None)).verdict == "invalid"


def test_without_the_settings_or_the_terms_nothing_is_proven() -> None:
    """Unknown, never valid."""
    assert found_by(NAME, history(times=None)).verdict == "unknown"
    assert found_by(NAME, [e for e in history() if e.op == "plan"]).verdict == "unknown"


@pytest.mark.parametrize(
    ("faults", "changes", "why"),
    [
        ([Kill()], {"kind": "switchover"}, "planned"),
        ([Kill()], {"kind": "disk-full"}, "until its data plane had been sick"),
        ([Cut()], {"kind": "cut"}, "until its data plane had been sick"),
        ([Kill()], {"region_lost": False}, "did not take the active region away"),
        ([Partition(shape="incoming")], {"kind": "partition"}, "renewals may have arrived"),
    ],
)
def test_what_the_formula_does_not_speak_of_is_not_judged(
    faults: list[Fault], changes: dict[str, object], why: str
) -> None:
    """However long it took."""

    def end(planted: Planted) -> None:
        planted.terms = [term("east", FIRST, 0.0, FAULT_AT + 20.0), term("west", SECOND, FAULT_AT + 21.0)]

    verdict = judge(with_hit(history(faults=faults, end=end), **changes))
    assert verdict.checkers[NAME].verdict == "valid"
    assert verdict.failovers[0].within is None
    assert why in verdict.failovers[0].why


def test_searches_that_are_to_be_refused_while_nobody_keeps_up_have_no_bound() -> None:
    """With `ack=bounded`; with `ack=remote` a search is answered all the same, and late is late."""
    late_answers = {ack: delayed(history(load=Load(ack=ack)), 3.0) for ack in ("bounded", "remote")}
    verdict = judge(late_answers["bounded"])
    assert verdict.checkers[NAME].verdict == "valid"
    assert "ack=bounded" in verdict.failovers[0].why
    assert found_by(NAME, late_answers["remote"]).verdict == "invalid"


def test_a_failover_while_another_fault_stood_is_measured_and_not_judged() -> None:
    """Two at once no formula bounds."""

    def before(planted: Planted) -> None:
        planted.strike(9.5, target="north", region_lost=False, was_active=False, incarnation="")

    verdict = judge(history(before=before, faults=list(SLOW)))
    (one,) = verdict.failovers
    assert (one.within, one.rto_seconds) == (None, 2.5)
    assert "kill north stood as well" in one.why
    said = verdict.checkers[NAME].sentence
    assert said == "0 of 1 failovers were judged; the others were not: kill north stood as well"


@pytest.mark.parametrize(
    ("changes", "within"),
    [
        ({"kind": "poison", "target": "west"}, True),
        ({"kind": "model"}, True),
        ({"kind": "kill"}, True),
        ({"kind": "kill", "etcd_leader_hit": True}, None),
        ({"kind": "kill", "region_lost": True}, None),
        ({"kind": "model", "target": "west"}, None),
        ({"kind": "link"}, None),
        ({"kind": "hold"}, None),
        ({"kind": "clock"}, None),
    ],
)
def test_what_cannot_matter_beside_the_loss_leaves_it_judged(
    changes: dict[str, object], *, within: bool | None
) -> None:
    """What was wrong with the data plane of the region that is gone; not what hits the others, etcd or the network."""

    def before(planted: Planted) -> None:
        planted.strike(9.5, **{"region_lost": False, "was_active": True, **changes})

    (one,) = judge(history(before=before, faults=list(SLOW))).failovers
    assert (one.cause, one.within) == ("kill east", within)
    (slow,) = judge(delayed(history(before=before, faults=list(SLOW)), 3.0)).failovers
    assert slow.within is (None if within is None else False), "and it may be found too slow"


@pytest.mark.parametrize(("kind", "within"), [("kill", True), ("wipe", True), ("pause", None), ("partition", None)])
def test_a_holder_that_died_may_be_back_before_the_takeover(kind: str, *, within: bool | None) -> None:
    """It renews nothing; one that was stopped or cut off may have renewed its lease when it was let go."""
    healed = [
        msgspec.structs.replace(entry, monotonic_seconds=FAULT_AT + 1.0) if entry.op == "heal" else entry
        for entry in history()
    ]
    renamed = [msgspec.structs.replace(e, note=kind) if e.op in ("fault", "heal") else e for e in healed]
    (one,) = judge(with_hit(renamed, kind=kind)).failovers
    assert one.within == within
    assert within or "healed before" in one.why


def test_several_failovers_are_each_held_against_the_formula() -> None:
    """The second one, back to east, is too slow; the first was not."""
    third = (0, 20)

    def after(planted: Planted) -> None:
        hit = planted.strike(30.0, target="west", incarnation="west-1")
        planted.search("library-west", 42.0, "east", third)
        planted.heal(hit, 43.0)

    def end(planted: Planted) -> None:
        planted.terms[1] = term("west", SECOND, 12.1, 41.0)
        planted.terms.append(term("east", third, 41.5))

    verdict = judge(history(after=after, end=end, faults=list(SLOW)))
    assert [(one.to_region, one.within) for one in verdict.failovers] == [("west", True), ("east", False)]
    assert verdict.failovers[1].rto_seconds == 12.0
    assert verdict.checkers[NAME].verdict == "invalid"
    assert verdict.failover_count == 2
    assert verdict.rto_seconds == 2.5


def test_the_fault_that_explains_a_failover_is_the_one_that_takes_the_region_away() -> None:
    """Not what came later and should do no harm, and not what was over before the term began."""

    def before(planted: Planted) -> None:
        planted.heal(planted.strike(1.5, kind="pause"), 1.8)

    def during(planted: Planted) -> None:
        for kind in ("herd", "hold"):
            planted.strike(10.5, kind=kind, region_lost=False)

    (one,) = judge(history(before=before, during=during, faults=[Kill(), Kill(), Kill(), Kill()])).failovers
    assert one.cause == "kill east"


def test_a_new_holder_whose_clock_was_set_does_not_say_how_long_its_promotion_took() -> None:
    """The two moments may lie on both sides of the step."""

    def before(planted: Planted) -> None:
        planted.heal(planted.strike(2.5, kind="clock", target="west", region_lost=False, was_active=False), 3.0)

    (one,) = judge(history(before=before, faults=[ClockFault(step_seconds=-30), Kill()])).failovers
    assert (one.lease_seconds, one.promotion_seconds, one.first_answer_seconds) == (2.0, None, None)
