"""The gate refuses what ranks worse, what has no scores of its own, and falls that add up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.compression.gate import Limits, Scored, gains, judge
from models.encode import FEATURE
from tests.support.small_cases import small_cases

CASES = small_cases(200)
GOOD = np.where(CASES.candidate_items != 0, CASES.candidate_feats[:, :, FEATURE["blend_log"]], -1e9).astype(np.float32)


def worse(rows: int) -> Scored:
    """The same, but the clicked item of the first `rows` searches comes last."""
    scores = GOOD.copy()
    scores[np.arange(rows), CASES.clicked[:rows]] = -100.0
    return Scored(scores)


def test_the_same_scores_pass() -> None:
    """Nothing changed, all agree."""
    verdict = judge(Scored(GOOD), Scored(GOOD), Scored(GOOD), CASES)
    assert not verdict.refused
    assert (verdict.ndcg_change.mean, verdict.mrr_change.mean, verdict.ndcg_change_from_first) == (0, 0, 0)
    assert (verdict.same_ten, verdict.agreement.same_best, verdict.agreement.kendall_tau) == (1, 1, 1)


def test_a_fall_is_refused() -> None:
    """And says by how much, with an interval around it."""
    verdict = judge(worse(20), Scored(GOOD), Scored(GOOD), CASES)
    assert "below its parent's" in verdict.refused
    assert verdict.ndcg_change.low < verdict.ndcg_change.mean < -0.003
    assert verdict.same_ten < 1


def test_falls_do_not_add_up() -> None:
    """Every step within the limit, all of them together not."""
    limit = Limits(fall_max=0.012)
    assert not judge(worse(4), Scored(GOOD), Scored(GOOD), CASES, limit).refused
    assert not judge(worse(8), worse(4), worse(4), CASES, limit).refused
    assert "it all began with" in judge(worse(8), worse(4), Scored(GOOD), CASES, limit).refused


def test_another_order_is_refused_however_good_it_is() -> None:
    """The clicked items first, as one that knows the answers would: better figures, and not its parent's ranking."""
    scores = GOOD.copy()
    scores[np.arange(len(CASES)), CASES.clicked] = 100.0
    verdict = judge(Scored(scores), Scored(GOOD), Scored(GOOD), CASES)
    assert verdict.ndcg_change.mean > 0
    assert "keep their best item" in verdict.refused
    rng = np.random.Generator(np.random.PCG64(3))
    best = np.where(GOOD.max(axis=1, keepdims=True) == GOOD, GOOD, rng.normal(size=GOOD.shape).astype(np.float32) - 50)
    assert "stay among them" in judge(Scored(best), Scored(GOOD), Scored(GOOD), CASES, Limits(fall_max=1.0)).refused


def test_scores_that_are_no_numbers_are_refused() -> None:
    """A single one; and it counts as ranked last, not first."""
    scores = GOOD.copy()
    scores[3, CASES.clicked[3]] = np.nan
    assert "not a finite number" in judge(Scored(scores), Scored(GOOD), Scored(GOOD), CASES).refused
    assert gains(scores, CASES)[1][3] < gains(GOOD, CASES)[1][3] or gains(GOOD, CASES)[1][3] == 0


def test_scores_that_depend_on_their_batch_are_refused() -> None:
    """However well they rank."""
    assert "what else is in the batch" in judge(Scored(GOOD, 2e-4), Scored(GOOD), Scored(GOOD), CASES).refused
    assert not judge(Scored(GOOD, 5e-5), Scored(GOOD), Scored(GOOD), CASES).refused


@pytest.mark.parametrize(("rank", "ndcg", "mrr"), [(1, 1.0, 1.0), (3, 0.5, 1 / 3), (10, 0.28906, 0.0), (11, 0.0, 0.0)])
def test_gains_are_those_of_the_one_clicked_item(rank: int, ndcg: float, mrr: float) -> None:
    """NDCG is 1 / log2(1 + rank) down to place 10, MRR 1 / rank down to place 5."""
    full = CASES.take((CASES.candidate_items != 0).all(axis=1))
    full = replace(full, clicked=np.full(len(full), rank - 1, np.int16))
    scores = -np.arange(full.width, dtype=np.float32)[None, :].repeat(len(full), axis=0)
    found = gains(scores, full)
    assert len(full)
    assert found[0] == pytest.approx(ndcg, abs=1e-4)
    assert found[1] == pytest.approx(mrr)
