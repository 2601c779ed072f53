"""What a ranking has to beat on the same stream: popularity, and the table of clicks by exact query.

Both are plain on purpose and share nothing with the fold, so that they are a control of it too. They count for
ever (no decay) and are told each click after the search was ranked. Ties are broken by the item's name.
"""

import bisect
from collections import Counter, defaultdict
from functools import lru_cache
from typing import Protocol


@lru_cache(maxsize=65_536)
def normalised(query: str) -> str:
    """A query lower-cased and reduced to letters and digits, as the table keys it."""
    return "".join(character for character in query.lower() if character.isalnum())


class Baseline(Protocol):
    """A ranker that learns from the stream as it goes."""

    name: str

    def rank(self, query: str, size: int = 10) -> list[str]:
        """The best `size` items for a query, best first."""
        ...

    def update(self, query: str, item: str) -> None:
        """Take one click."""
        ...


class Popularity:
    """The most clicked items, whatever the query."""

    name = "popularity"

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._order: list[tuple[int, str]] = []

    def rank(self, query: str, size: int = 10) -> list[str]:  # noqa: ARG002 - a Baseline is told it
        """The most clicked items; the query does not matter."""
        return [item for _, item in self._order[:size]]

    def update(self, query: str, item: str) -> None:  # noqa: ARG002 - a Baseline is told it
        """Count one click."""
        count = self._counts[item]
        if count:
            del self._order[bisect.bisect_left(self._order, (-count, item))]
        bisect.insort(self._order, (-count - 1, item))
        self._counts[item] = count + 1


class QueryTable:
    """The most clicked items of exactly this query, filled up by popularity."""

    name = "query_table"

    def __init__(self) -> None:
        self._clicks: dict[str, Counter[str]] = defaultdict(Counter)
        self._popularity = Popularity()

    def rank(self, query: str, size: int = 10) -> list[str]:
        """Items clicked for the query by count, then the most popular others."""
        clicks = self._clicks.get(normalised(query), Counter())
        ranked = [item for item, _ in sorted(clicks.items(), key=lambda pair: (-pair[1], pair[0]))][:size]
        if len(ranked) < size:
            fill = self._popularity.rank(query, size + len(ranked))
            ranked += [item for item in fill if item not in clicks][: size - len(ranked)]
        return ranked

    def update(self, query: str, item: str) -> None:
        """Count one click."""
        self._clicks[normalised(query)][item] += 1
        self._popularity.update(query, item)


def baselines() -> tuple[Baseline, ...]:
    """A fresh set of what every ranking is printed beside."""
    return Popularity(), QueryTable()
