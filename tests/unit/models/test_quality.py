"""Figures of ranking quality, checked by hand."""

import math

import pytest

from models.quality import Quality, discounted_gain, rank_of, reciprocal_rank


def test_rank_counts_from_one_and_is_zero_when_missing() -> None:
    """The first place is 1; an item that was not ranked has rank 0."""
    assert [rank_of(["a", "b"], item) for item in "abc"] == [1, 2, 0]


def test_depths_cut_off() -> None:
    """Place 5 still counts for MRR@5 and place 10 for NDCG@10; the next ones do not."""
    assert [reciprocal_rank(rank) for rank in (0, 1, 2, 5, 6)] == [0, 1, 0.5, 0.2, 0]
    assert discounted_gain(1) == 1
    assert discounted_gain(10) == pytest.approx(1 / math.log2(11))
    assert discounted_gain(11) == discounted_gain(0) == 0


def test_a_missed_item_counts_zero_and_is_not_left_out() -> None:
    """Two searches, one of them missed: the mean is over both."""
    quality = Quality()
    quality.add(["a", "b"], "b")
    quality.add(["a", "b"], "z")
    figures = quality.figures()
    assert (figures.searches, figures.mrr_at_5, figures.recall_at_10, figures.first_place) == (2, 0.25, 0.5, 0)


def test_parts_cover_every_search_once() -> None:
    """Quarters of ten searches have 2, 3, 2 and 3 of them, and their sum is the whole."""
    quality = Quality()
    for rank in range(1, 11):
        quality.add_rank(rank)
    parts = quality.parts(4)
    assert [part.searches for part in parts] == [2, 3, 2, 3]
    assert sum(part.mrr_at_5 * part.searches for part in parts) == pytest.approx(quality.mrr_at_5 * 10)


def test_comparison_is_paired() -> None:
    """A ranker that is better by the same step on every search leads without any doubt."""
    better, worse = Quality(), Quality()
    for _ in range(50):
        better.add_rank(1)
        worse.add_rank(2)
    lead = better.compare(worse)
    assert (lead.difference, lead.low, lead.high) == (0.5, 0.5, 0.5)
    worse.add_rank(1)
    with pytest.raises(ValueError, match="rank the same ones"):
        better.compare(worse)


def test_no_searches_is_zero_and_no_error() -> None:
    """Nothing ranked yet: all figures are 0."""
    assert Quality().figures().mrr_at_5 == 0
