"""Living through a log once, and asking every entrant each search of the test part before its click is told.

There are two states of the counters: one that is told everything, and one that is told nothing after the split. The
split is the moment of the first search of the test part: a click on an earlier search that was made after that moment
is no longer learned by the frozen ones. Catalogue entries are no clicks and are known to everybody when they are made.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from models.baselines import normalised
from models.counters import CounterView
from models.evaluation.counting import Popularity
from models.evaluation.entrants import Entrant
from models.evaluation.metrics import Counts, Place, Places, place_of, places_of
from models.evaluation.questions import FrozenCounters, Question, Shelf, Visits
from models.records import ItemRecord, SearchRecord, Source
from models.typos import with_one_typo
from models.walk import Step, Walk, number_of, steps

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Judged:
    """How every entrant ranked the n searches of the test part that ended in a click."""

    searches: tuple[SearchRecord, ...]
    places: dict[str, Places]
    """By the entrant's name, (n,)."""
    mistyped: dict[str, Places]
    """The same searches with one typo each; (n,)."""
    columns: Counts
    """Column of the clicked item, -1 when no catalogue entry ever named it; (n,)."""
    clicks_before: Counts
    """Clicks on each column of the shelf before the split, (items,)."""
    query_known: npt.NDArray[np.bool_]
    """Whether the query was asked before the split, (n,)."""
    has_history: npt.NDArray[np.bool_]
    """Whether the user had clicked anything before, (n,)."""
    typos: int
    """How many queries a typo really changed."""


class _Ledger:
    """What is written down as the test part goes by."""

    def __init__(self, entrants: Sequence[Entrant]) -> None:
        self.searches: list[SearchRecord] = []
        self.places: dict[str, list[Place]] = {entrant.name: [] for entrant in entrants}
        self.mistyped: dict[str, list[Place]] = {entrant.name: [] for entrant in entrants}
        self.query_known: list[bool] = []
        self.has_history: list[bool] = []
        self.typos = 0


class Trial:
    """One evaluation: the test part is the searches from `split` on."""

    def __init__(
        self,
        source: Source,
        split: int,
        entrants_on: Callable[[Shelf], list[Entrant]],
        *,
        seed: int = 0,
        with_typos: bool = True,
    ) -> None:
        self._source = source
        self._split = split
        self._seed = seed
        self._with_typos = with_typos
        self._shelf = Shelf(source.items)
        self.entrants = entrants_on(self._shelf)
        self._visits = Visits(self._shelf)
        self._past = Popularity(self._shelf)
        self._queries: set[str] = set()
        self._walk, self._frozen = Walk(), Walk()
        self._still: CounterView | None = None
        self._ledger = _Ledger(self.entrants)

    def run(self, on_progress: Progress = lambda *_: None) -> Judged:
        """Walk the source; `on_progress` gets the searches walked and how many there are."""
        total = len(self._source.searches)
        for step in steps(self._source):
            if isinstance(step, SearchRecord):
                if step.index == self._split:
                    self._frozen.settle()
                    self._still = self._frozen.index.read(step.time_ms)
                if self._still is not None and step.clicked:
                    self._judge(step, self._still)
                on_progress(step.index + 1, total)
            self._tell(step)
        return self._judged()

    def _tell(self, step: Step) -> None:
        is_before = self._still is None
        is_catalogue = isinstance(step, ItemRecord)
        if isinstance(step, ItemRecord):
            self._shelf.put(step)
        for entrant in self.entrants:
            if entrant.learn is not None and (is_before or is_catalogue or entrant.fed):
                entrant.learn(step)
        self._walk.tell(step)
        self._visits.tell(step)
        if is_before:
            self._frozen.tell(step)
            self._past.learn(step)
            if isinstance(step, SearchRecord):
                self._queries.add(normalised(step.query))

    def _judge(self, search: SearchRecord, still: CounterView) -> None:
        ledger = self._ledger
        column = self._shelf.column(search.clicked)
        asked = msgspec.structs.replace(search, clicked="", click_time_ms=0, position=0, outcome="click")
        question = self._question(asked, still)
        ledger.searches.append(search)
        ledger.query_known.append(question.query in self._queries)
        ledger.has_history.append(bool(question.clicked))
        self._rank(question, column, ledger.places)
        if self._with_typos:
            query = with_one_typo(search.query, self._seed, search.index)
            if query != search.query:
                ledger.typos += 1
                question = self._question(msgspec.structs.replace(asked, query=query), still)
            self._rank(question, column, ledger.mistyped)

    def _question(self, search: SearchRecord, still: CounterView) -> Question:
        fed = self._walk.ask(search)
        frozen = FrozenCounters(still, self._walk.index.read(search.time_ms))
        return Question(
            search=search,
            query=normalised(search.query),
            visit=self._visits.session(search),
            clicked=self._visits.clicked(search),
            fed=fed,
            frozen=self._walk.ask(search, view=frozen),
        )

    def _rank(self, question: Question, column: int, into: dict[str, list[Place]]) -> None:
        for entrant in self.entrants:
            into[entrant.name].append(place_of(entrant.scores(question), column, self._shelf.live))

    def _judged(self) -> Judged:
        ledger = self._ledger
        return Judged(
            searches=tuple(ledger.searches),
            places={name: places_of(found) for name, found in ledger.places.items()},
            mistyped={name: places_of(found) for name, found in ledger.mistyped.items()},
            columns=np.array([self._shelf.column(search.clicked) for search in ledger.searches], np.int64),
            clicks_before=self._past.clicks.astype(np.int64),
            query_known=np.array(ledger.query_known, np.bool_),
            has_history=np.array(ledger.has_history, np.bool_),
            typos=ledger.typos,
        )


def users_of(judged: Judged) -> npt.NDArray[np.int64]:
    """A number for each search's user, (n,)."""
    return np.array([number_of(search.user) for search in judged.searches], np.uint64).view(np.int64)
