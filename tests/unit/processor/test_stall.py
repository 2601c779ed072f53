"""A delivery that went silent is noticed; a slow one, a paused process and an idle log are not."""

import pytest

from services.processor.stall import StallDetector

PLACE = ("east-1.events", 0)


def look(detector: StallDetector, at: float, end: int, next_offset: int, answered: float | None) -> str | None:
    """One look at one partition."""
    return detector.stalled(at, {PLACE: end}, {PLACE: next_offset}, answered)


def test_an_idle_log_is_no_stall() -> None:
    """Fetches are answered, nothing waits."""
    detector = StallDetector(30)
    assert all(look(detector, float(t), 5, 5, float(t)) is None for t in range(100))


def test_records_that_wait_and_are_not_taken_are_one() -> None:
    """After the limit, not before."""
    detector = StallDetector(30)
    outcomes = [look(detector, float(t), 9, 5, float(t)) for t in range(40)]
    assert all(outcome is None for outcome in outcomes[:31])
    assert outcomes[35] is not None
    assert "none was taken" in outcomes[35]


def test_progress_however_slow_is_none() -> None:
    """A large backlog moves."""
    detector = StallDetector(30)
    assert all(look(detector, float(t), 1_000, t // 10, float(t)) is None for t in range(200))


def test_fetches_that_are_not_answered_are_one() -> None:
    """Though nothing waits: the next record would not come."""
    detector = StallDetector(30)
    outcomes = [look(detector, float(t), 5, 5, 1.0) for t in range(40)]
    assert outcomes[-1] is not None
    assert "no fetch was answered" in outcomes[-1]


@pytest.mark.parametrize("answered", [0.0, None])
def test_a_process_that_was_paused_gets_its_time(answered: float | None) -> None:
    """The clock jumped by minutes; the stall is counted from when it was first seen."""
    detector = StallDetector(30)
    assert look(detector, 0.0, 5, 5, answered) is None
    assert look(detector, 600.0, 9, 5, answered) is None
    assert look(detector, 601.0, 9, 9, 601.0) is None
