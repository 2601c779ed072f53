"""What ranking asks of the counters: the reading side of the derived index over the fold's state, as a protocol.

Retrieval and encoding are written against these few reads, so that training, serving and tests can each bring theirs.
Counts come in three lanes: a short half-life, a long one, and undecayed; all are float64 and as of the view's moment.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.float64]

SHORT, LONG, UNDECAYED = 0, 1, 2
CLICKS, CARTS, PURCHASES, VIEWS = 0, 1, 2, 3


class HistoryRead(Protocol):
    """The newest events of a user, newest first; three arrays of the same length."""

    @property
    def time_ms(self) -> npt.NDArray[np.int64]:
        """When it happened."""

    @property
    def item(self) -> U64:
        """Hash of the item, or of the query for a search."""

    @property
    def kind(self) -> npt.NDArray[np.uint8]:
        """`streams.kinds.Kind`."""


class CounterView(Protocol):
    """Counters as of one moment."""

    def query_items(self, q: int, limit: int) -> tuple[U64, Counts]:
        """Items clicked for a query, best first: hashes (m,) and counts (m, 3)."""

    def query_item_counts(self, q: int, items: U64) -> Counts:
        """Clicks for a query on each of k items: (k, 3)."""

    def item_counts(self, items: U64) -> Counts:
        """Clicks, carts, purchases and views of each of k items: (k, 4, 3)."""

    def co_items(self, item: int, limit: int) -> tuple[U64, Counts]:
        """Items clicked in one session with this one, best first: hashes (m,) and counts (m, 3)."""

    def co_counts(self, anchors: U64, items: U64) -> Counts:
        """How often each of k items was clicked in one session with the anchors, summed over them: (k, 3)."""

    def popular(self, limit: int) -> tuple[U64, Counts]:
        """The most popular items, best first: hashes (m,) and counts (m, 3)."""

    def history(self, user: int, limit: int = 20) -> HistoryRead:
        """The user's newest events."""
