"""Nobody answers once a larger epoch is known, or the term is over; unless the drill broke what leases rest on."""

from __future__ import annotations

import pytest

from region_sim.spec import ClockFault, Fault, Kill, StoreFault
from region_sim.verdict import judge
from tests.support.judged import found_by
from tests.support.planted_history import FIRST, SECOND, Planted, history, term

NAME = "no-stale-epoch"


def after_its_term(planted: Planted) -> None:
    """Asked for half a second after the key was gone, and before anybody else answered."""
    planted.search("bare-east", 12.4, "east", FIRST)


def test_an_answer_asked_for_after_its_term_is_found_though_nobody_knew_better() -> None:
    """A holder that does not stop by its own clock."""
    verdict = judge(history(during=after_its_term))
    assert (verdict.after_term, verdict.stale_bare_late) == (1, 0)
    assert verdict.checkers[NAME].verdict == "invalid"


def test_an_answer_asked_for_while_the_key_was_there_may_come_later() -> None:
    """It was under way."""

    def under_way(planted: Planted) -> None:
        asked = planted.ask("bare-east", 11.9)
        planted.search("bare-east", 12.2, "east", FIRST, asked_at=asked)

    assert judge(history(during=under_way)).after_term == 0


@pytest.mark.parametrize("fault", [ClockFault(rate=1.5), StoreFault(how="stale-revocation")])
def test_what_leases_rest_on_was_broken_and_only_the_own_memory_is_left(fault: Fault) -> None:
    """A late answer is excused while it stood, and a lease longer; going back behind one's own is not."""
    kind = "clock" if isinstance(fault, ClockFault) else "store"

    def before(planted: Planted) -> None:
        planted.strike(9.9, kind=kind, region_lost=False, was_active=False, incarnation="")

    def own_memory(planted: Planted) -> None:
        planted.search("library-east", 12.4, "west", SECOND)
        planted.search("library-east", 12.5, "east", FIRST)

    faults = [fault, Kill()]
    excused = found_by(NAME, history(before=before, during=after_its_term, faults=faults))
    assert (excused.verdict, "1 while" in excused.sentence) == ("valid", True)
    assert found_by(NAME, history(before=before, during=own_memory, faults=faults)).verdict == "invalid"
    # A lease after the key was gone, every clock has run out.
    too_late = history(before=before, faults=faults, after=lambda p: p.search("bare-east", 15.5, "east", FIRST))
    assert found_by(NAME, too_late).verdict == "invalid"
    # The same answer, but the fault came later.
    assert found_by(NAME, history(during=after_its_term, faults=[Kill(), fault])).verdict == "invalid"


def test_a_clock_that_is_only_set_breaks_nothing() -> None:
    """Leases are counted on clocks that cannot be set."""

    def before(planted: Planted) -> None:
        planted.strike(9.9, kind="clock", region_lost=False, was_active=False, incarnation="")

    entries = history(before=before, during=after_its_term, faults=[ClockFault(step_seconds=60), Kill()])
    assert found_by(NAME, entries).verdict == "invalid"


def test_several_failovers_are_several_chances_to_be_stale() -> None:
    """The second term ended as well; and the first entry that breaks the rule is named."""
    third = (0, 20)

    def after(planted: Planted) -> None:
        planted.search("library-east", 15.2, "east", third)
        planted.search("bare-west", 15.4, "west", SECOND)

    def end(planted: Planted) -> None:
        planted.terms = [*planted.terms[:1], term("west", SECOND, 12.1, 15.1), term("east", third, 15.15)]

    entries = history(after=after, end=end)
    found = found_by(NAME, entries)
    assert found.verdict == "invalid"
    assert found.first_index is not None
    assert entries[found.first_index].epoch == SECOND
    assert entries[found.first_index].process == "bare-west"
