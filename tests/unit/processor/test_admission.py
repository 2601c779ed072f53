"""Every ask has exactly one course, decided from numbers alone."""

import dataclasses

import pytest

from services.processor.admission import AskLimits, Course, Load, decide, scoring_deadline_ms, uncovered
from streams.asks import Ask
from streams.position import Frontier, Position

LIMITS = AskLimits(
    scoring_max=2, waiting_max=1, overflow_age_ms_max=100, margin_ms=30, infer_ms_max=150, catalogue_wait_ms_max=100
)
IDLE = Load(scoring=0, waiting=0)
ASK = Ask(ask_id="a", reply_to="g", kind="search", deadline_unix_ms=10_500, at_ms=0)


def course(
    *, now_ms: int = 10_000, age_ms: int = 1, gate: str | None = None, missing: bool = False, load: Load = IDLE
) -> Course:
    """The course of ASK under LIMITS."""
    return decide(ASK, now_ms=now_ms, age_ms=age_ms, gate_blocker=gate, missing=missing, load=load, limits=LIMITS)


def test_an_ask_in_time_is_scored() -> None:
    """The ordinary case."""
    assert course() is Course.SCORE


@pytest.mark.parametrize(("now_ms", "expected"), [(10_469, Course.SCORE), (10_470, Course.DROP_EXPIRED)])
def test_an_ask_expires_a_margin_before_its_deadline(now_ms: int, expected: Course) -> None:
    """What could not be published and shown in time is not begun."""
    assert course(now_ms=now_ms) is expected


def test_a_shut_gate_drops_it() -> None:
    """In a passive region asks are known and not answered."""
    assert course(gate="passive") is Course.DROP_GATE


def test_a_missing_read_token_is_waited_for_while_there_is_room() -> None:
    """The bound of waiting asks holds; the next is answered without its token."""
    assert course(missing=True) is Course.WAIT
    assert course(missing=True, load=Load(scoring=0, waiting=1)) is Course.SCORE


def test_overflow_goes_to_the_counters_and_old_overflow_is_dropped() -> None:
    """Two steps of shedding."""
    full = Load(scoring=2, waiting=0)
    assert course(load=full) is Course.COUNTERS
    assert course(load=full, age_ms=101) is Course.DROP_OVERFLOW


def test_the_model_never_gets_more_than_its_share_of_the_deadline() -> None:
    """The smaller of its own bound and what the deadline leaves."""
    assert scoring_deadline_ms(ASK, 10_000, LIMITS) == 10_150
    assert scoring_deadline_ms(ASK, 10_400, LIMITS) == 10_470
    wide = dataclasses.replace(LIMITS, infer_ms_max=10_000)
    assert scoring_deadline_ms(ASK, 10_000, wide) == 10_470


def test_uncovered_names_only_what_is_ahead_of_the_frontier() -> None:
    """A token is covered when its offset lies below the next one."""
    frontier = Frontier({("east-1.events", 0): 5})
    behind, ahead = Position("east-1.events", 0, 4), Position("east-1.events", 0, 5)
    assert uncovered([behind, ahead, Position("west-1.events", 0, 0)], frontier) == [
        ahead,
        Position("west-1.events", 0, 0),
    ]
