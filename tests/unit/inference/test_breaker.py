"""The breaker, moved by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.inference.breaker import Breaker, BreakerLimits, State

LIMITS = BreakerLimits(failures_max=3, open_seconds=1.0, open_seconds_max=4.0)


def opened(now: float = 0.0) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker(LIMITS)
    for _ in range(LIMITS.failures_max):
        breaker.failed(breaker.begin(), now)
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    """A success in between starts the count again."""
    breaker = Breaker(LIMITS)
    for _ in range(5):
        breaker.failed(breaker.begin(), 0.0)
        breaker.failed(breaker.begin(), 0.0)
        breaker.begin()
        breaker.succeeded()
    assert breaker.state is State.CLOSED
    assert opened().state is State.OPEN


def test_it_lets_one_probe_through_and_closes_when_that_is_answered() -> None:
    """While the probe is under way nobody else goes; its answer lets all through again."""
    breaker = opened()
    assert "0.40 s" in str(breaker.blocker(0.6))
    assert breaker.blocker(1.0) is None
    breaker.begin()
    assert breaker.state is State.HALF_OPEN
    assert "one is under way" in str(breaker.blocker(1.0))
    breaker.succeeded()
    assert breaker.blocker(1.0) is None


def test_a_failed_probe_opens_it_for_longer_up_to_the_bound() -> None:
    """1 s, 2 s, 4 s, 4 s; after a success 1 s again."""
    breaker = opened()
    now = 0.0
    for length in (1.0, 2.0, 4.0, 4.0):
        assert breaker.blocker(now + length - 0.01) is not None
        now += length
        assert breaker.blocker(now) is None
        breaker.failed(breaker.begin(), now)
    breaker.succeeded()
    for _ in range(3):
        breaker.failed(breaker.begin(), now)
    assert breaker.blocker(now + 1.0) is None


def test_requests_from_before_the_opening_do_not_decide_about_the_probe() -> None:
    """A late time-out of an old request neither ends the probe nor lengthens the pause."""
    breaker = Breaker(LIMITS)
    old = breaker.begin()
    for _ in range(3):
        breaker.failed(breaker.begin(), 0.0)
    breaker.failed(old, 0.9)
    assert breaker.blocker(1.0) is None
    breaker.begin()
    breaker.failed(old, 1.1)
    assert breaker.state is State.HALF_OPEN


def test_a_probe_whose_caller_left_gives_its_place_back() -> None:
    """Otherwise the breaker would wait for ever for a verdict that does not come."""
    breaker = opened()
    assert breaker.blocker(1.0) is None
    breaker.abandoned(breaker.begin())
    assert breaker.blocker(1.0) is None


@given(st.lists(st.tuples(st.sampled_from(["ok", "fail", "leave"]), st.floats(0, 3)), max_size=60))
def test_it_never_locks_up(steps: list[tuple[str, float]]) -> None:
    """Whatever happened, after the longest pause a request may be sent."""
    breaker = Breaker(LIMITS)
    now = 0.0
    for outcome, pause in steps:
        now += pause
        if breaker.blocker(now) is not None:
            continue
        attempt = breaker.begin()
        if outcome == "ok":
            breaker.succeeded()
        elif outcome == "fail":
            breaker.failed(attempt, now)
        else:
            breaker.abandoned(attempt)
    assert breaker.blocker(now + LIMITS.open_seconds_max) is None
