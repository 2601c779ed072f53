"""Bootstrap intervals: the same for the same seed, right for independent searches, wider where users repeat."""

import numpy as np
import pytest

from models.evaluation.intervals import Bootstrap


def values_of(seed: int, count: int) -> np.ndarray:
    """Values in (0, 1), shape (count, 1)."""
    return np.random.default_rng(seed).beta(2, 3, size=(count, 1))


def test_the_same_seed_gives_the_same_interval() -> None:
    """And another seed another one."""
    users, values = np.arange(200), values_of(1, 200)
    first, again, other = (Bootstrap.draw(users, seed).estimates(values) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_independent_searches_give_the_interval_that_theory_gives() -> None:
    """A user each: within a tenth of mean ± 1.96 standard errors."""
    values = values_of(2, 1000)
    found = Bootstrap.draw(np.arange(1000), 3).estimates(values)[0]
    margin = 1.96 * float(values.std(ddof=1)) / np.sqrt(1000)
    assert found.mean == pytest.approx(float(values.mean()))
    assert found.high - found.mean == pytest.approx(margin, rel=0.1)
    assert found.mean - found.low == pytest.approx(margin, rel=0.1)


def test_searches_of_one_user_are_drawn_together() -> None:
    """Every user searches four times alike: the interval is twice as wide as if all searches were independent."""
    values = np.repeat(values_of(4, 250), 4, axis=0)
    together = Bootstrap.draw(np.repeat(np.arange(250), 4), 3).estimates(values)[0]
    apart = Bootstrap.draw(np.arange(1000), 3).estimates(values)[0]
    assert (together.high - together.low) / (apart.high - apart.low) == pytest.approx(2.0, rel=0.15)


def test_differences_are_paired() -> None:
    """One ranker better by the same step on every search: its lead has no spread, though both figures have."""
    draws, worse = Bootstrap.draw(np.arange(100), 1), values_of(5, 100)
    lead = draws.estimates(worse + 0.25 - worse)[0]
    assert (lead.low, lead.high) == pytest.approx((0.25, 0.25))
    assert draws.estimates(worse)[0].high > draws.estimates(worse)[0].low


def test_a_slice_is_judged_on_the_same_draws() -> None:
    """Draws without any of a small slice's searches tell nothing about it; no searches at all are 0 and no error."""
    draws, values = Bootstrap.draw(np.arange(50), 1), values_of(6, 50)
    rows = np.arange(50) < 2
    found = draws.take(rows).estimates(values[rows])[0]
    assert found.low == pytest.approx(float(values[rows].min()))
    assert found.high == pytest.approx(float(values[rows].max()))
    assert draws.take(np.zeros(50, np.bool_)).estimates(values[:0])[0].mean == 0.0
