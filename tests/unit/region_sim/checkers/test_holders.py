"""An epoch names one region and one instance, by all that saw it."""

from __future__ import annotations

import pytest

from region_sim.evidence import Evidence, MarkerSeen, TermSeen
from region_sim.spec import ClockFault, Kill
from tests.support.judged import found_by, without
from tests.support.planted_history import FIRST, SECOND, Planted, history, receipt, term, transition

NAME = "one-holder-an-epoch"


@pytest.mark.parametrize(
    "other",
    [
        term("west", FIRST, 3.0, 4.0),
        term("east", FIRST, 0.0, 12.0, instance="another"),
        transition(3, 3.0, "west", "acquired", FIRST),
        MarkerSeen(
            seen_in="west",
            log="west-1.rankings",
            partition=0,
            offset=3,
            region="west",
            incarnation="west-1",
            epoch=FIRST,
        ),
    ],
)
def test_a_second_holder_is_found_by_whoever_saw_it(other: Evidence) -> None:
    """The leader key, the controllers' history, the markers."""
    assert found_by(NAME, history(evidence=lambda found: [*found, other])).verdict == "invalid"


def test_a_second_holder_is_found_in_an_answer_and_the_answer_is_named() -> None:
    """The first entry that contradicts what was seen before."""
    entries = history(during=lambda p: p.search("bare-west", 11.0, "west", FIRST))
    found = found_by(NAME, entries)
    assert found.verdict == "invalid"
    assert found.first_index is not None
    assert entries[found.first_index].process == "bare-west"


def test_a_receipt_that_another_region_wrote_in_a_term_is_found() -> None:
    """Who writes receipts holds the lease."""

    def end(planted: Planted) -> None:
        planted.receipts = [receipt(issued_by="east")]

    assert found_by(NAME, history(end=end)).verdict == "invalid"


def test_an_epoch_that_another_process_acquires_again_is_found() -> None:
    """A controller that was started after its predecessor was killed, and took its key for its own."""

    def killed(planted: Planted) -> None:
        planted.strike(4.5, details="SIGKILL to controller of east", region_lost=False)

    def again(planted: Planted) -> None:
        planted.transitions.append(transition(3, 5.0, "east", "acquired", FIRST))

    faults = [Kill(), Kill()]
    found = found_by(NAME, history(before=killed, end=again, faults=list(faults)))
    assert (found.verdict, "by another process of east" in found.sentence) == ("invalid", True)
    # The same process came to its key twice, because an answer was lost; or nobody can say when.
    assert found_by(NAME, history(end=again)).verdict == "valid"
    clock = history(before=killed, end=again, faults=[*faults, ClockFault()])
    assert found_by(NAME, clock).verdict == "valid"


def test_an_epoch_that_goes_back_is_found() -> None:
    """A store that was restored gave out smaller numbers than before."""
    backward = history(end=lambda p: p.terms.append(term("west", (0, 7), 20.0)))
    assert found_by(NAME, backward).verdict == "invalid"


def test_a_leader_key_that_nobody_watched_proves_nothing() -> None:
    """None of it, or not the term that an answer names."""
    assert found_by(NAME, history(evidence=lambda f: without(f, TermSeen))).verdict == "unknown"

    def end(planted: Planted) -> None:
        planted.terms = [one for one in planted.terms if one.epoch != SECOND]

    assert found_by(NAME, history(end=end)).verdict == "unknown"
