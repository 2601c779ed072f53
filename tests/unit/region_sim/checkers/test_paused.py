"""While an operator has paused, nothing moves."""

from __future__ import annotations

import pytest

from region_sim.evidence import Evidence, TermSeen, TransitionSeen
from region_sim.history import Entry
from region_sim.spec import ClockFault, Fault, Kill, OperatorPause
from tests.support.judged import found_by, without
from tests.support.planted_history import Plant, Planted, history, term, transition

NAME = "paused-means-paused"
THIRD = (0, 20)
FAULTS: list[Fault] = [Kill(), OperatorPause(at_seconds=8, for_seconds=10)]


def hold(planted: Planted) -> None:
    """An operator pauses at second 15, and resumes ten seconds later."""
    began = planted.strike(15.1, kind="hold", target="west", region_lost=False, was_active=False)
    planted.heal(began, 25.0)


def by_hand(planted: Planted) -> None:
    """The same, said by an operator who is no fault of the drill."""
    for op, at in (("pause", 15.1), ("resume", 25.0)):
        call = planted.add("invoke", op, "operators", at).index
        planted.add("ok", op, "operators", at + 0.1, call=call)


def moves(*moved: Evidence) -> list[Entry]:
    """A drill with a pause, and moves in it."""

    def end(planted: Planted) -> None:
        planted.terms += [piece for piece in moved if isinstance(piece, TermSeen)]
        planted.transitions += [piece for piece in moved if isinstance(piece, TransitionSeen)]

    return history(after=hold, end=end, faults=list(FAULTS))


@pytest.mark.parametrize("pause", [hold, by_hand])
def test_a_pause_in_which_nothing_moves_is_valid(pause: Plant) -> None:
    """Whoever asked for it."""
    found = found_by(NAME, history(after=pause, faults=list(FAULTS)))
    assert found.verdict == "valid"
    assert "1 pauses" in found.sentence


def test_without_a_pause_there_is_nothing_to_judge() -> None:
    """Transitions are what regions do."""
    assert found_by(NAME, history()).sentence == "nobody paused"


@pytest.mark.parametrize(
    "moved",
    [
        term("east", THIRD, 20.0),
        transition(3, 20.0, "east", "acquired", THIRD),
        transition(3, 20.0, "west", "resigned", None),
        transition(3, 20.0, "west", "switchover", None),
        transition(3, 20.0, "west", "failover", None),
    ],
)
def test_a_move_during_a_pause_is_found(moved: Evidence) -> None:
    """A new term, somebody who resigns, an operation: by the leader key or by the controllers' own words."""
    found = found_by(NAME, moves(moved))
    assert found.verdict == "invalid"
    assert found.first_index is not None


def test_a_resignation_is_judged_by_when_the_key_went() -> None:
    """What a controller writes down late happened when the watcher saw it."""
    inside = moves(term("west", THIRD, 14.0, 20.0), transition(3, 30.0, "west", "resigned", THIRD))
    outside = moves(term("west", THIRD, 14.0, 30.0), transition(3, 20.0, "west", "resigned", THIRD))
    assert found_by(NAME, inside).verdict == "invalid"
    assert found_by(NAME, outside).verdict == "valid"


def test_what_was_under_way_and_what_comes_later_may_be() -> None:
    """A campaign that was decided before anybody could have heard of the pause; and one after it."""
    assert found_by(NAME, moves(term("east", THIRD, 15.3))).verdict == "valid"
    assert found_by(NAME, moves(term("east", THIRD, 26.0))).verdict == "valid"


def test_a_key_that_runs_out_is_no_move() -> None:
    """Its holder died; that nobody takes over is what the pause is for."""
    assert found_by(NAME, moves(term("west", THIRD, 14.0, 20.0))).verdict == "valid"


@pytest.mark.parametrize("kind", [TermSeen, TransitionSeen])
def test_moves_that_nobody_watched_prove_nothing(kind: type) -> None:
    """Unknown, never valid."""
    entries = history(after=hold, faults=list(FAULTS), evidence=lambda f: without(f, kind))
    assert found_by(NAME, entries).verdict == "unknown"


def test_clocks_that_were_set_date_nothing() -> None:
    """Then only the watcher says when."""
    faults: list[Fault] = [*FAULTS, ClockFault()]
    said = history(
        after=hold, faults=faults, end=lambda p: p.transitions.append(transition(3, 20.0, "west", "failover", None))
    )
    assert found_by(NAME, said).verdict == "valid"
    seen = history(after=hold, faults=faults, end=lambda p: p.terms.append(term("east", THIRD, 20.0)))
    assert found_by(NAME, seen).verdict == "invalid"
