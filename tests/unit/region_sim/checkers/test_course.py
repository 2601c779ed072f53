"""Steady state before and after, heals within their time, and the marks of several failovers."""

from __future__ import annotations

import msgspec
import pytest

from region_sim.evidence import DeadSeen
from region_sim.spec import Kill, Marks, Steady
from region_sim.verdict import judge
from tests.support.judged import complaints, found_by, without
from tests.support.planted_history import FIRST, SECOND, Plant, Planted, history, renumbered, term

RECOVERED, TESTED, MARKS = "recovered", "tested-something", "pass-marks"


def failing(process: str, at: float, times: int) -> Plant:
    """So many searches that nobody answers."""

    def plant(planted: Planted) -> None:
        for _ in range(times):
            call = planted.ask(process, at)
            planted.add("info", "search", process, at + 0.1, call=call, error="503")

    return plant


def test_the_hypothesis_is_that_of_the_library() -> None:
    """A bare client that is pinned to a passive region proves nothing about the others."""
    assert found_by(TESTED, history(before=failing("bare-west", 9.0, 50))).verdict == "valid"
    assert found_by(TESTED, history(before=failing("library-west", 9.0, 50))).verdict == "unknown"


def test_regions_that_are_ill_after_the_heal_are_found() -> None:
    """They came back by their own word, and do not answer; the first failure is named."""
    entries = history(after=failing("library-west", 15.5, 3))
    found = found_by(RECOVERED, entries)
    assert found.verdict == "invalid"
    assert found.first_index is not None
    assert entries[found.first_index].error == "503"
    lenient = history(after=failing("library-west", 15.5, 1), steady=Steady(answered_share_min=0.5))
    assert found_by(RECOVERED, lenient).verdict == "valid"


def test_answers_that_are_too_slow_break_the_hypothesis_before_and_after() -> None:
    """Before: nothing was tested. After: not recovered."""
    steady = Steady(latency_p99_ms_max=100.0)

    def slow(planted: Planted, at: float, region: str, epoch: tuple[int, int]) -> None:
        asked = planted.ask("library-east", at)
        planted.search("library-east", at + 0.4, region, epoch, asked_at=asked)

    assert complaints(history(steady=steady)) == {}
    before = history(steady=steady, before=lambda p: slow(p, 9.3, "east", FIRST))
    assert found_by(TESTED, before).verdict == "unknown"
    after = history(steady=steady, after=lambda p: slow(p, 15.3, "west", SECOND))
    assert found_by(RECOVERED, after).verdict == "invalid"


def test_nobody_asking_after_the_heal_proves_nothing() -> None:
    """Unknown: the hypothesis was not looked at."""
    entries = [e for e in history() if not (e.op == "search" and e.monotonic_seconds > 14.5)]
    assert found_by(RECOVERED, renumbered(entries)).verdict == "unknown"


def test_a_heal_that_takes_longer_than_the_drill_allows_is_found() -> None:
    """It was reached, too late."""
    entries = [
        msgspec.structs.replace(e, monotonic_seconds=e.monotonic_seconds - 200)
        if e.op == "recover" and e.type == "invoke"
        else e
        for e in history()
    ]
    found = found_by(RECOVERED, entries)
    assert found.verdict == "invalid"
    assert "the heal took" in found.sentence


def test_a_fault_that_does_not_heal_is_found() -> None:
    """Whatever else came back."""
    entries = [
        msgspec.structs.replace(e, type="fail", error="it is still there") if e.op == "heal" and e.type == "ok" else e
        for e in history()
    ]
    assert "did not heal" in found_by(RECOVERED, entries).sentence


def test_a_takeover_that_was_waited_for_in_vain_is_found() -> None:
    """As the conductor wrote it down."""
    entries = history(during=lambda p: p.add("fail", "takeover", "nemesis", 11.0, error="nobody"))
    assert found_by(RECOVERED, entries).verdict == "invalid"


@pytest.mark.parametrize(
    ("marks", "verdict"),
    [
        (Marks(failovers_min=1, failovers_max=1), "valid"),
        (Marks(failovers_max=0), "invalid"),
        (Marks(failovers_min=2), "invalid"),
        (Marks(dead_letters_min=2), "valid"),
        (Marks(dead_letters_min=3), "invalid"),
        (Marks(lost_max=0), "valid"),
    ],
)
def test_counts_are_held_against_their_marks(marks: Marks, verdict: str) -> None:
    """How often the activity moved, and what could not be read; the same record in two regions is one."""

    def end(planted: Planted) -> None:
        planted.dead = [("east-1.events", 0, 70), ("east-1.events", 0, 71)]

    assert found_by(MARKS, history(marks=marks, end=end)).verdict == verdict


def test_counts_that_nobody_took_meet_no_mark() -> None:
    """Unknown, never met."""
    entries = history(marks=Marks(dead_letters_min=1), evidence=lambda f: without(f, DeadSeen))
    assert found_by(MARKS, entries).verdict == "unknown"


def test_the_worst_of_several_failovers_is_held_against_the_mark() -> None:
    """The first was quick enough."""
    third = (0, 20)

    def after(planted: Planted) -> None:
        hit = planted.strike(15.2, target="west", incarnation="west-1")
        planted.search("library-west", 19.2, "east", third)
        planted.heal(hit, 19.5)

    def end(planted: Planted) -> None:
        planted.terms[1] = term("west", SECOND, 12.1, 17.4)
        planted.terms.append(term("east", third, 17.5))

    entries = history(after=after, end=end, faults=[Kill(), Kill(target="west")], marks=Marks(rto_seconds_max=3.0))
    verdict = judge(entries)
    assert verdict.rto_seconds == 2.5
    assert verdict.checkers[MARKS].verdict == "invalid"
    assert [failover.rto_seconds for failover in verdict.failovers] == [2.5, 4.0]


def test_a_dead_letter_accounts_for_an_acknowledged_event() -> None:
    """It lies in the log, and could not be read; without the dead letter it is lost."""

    def lost(planted: Planted) -> None:
        planted.event(9.0, held="")

    def dead(planted: Planted) -> None:
        planted.dead = [("east-1.events", 0, 17)]

    assert judge(history(before=lost)).lost_unlisted == 1
    accounted = judge(history(before=lost, end=dead))
    assert (accounted.lost, accounted.lost_unlisted, accounted.dead_letters) == (1, 0, 1)
