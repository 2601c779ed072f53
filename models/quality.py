"""How good a ranking was, judged by the one item that was really clicked.

With one relevant item, MRR@5 equals MAP@5 and NDCG@10 needs no ideal ranking (it is 1 / log2(1 + rank)). A clicked
item that was not ranked counts 0, never "left out": leaving it out would flatter whatever ranks few items. Two
rankers are compared on the *same* searches, so the spread of their difference is taken over pairs.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Final

import msgspec

MRR_DEPTH: Final = 5
NDCG_DEPTH: Final = 10


def rank_of(items: Sequence[str], clicked: str) -> int:
    """1-based place of `clicked` in a ranking, 0 when it is not there."""
    for place, item in enumerate(items, start=1):
        if item == clicked:
            return place
    return 0


def reciprocal_rank(rank: int, depth: int = MRR_DEPTH) -> float:
    """1 / rank down to `depth`, else 0."""
    return 1.0 / rank if 1 <= rank <= depth else 0.0


def discounted_gain(rank: int, depth: int = NDCG_DEPTH) -> float:
    """NDCG of a ranking with one relevant item at `rank`."""
    return 1.0 / math.log2(1 + rank) if 1 <= rank <= depth else 0.0


class QualityFigures(msgspec.Struct, frozen=True):
    """Means over some searches."""

    searches: int
    mrr_at_5: float
    ndcg_at_10: float
    first_place: float
    recall_at_10: float


class Comparison(msgspec.Struct, frozen=True):
    """Mean difference of two rankers' reciprocal ranks on the same searches, with a 95 % interval."""

    difference: float
    low: float
    high: float


class Quality:
    """Collects the ranks at which one ranker put the clicked items."""

    def __init__(self) -> None:
        self._ranks: list[int] = []

    def add(self, items: Sequence[str], clicked: str) -> int:
        """Judge one ranking; returns the rank of the clicked item (0: not ranked)."""
        rank = rank_of(items, clicked)
        self._ranks.append(rank)
        return rank

    def add_rank(self, rank: int) -> None:
        """Take a rank that was found elsewhere; 0 for not ranked or not answered."""
        self._ranks.append(rank)

    def __len__(self) -> int:
        return len(self._ranks)

    @property
    def mrr_at_5(self) -> float:
        """Mean reciprocal rank down to place 5."""
        return self.figures().mrr_at_5

    def figures(self, first: int = 0, end: int | None = None) -> QualityFigures:
        """Means over the searches `first` to `end` (in the order in which they were added)."""
        ranks = self._ranks[first:end]
        count = max(len(ranks), 1)
        return QualityFigures(
            searches=len(ranks),
            mrr_at_5=sum(map(reciprocal_rank, ranks)) / count,
            ndcg_at_10=sum(map(discounted_gain, ranks)) / count,
            first_place=sum(rank == 1 for rank in ranks) / count,
            recall_at_10=sum(1 <= rank <= NDCG_DEPTH for rank in ranks) / count,
        )

    def parts(self, count: int) -> list[QualityFigures]:
        """The figures of `count` equal slices of the searches, in order: quarters for 4."""
        edges = [len(self._ranks) * part // count for part in range(count + 1)]
        return [self.figures(low, high) for low, high in itertools.pairwise(edges)]

    def compare(self, other: "Quality") -> Comparison:
        """By how much this ranker is better than `other` on the same searches.

        Raises ValueError when they did not rank the same number of searches.
        """
        if len(self) != len(other):
            raise ValueError(f"cannot compare {len(self)} ranked searches with {len(other)}: rank the same ones")
        pairs = zip(self._ranks, other._ranks, strict=True)  # noqa: SLF001 - another of this class
        gaps = [reciprocal_rank(mine) - reciprocal_rank(theirs) for mine, theirs in pairs]
        count = max(len(gaps), 1)
        mean = math.fsum(gaps) / count
        variance = math.fsum((gap - mean) ** 2 for gap in gaps) / max(count - 1, 1)
        margin = 1.96 * math.sqrt(variance / count)
        return Comparison(difference=mean, low=mean - margin, high=mean + margin)
