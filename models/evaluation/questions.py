"""What every ranker is asked: the same search, the same catalogue, and what its user did before.

A log is walked once, in order of time. The shelf says which items there are at that moment; visits say what the user
has done so far, which is part of the *question*: a ranker that learned nothing since the split still sees it, as any
recommender that was fitted yesterday sees today's session.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from models.baselines import normalised
from models.counters import U64, CounterView, Counts, HistoryRead
from models.evaluation.metrics import Mask
from models.records import ItemRecord, OutcomeRecord, SearchRecord
from models.walk import Moment, Step
from streams.hashing import item_hash

OUTSIDE = -1
"""The column of an item that no catalogue entry ever named."""


class Shelf:
    """All items that a source's catalogue ever names, as columns 0 to N - 1, and which of them are there now."""

    def __init__(self, items: Iterable[ItemRecord]) -> None:
        self.ids = sorted({entry.item for entry in items})
        self._columns = {item: column for column, item in enumerate(self.ids)}
        self._by_hash = {item_hash(item): column for column, item in enumerate(self.ids)}
        self.live: Mask = np.zeros(len(self.ids), np.bool_)

    def __len__(self) -> int:
        return len(self.ids)

    def put(self, entry: ItemRecord) -> int:
        """Have an item from now on; returns its column."""
        column = self._columns[entry.item]
        self.live[column] = True
        return column

    def column(self, item: str) -> int:
        """The column of an item, OUTSIDE for one that is never in the catalogue."""
        return self._columns.get(item, OUTSIDE)

    def columns_of(self, hashes: U64) -> npt.NDArray[np.int64]:
        """Columns of items by their hashes."""
        return np.fromiter((self._by_hash[value] for value in hashes.tolist()), np.int64, len(hashes))


class Element(msgspec.Struct, frozen=True):
    """One thing that a user did in a visit: asked for `query`, or clicked the item in `column`."""

    query: str = ""
    """As `models.baselines.normalised` leaves it; empty for a click."""
    column: int = OUTSIDE


@dataclass(frozen=True, slots=True)
class Question:
    """One search to be ranked, and what is known of its user."""

    search: SearchRecord
    """Without its click: nobody can look at the answer. Its `query` may hold a typo that its user did not make."""
    query: str
    """As `models.baselines.normalised` leaves it."""
    visit: tuple[Element, ...]
    """What the user did before in this session, oldest first."""
    clicked: tuple[int, ...]
    """Columns of the items that the user clicked before, in any session, oldest first."""
    fed: Moment
    """The model's inputs with counters as of now."""
    frozen: Moment
    """The model's inputs with counters as of the split; the user's history is as of now."""


class Visits:
    """What each user did so far."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._sessions: dict[str, list[Element]] = defaultdict(list)
        self._clicked: dict[str, list[int]] = defaultdict(list)

    def tell(self, step: Step) -> None:
        """Let a step have happened."""
        if isinstance(step, SearchRecord):
            query = normalised(step.query)
            if query:
                self._sessions[step.session].append(Element(query=query))
        elif isinstance(step, OutcomeRecord) and step.kind == "click":
            column = self._shelf.column(step.search.clicked)
            if column != OUTSIDE:
                self._sessions[step.search.session].append(Element(column=column))
                self._clicked[step.search.user].append(column)

    def session(self, search: SearchRecord) -> tuple[Element, ...]:
        """What happened before in the session of a search, oldest first."""
        return tuple(self._sessions.get(search.session, ()))

    def clicked(self, search: SearchRecord) -> tuple[int, ...]:
        """What the user of a search clicked before, oldest first."""
        return tuple(self._clicked.get(search.user, ()))


@dataclass(frozen=True, slots=True)
class FrozenCounters:
    """Counters that stand still, beside a history that goes on: what a ranker without a stream can know."""

    counters: CounterView
    live: CounterView

    def query_items(self, q: int, limit: int) -> tuple[U64, Counts]:
        """See `CounterView`, as the ones below."""
        return self.counters.query_items(q, limit)

    def query_item_counts(self, q: int, items: U64) -> Counts:
        """Clicks for a query on each of k items: (k, 3)."""
        return self.counters.query_item_counts(q, items)

    def item_counts(self, items: U64) -> Counts:
        """Clicks, carts, purchases and views of each of k items: (k, 4, 3)."""
        return self.counters.item_counts(items)

    def co_items(self, item: int, limit: int) -> tuple[U64, Counts]:
        """Items clicked in one session with this one."""
        return self.counters.co_items(item, limit)

    def co_counts(self, anchors: U64, items: U64) -> Counts:
        """How often each of k items was clicked in one session with the anchors: (k, 3)."""
        return self.counters.co_counts(anchors, items)

    def popular(self, limit: int) -> tuple[U64, Counts]:
        """The most popular items."""
        return self.counters.popular(limit)

    def history(self, user: int, limit: int = 20) -> HistoryRead:
        """The user's newest events, as of now."""
        return self.live.history(user, limit)
