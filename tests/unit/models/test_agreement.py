"""How alike two models rank."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from models.agreement import kendall_tau, rank_agreement


@pytest.mark.parametrize("seed", range(8))
def test_tau_is_what_scipy_says(seed: int) -> None:
    """With ties and without."""
    rng = np.random.default_rng(seed)
    values = 5 if seed % 2 else 1000
    one, other = rng.integers(0, values, 30).astype(float), rng.integers(0, values, 30).astype(float)
    assert kendall_tau(one, other) == pytest.approx(kendalltau(one, other).statistic)


def test_tau_of_constant_scores() -> None:
    """Two that rank nothing agree; one that ranks nothing says nothing of the other."""
    flat, rising = np.zeros(4), np.arange(4.0)
    assert (kendall_tau(flat, flat), kendall_tau(flat, rising)) == (1.0, 0.0)


def test_padding_is_not_ranked() -> None:
    """Where the candidates end, both models may say what they want."""
    one = np.array([[3, 2, 1, 99], [1, 2, 5, 6]], np.float32)
    other = np.array([[6, 4, 2, -9], [9, 8, 5, 5]], np.float32)
    real = np.array([[True, True, True, False], [True, True, False, False]])
    found = rank_agreement(one, other, real)
    assert (found.rows, found.kendall_tau, found.top10_overlap, found.same_best) == (2, pytest.approx(0.0), 1.0, 0.5)
    alone = rank_agreement(one, other, np.array([[True, True, True, False], [True, False, False, False]]))
    assert (alone.rows, alone.kendall_tau) == (1, 1.0)
    with pytest.raises(ValueError, match="two candidates"):
        rank_agreement(one, other, np.zeros((2, 4), bool))


def test_the_ten_best_are_compared_as_a_set() -> None:
    """Nine of ten in common are nine tenths."""
    one = np.arange(20, dtype=np.float32)[None, ::-1]
    other = one.copy()
    other[0, 9], other[0, 15] = one[0, 15], one[0, 9]
    assert rank_agreement(one, other, np.ones((1, 20), bool)).top10_overlap == pytest.approx(0.9)
