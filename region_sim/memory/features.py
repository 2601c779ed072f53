"""Candidates and tensors of a simulated region: a few catalogue items by two counters of the shipped state.

Small and fixed, so that a ranking is a function of the state alone and a rebuilt region can be held against the others.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from region_sim.memory.inference import FEATURES
from services.processor.answering import Prepared
from services.processor.ladder import Scores, Tensors
from streams.asks import Ask
from streams.hashing import query_hash
from streams.state import State
from streams.views import UNDECAYED, ExactView

CANDIDATES_MAX: Final = 20
KIND_WEIGHTS: Final = np.array([1.0, 2.0, 4.0, 1.0])


class StateFeaturizer:
    """A Featurizer over the counters themselves."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._known = -1
        self._hashes = np.empty(0, np.uint64)
        self._names: list[str] = []

    def prepare(self, ask: Ask) -> Prepared:
        """See Featurizer."""
        features = self.features(ask.query, ask.at_ms)
        # The full order makes the choice a function of the counts alone.
        order = np.lexsort((self._hashes, -features[:, 1], -features[:, 0]))[:CANDIDATES_MAX]
        order = order[np.argsort(self._hashes[order])]
        return Prepared([self._names[row] for row in order.tolist()], [], {FEATURES: features[order]})

    def features(self, query: str, at_ms: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """float32[items, 2]: how often an item was chosen for this query, and at all."""
        self._refresh()
        view = ExactView(self._state, at_ms)
        if not len(self._hashes):
            return np.empty((0, 2), np.float32)
        for_query = view.query_item_counts(query_hash(query), self._hashes)[:, UNDECAYED]
        at_all = view.item_counts(self._hashes)[:, :, UNDECAYED] @ KIND_WEIGHTS
        return np.stack([for_query, at_all], axis=1).astype(np.float32)

    def _refresh(self) -> None:
        catalogue = self._state.catalogue
        if self._state.tally.item_events == self._known:
            return
        self._known = self._state.tally.item_events
        living = sorted(number for number, entry in catalogue.items() if not entry.deleted)
        self._hashes = np.array(living, np.uint64)
        self._names = [catalogue[number].item for number in living]


def by_counters(tensors: Tensors) -> Scores:
    """The second rung."""
    return np.asarray(tensors[FEATURES][:, 0], np.float32)


def by_popularity(tensors: Tensors) -> Scores:
    """The last rung."""
    return np.asarray(tensors[FEATURES][:, 1], np.float32)
