"""Metrics of rankings of a whole catalogue, judged by the one item that was really clicked.

A ranker gives every item a score, and items with equal scores stand in no order among themselves. So what is kept of a
ranking is not a rank but a *place*: how many items were scored higher than the clicked one, how many had its score
(itself included), and how many there were. Each metric is the expected value over all orders of the tied items. With a
gain g(r) for the clicked item at rank r, a of them higher and t tied, that is the mean of g(a+1) … g(a+t), a difference
of two cumulated gains. Cutting ties by an item's name instead would reward whatever ranker has many of them.

Items that a ranker did not rank share the last places. A clicked item that was not in the catalogue could be found by
nobody: it has no place (`tied` = 0), and every metric is 0 for everybody.

With one relevant item a search, MAP@k is MRR@k, recall@k is the share of searches with the item among the first k, and
NDCG needs no ideal ranking. AUC is the share of the other items that stand below the clicked one, ties counting half
(Mann-Whitney), for each search on its own and then averaged; no negatives are sampled for any metric (Krichene and
Rendle, "On sampled metrics for item recommendation", KDD 2020, show what sampling does to an order of models).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Places:
    """Where a ranker put the clicked items of n searches; three arrays of shape (n,)."""

    better: Counts
    """Items with a higher score."""
    tied: Counts
    """Items with the same score, the clicked one included; 0 when it was not in the catalogue."""
    items: Counts
    """Items that were ranked: the catalogue of that moment."""

    def __len__(self) -> int:
        return len(self.better)

    def take(self, rows: Counts | Mask) -> "Places":
        """Those of some searches."""
        return Places(self.better[rows], self.tied[rows], self.items[rows])


Place = tuple[int, int, int]
"""One search of `Places`: better, tied, items."""


def place_of(scores: Values, column: int, live: Mask) -> Place:
    """The place of the item in `column` among the live ones; `scores` and `live` have shape (items,).

    Raises ValueError for a score that is not a number: it would compare as neither better nor worse.
    """
    ranked = scores[live]
    if np.isnan(ranked).any():
        raise ValueError("a score is not a number (NaN): a ranker has to score every item of the catalogue")
    if column < 0 or not live[column]:
        return 0, 0, len(ranked)
    own = scores[column]
    return int((ranked > own).sum()), int((ranked == own).sum()), len(ranked)


def places_of(found: Sequence[Place]) -> Places:
    """Many places in columns."""
    columns = np.array(found, np.int64).reshape(len(found), 3)
    return Places(columns[:, 0], columns[:, 1], columns[:, 2])


def _expected(places: Places, gains: Values) -> Values:
    """Expected gain of each search; `gains` are those of the ranks 1 to k, and every later rank gains nothing."""
    depth = len(gains)
    cumulated = np.concatenate([[0.0], np.cumsum(gains)])
    first = np.minimum(places.better, depth)
    last = np.minimum(places.better + places.tied, depth)
    return np.asarray((cumulated[last] - cumulated[first]) / np.maximum(places.tied, 1), np.float64)


def recall_at(places: Places, depth: int) -> Values:
    """Whether the clicked item is among the first `depth`: 0 or 1, between them where ties decide."""
    return _expected(places, np.ones(depth))


def precision_at(places: Places, depth: int) -> Values:
    """Share of the first `depth` items that were clicked: 1/depth at best, as only one is."""
    return recall_at(places, depth) / depth


def f1_at(places: Places, depth: int) -> Values:
    """Harmonic mean of precision and recall: with one relevant item 2 / (depth + 1) where it was found."""
    return recall_at(places, depth) * 2 / (depth + 1)


def mrr_at(places: Places, depth: int) -> Values:
    """1 / rank down to `depth`, else 0."""
    return _expected(places, 1.0 / np.arange(1, depth + 1))


def map_at(places: Places, depth: int) -> Values:
    """Average precision: the precision at the rank of the only relevant item, which is 1 / rank."""
    return mrr_at(places, depth)


def ndcg_at(places: Places, depth: int) -> Values:
    """1 / log2(1 + rank) down to `depth`, else 0; the ideal ranking has 1."""
    return _expected(places, 1.0 / np.log2(np.arange(2, depth + 2)))


def auc(places: Places) -> Values:
    """Share of the other items below the clicked one, those with its score counting half; 1 if there is no other."""
    others = places.items - 1
    below = places.items - places.better - places.tied + (places.tied - 1) / 2
    share = np.where(others > 0, below / np.maximum(others, 1), 1.0)
    return np.where(places.tied > 0, share, 0.0)


METRICS: Final[dict[str, Callable[[Places], Values]]] = {
    "mrr_at_5": lambda places: mrr_at(places, 5),
    "ndcg_at_10": lambda places: ndcg_at(places, 10),
    "recall_at_10": lambda places: recall_at(places, 10),
    "auc": auc,
    "precision_at_1": lambda places: precision_at(places, 1),
    "precision_at_5": lambda places: precision_at(places, 5),
    "recall_at_5": lambda places: recall_at(places, 5),
    "f1_at_5": lambda places: f1_at(places, 5),
    "map_at_10": lambda places: map_at(places, 10),
    "mrr_at_10": lambda places: mrr_at(places, 10),
}
"""Name -> metric; each gives shape (n,)."""
HEADLINE: Final = ("mrr_at_5", "ndcg_at_10", "recall_at_10", "auc", "precision_at_1")
"""What is printed as JSON, and in the table."""
