"""Candidates and tensors for an ask, from catalogue and counters as they are at this moment."""

from __future__ import annotations

from collections.abc import Callable

from models.catalogue import Catalogue
from models.counters import CounterView
from models.encode import encode
from models.lexical import LexicalIndex
from models.retrieval import Retriever
from services.processor.answering import Prepared
from streams.asks import Ask

WARM_UP_QUERIES = ("warm up", "warmm upp")
"""Read once before the first ask: spelled right and wrong, so that every index is built."""


class ModelFeaturizer:
    """The `Featurizer` over the models package; `read` gives the counters as of a time."""

    def __init__(self, catalogue: Catalogue, read: Callable[[int], CounterView], candidates_max: int) -> None:
        self._catalogue = catalogue
        self._retriever = Retriever(catalogue)
        self._read = read
        self._candidates_max = candidates_max

    @property
    def text_index(self) -> LexicalIndex:
        """What has to take changed titles in."""
        return self._retriever.text_index

    def prepare(self, ask: Ask) -> Prepared:
        """See Featurizer."""
        view = self._read(ask.at_ms)
        found = self._retriever.candidates(ask, view, self._candidates_max)
        return Prepared(
            items=[self._catalogue.item_at(row).item for row in found.rows.tolist()],
            unknown=list(found.unknown),
            tensors=encode(ask, found, view, self._catalogue),
        )

    def warm_up(self, at_ms: int) -> None:
        """Build what is built at the first question, before somebody waits for it. Blocks."""
        for query in WARM_UP_QUERIES:
            self.prepare(
                Ask(ask_id="", reply_to="", kind="search", deadline_unix_ms=0, at_ms=at_ms, query=query, user=1)
            )
        self.text_index.refreshes_itself = False
