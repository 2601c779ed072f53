"""Baselines that look at what people did together: item-kNN over users, V-SKNN over sessions.

Both score by neighbourhood and, where that says nothing (or the same), by popularity.
"""

from collections import defaultdict
from heapq import nlargest
from itertools import islice
from typing import Final

import numpy as np

from models.baselines import normalised
from models.evaluation.counting import Popularity, click_column, then_by
from models.evaluation.metrics import Values
from models.evaluation.questions import OUTSIDE, Element, Question, Shelf
from models.records import OutcomeRecord, SearchRecord
from models.walk import Step

NEIGHBOURS: Final = 100
"""Sessions whose clicks are counted."""
SAMPLED: Final = 1_000
"""Of the sessions that share anything with this one, the newest so many are compared."""


class ItemKnn:
    """Items that the same users clicked: the cosine of two items' users, summed over what this user clicked before.

    Sarwar et al., "Item-based collaborative filtering recommendation algorithms" (WWW 2001), for clicks: the cosine of
    items i and j is (users of both) / sqrt(users of i x users of j). The query plays no part.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._popularity = Popularity(shelf)
        self._of_user: dict[str, set[int]] = defaultdict(set)
        self._users = np.zeros(len(shelf))
        self._together: dict[int, dict[int, int]] = defaultdict(dict)

    def scores(self, question: Question) -> Values:
        """Summed cosines, then popularity."""
        likeness: Values = np.zeros(len(self._shelf))
        for own in dict.fromkeys(question.clicked):
            for other, count in self._together.get(own, {}).items():
                likeness[other] += count / np.sqrt(self._users[own] * self._users[other])
        return then_by(likeness, self._popularity.clicks)

    def learn(self, step: Step) -> None:
        """Count a click once for each user and item."""
        self._popularity.learn(step)
        column = click_column(step, self._shelf)
        if column == OUTSIDE or not isinstance(step, OutcomeRecord):
            return
        known = self._of_user[step.search.user]
        if column in known:
            return
        for other in known:
            for one, two in ((column, other), (other, column)):
                self._together[one][two] = self._together[one].get(two, 0) + 1
        known.add(column)
        self._users[column] += 1


class Vsknn:
    """V-SKNN: past sessions like this one vote for the items that were clicked in them.

    Ludewig and Jannach, "Evaluation of session-based recommendation algorithms" (User Modeling and User-Adapted
    Interaction 28, 2018), section on V-SKNN. The present session is a vector of its elements, of which the last has
    weight 1 and earlier ones linearly less (the i-th of L has i/L); past sessions are binary vectors; likeness is
    the dot product. Of the SAMPLED newest sessions that share an element the NEIGHBOURS likest (newer first among
    equals) give their likeness to each item clicked in them.

    In the paper a session's elements are items. Here they are items and queries, and the present query is the last
    element: in a search log most sessions begin with the search that is to be ranked, and would have no vector at all.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._popularity = Popularity(shelf)
        self._numbers: dict[str, int] = {}
        self._clicked: list[set[int]] = []
        """Columns that were clicked in each session."""
        self._sessions_of: dict[Element, dict[int, None]] = defaultdict(dict)
        """Element -> the sessions that hold it, in the order in which they first did."""

    def scores(self, question: Question) -> Values:
        """Summed likeness of the neighbours that hold an item, then popularity."""
        votes: Values = np.zeros(len(self._shelf))
        present = [*question.visit, Element(query=question.query)] if question.query else list(question.visit)
        weights = {element: place / len(present) for place, element in enumerate(present, start=1)}
        likeness = self._likeness(weights, self._numbers.get(question.search.session))
        newest = nlargest(SAMPLED, likeness) if len(likeness) > SAMPLED else list(likeness)
        for session in nlargest(NEIGHBOURS, newest, key=lambda session: (likeness[session], session)):
            for column in self._clicked[session]:
                votes[column] += likeness[session]
        return then_by(votes.round(9), self._popularity.clicks)

    def _likeness(self, weights: dict[Element, float], own: int | None) -> dict[int, float]:
        """Sessions that share an element, by number, the newest SAMPLED of each; never the present one itself."""
        likeness: dict[int, float] = {}
        for element, weight in weights.items():
            # One more than are sampled: the present session may be among them.
            for session in islice(reversed(self._sessions_of.get(element, {})), SAMPLED + 1):
                likeness[session] = likeness.get(session, 0.0) + weight
        likeness.pop(-1 if own is None else own, None)
        return likeness

    def learn(self, step: Step) -> None:
        """Take a search or a click into its session."""
        self._popularity.learn(step)
        if isinstance(step, SearchRecord):
            query = normalised(step.query)
            if query:
                self._add(step.session, Element(query=query))
        elif (column := click_column(step, self._shelf)) != OUTSIDE and isinstance(step, OutcomeRecord):
            self._add(step.search.session, Element(column=column))

    def _add(self, session: str, element: Element) -> None:
        number = self._numbers.setdefault(session, len(self._clicked))
        if number == len(self._clicked):
            self._clicked.append(set())
        if element.column != OUTSIDE:
            self._clicked[number].add(element.column)
        self._sessions_of[element].setdefault(number)
