"""Metrics against brute force: every order that the scores allow, each ranked and judged plainly."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.metrics import (
    HEADLINE,
    METRICS,
    Places,
    auc,
    f1_at,
    map_at,
    mrr_at,
    ndcg_at,
    place_of,
    places_of,
    precision_at,
    recall_at,
)

DEPTHS = (1, 2, 3, 5, 10)


def plain_figures(rank: int, items: int, depth: int) -> dict[str, float]:
    """The textbook figures of one ranking with one relevant item at a 1-based rank."""
    hits = 1 if rank <= depth else 0
    precision, recall = hits / depth, hits / 1
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
        "map": hits * (1 / rank),
        "mrr": hits / rank,
        "ndcg": hits * (1 / math.log2(1 + rank)) / (1 / math.log2(2)),
        "auc": (items - rank) / (items - 1) if items > 1 else 1.0,
    }


def brute_force(scores: list[int], clicked: int, depth: int) -> dict[str, float]:
    """Means over every order of the items in which no item stands before one with a higher score."""
    found: list[dict[str, float]] = []
    for order in permutations(range(len(scores))):
        ranked = [scores[item] for item in order]
        if ranked == sorted(scores, reverse=True):
            found.append(plain_figures(order.index(clicked) + 1, len(scores), depth))
    return {name: sum(one[name] for one in found) / len(found) for name in found[0]}


def ours(places: Places, depth: int) -> dict[str, float]:
    """The same figures by the module under test, of one search."""
    return {
        "precision": float(precision_at(places, depth)[0]),
        "recall": float(recall_at(places, depth)[0]),
        "f1": float(f1_at(places, depth)[0]),
        "map": float(map_at(places, depth)[0]),
        "mrr": float(mrr_at(places, depth)[0]),
        "ndcg": float(ndcg_at(places, depth)[0]),
        "auc": float(auc(places)[0]),
    }


@given(
    scores=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    clicked=st.integers(0, 5),
    depth=st.sampled_from(DEPTHS),
)
def test_every_metric_is_the_mean_over_all_orders_of_ties(scores: list[int], clicked: int, depth: int) -> None:
    """Scores from four values make ties everywhere; all permutations are judged one by one."""
    clicked %= len(scores)
    live = np.ones(len(scores), np.bool_)
    places = places_of([place_of(np.array(scores, np.float64), clicked, live)])
    assert ours(places, depth) == pytest.approx(brute_force(scores, clicked, depth))


def test_what_was_not_ranked_shares_the_last_places() -> None:
    """Two items ranked, four not: the clicked one of the four is at each of the places 3 to 6 a quarter of the time."""
    scores = np.array([5.0, 4.0, -np.inf, -np.inf, -np.inf, -np.inf])
    places = places_of([place_of(scores, 3, np.ones(6, np.bool_))])
    assert recall_at(places, 3)[0] == pytest.approx(1 / 4)
    assert mrr_at(places, 5)[0] == pytest.approx((1 / 3 + 1 / 4 + 1 / 5) / 4)
    assert auc(places)[0] == pytest.approx((3 + 2 + 1 + 0) / 4 / 5)


def test_an_item_outside_the_catalogue_counts_zero_everywhere() -> None:
    """Never in it (no column), or not in it yet: no metric gives anything, AUC neither."""
    scores, live = np.array([3.0, 2.0, 1.0]), np.array([True, True, False])
    places = places_of([place_of(scores, -1, live), place_of(scores, 2, live)])
    for name, metric in METRICS.items():
        assert metric(places).tolist() == [0.0, 0.0], name


def test_items_that_are_not_there_yet_are_no_rivals() -> None:
    """The best score belongs to an item that is not in the catalogue: the next one is first."""
    places = places_of([place_of(np.array([9.0, 2.0, 1.0]), 1, np.array([False, True, True]))])
    assert precision_at(places, 1)[0] == auc(places)[0] == 1.0


def test_a_score_that_is_not_a_number_is_refused() -> None:
    """NaN is neither above nor below anything, and would count as ranked first."""
    with pytest.raises(ValueError, match="not a number"):
        place_of(np.array([np.nan, 1.0]), 1, np.ones(2, np.bool_))


def test_the_headline_is_what_was_asked_for() -> None:
    """The five figures of the JSON, by their names."""
    assert HEADLINE == ("mrr_at_5", "ndcg_at_10", "recall_at_10", "auc", "precision_at_1")
    assert set(HEADLINE) < set(METRICS)
