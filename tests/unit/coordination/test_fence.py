"""The deadline's arithmetic, and when clocks are not believed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.coordination.fence import NEVER, FenceTimes, Reading, act_until, clock_jump

TIMES = FenceTimes(rate_bound=0.001, quiesce_seconds=0.1)


def test_the_deadline_is_the_formula() -> None:
    """D = s + T (1 - rho) - sigma."""
    assert act_until(100.0, 2.0, TIMES) == 100.0 + 2.0 * 0.999 - 0.1


def test_an_answer_without_a_time_to_live_is_no_renewal() -> None:
    """The store answers 200 without a TTL for a lease that is gone."""
    assert act_until(100.0, 0.0, TIMES) == NEVER
    assert act_until(100.0, -1.0, TIMES) == NEVER


@given(sent=st.floats(0, 1e6), delay=st.floats(0, 10), ttl=st.floats(0.5, 60), rate=st.floats(0.999, 1.001))
def test_a_holder_stops_before_the_store_lets_go(sent: float, delay: float, ttl: float, rate: float) -> None:
    """However long the question travels, and however the clocks run within the bound."""
    store_lets_go = sent + (delay + ttl) * rate  # on the holder's clock
    assert act_until(sent, ttl, TIMES) < store_lets_go


def test_clocks_that_run_together_are_believed() -> None:
    """Also after a long while, with the slewing that the bound allows."""
    assert clock_jump(Reading(0, 0.0), Reading(400, 0.4), TIMES) is None
    assert clock_jump(Reading(0, 0.0), Reading(1_000_500, 1_000.0), TIMES) is None


def test_clocks_that_part_are_not() -> None:
    """In both directions: a step back may be followed by a step forth."""
    assert "+0.600" in (clock_jump(Reading(0, 0.0), Reading(1_000, 0.4), TIMES) or "")
    assert "-0.600" in (clock_jump(Reading(1_000, 0.0), Reading(800, 0.4), TIMES) or "")
