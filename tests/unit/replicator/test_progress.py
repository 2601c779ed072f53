"""Lag, rate, time left and throttle, over given times."""

from __future__ import annotations

import pytest

from services.replicator.positions import Bounds
from services.replicator.progress import LagSeconds, Rate, TokenBucket, eta_seconds


def test_lag_is_the_age_of_the_oldest_end_that_is_not_covered() -> None:
    """A copy that follows closely is never far behind, however long the log has been growing."""
    lag = LagSeconds()
    for second in range(10):
        lag.saw(10 * (second + 1), float(second))
        assert lag.seconds(10 * second, float(second)) == 0.0
    assert lag.seconds(95, 12.0) == 3.0
    assert lag.seconds(100, 12.0) == 0.0


def test_the_time_left_is_that_of_the_measured_rate() -> None:
    """0 when nothing is missing, None when nothing moves."""
    rate = Rate()
    for second in range(30):
        rate.add(100 * second, float(second))
    assert rate.per_second() == pytest.approx(100)
    assert eta_seconds(1000, rate.per_second()) == pytest.approx(10)
    assert eta_seconds(0, 0.0) == 0.0
    assert eta_seconds(5, 0.0) is None


def test_a_throttle_waits_for_what_was_taken() -> None:
    """And hardly saves up while nothing happens."""
    bucket = TokenBucket(1000, 0.0)
    assert bucket.take(500, 0.0) == pytest.approx(0.5)
    assert bucket.take(500, 0.5) == pytest.approx(0.5)
    assert bucket.take(250, 100.0) == 0.0
    assert bucket.take(100, 100.0) == pytest.approx(0.1)
    assert not TokenBucket(0, 0.0).is_set
    assert TokenBucket(0, 0.0).take(10**9, 0.0) == 0.0


def test_bounds_remember_the_end_of_each_epoch_until_it_is_held() -> None:
    """A cut shows even after the log has grown beyond where it was; the largest end is never forgotten."""
    bounds = Bounds().saw(1, 100).saw(1, 90).saw(3, 60).saw(3, 200)
    assert bounds.end == 200
    assert bounds.replaced_below(80, 3) == 100
    assert bounds.replaced_below(80, 1) is None
    assert bounds.replaced_below(150, 3) is None
    assert bounds.replaced_below(150, 4) == 200
    assert bounds.pruned(50) == bounds
    assert bounds.pruned(120).replaced_below(130, 3) is None
    assert Bounds().saw(1, 100).saw(2, 70).pruned(100).end == 100
