"""Baselines that count clicks or compare words: popularity, the exact-query table, BM25 on titles.

They share nothing with the fold, so that they are a control of it too. Each scores the whole catalogue. One that was
*frozen* learned from what happened before the split and from nothing since; one that is *fed* is told each click when
it was made, after the search was ranked (the same class: who calls `learn`, and until when, decides).
"""

from collections import defaultdict
from typing import Final, Protocol

import numpy as np
import tantivy

from models.baselines import normalised
from models.evaluation.metrics import Values
from models.evaluation.questions import OUTSIDE, Question, Shelf
from models.records import ItemRecord, OutcomeRecord
from models.text import fold_words
from models.walk import Step

_WRITER_BYTES: Final = 15_000_000


class Baseline(Protocol):
    """A ranker that learns from what happens."""

    def scores(self, question: Question) -> Values:
        """A score for each column of the shelf, shape (items,); higher is better, equal means in no order."""
        ...

    def learn(self, step: Step) -> None:
        """Take what has happened."""
        ...


def click_column(step: Step, shelf: Shelf) -> int:
    """The column of the item that a step is a click on; OUTSIDE for any other step."""
    if isinstance(step, OutcomeRecord) and step.kind == "click":
        return shelf.column(step.search.clicked)
    return OUTSIDE


def then_by(first: Values, second: Values) -> Values:
    """Scores that order by `first` and, where that is equal, by `second`; both of shape (items,), `second` >= 0."""
    _, level = np.unique(first, return_inverse=True)
    return np.asarray(level + second / (second.max(initial=0.0) + 1.0), np.float64)


class Popularity:
    """Clicks of each item, whatever was asked."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.clicks: Values = np.zeros(len(shelf))

    def scores(self, question: Question) -> Values:  # noqa: ARG002 - a Baseline is asked it
        """Counts of clicks."""
        return self.clicks

    def learn(self, step: Step) -> None:
        """Count a click."""
        column = click_column(step, self._shelf)
        if column != OUTSIDE:
            self.clicks[column] += 1


class QueryTable:
    """Clicks of each item for exactly this query; by popularity among those with equally many, and with none."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._popularity = Popularity(shelf)
        self._clicks: dict[str, dict[int, int]] = defaultdict(dict)

    def scores(self, question: Question) -> Values:
        """Counts for the query, then counts of all."""
        asked: Values = np.zeros(len(self._shelf))
        for column, count in self._clicks.get(question.query, {}).items():
            asked[column] = count
        return then_by(asked, self._popularity.clicks)

    def learn(self, step: Step) -> None:
        """Count a click."""
        column = click_column(step, self._shelf)
        if column != OUTSIDE and isinstance(step, OutcomeRecord):
            clicks = self._clicks[normalised(step.search.query)]
            clicks[column] = clicks.get(column, 0) + 1
        self._popularity.learn(step)


class Bm25:
    """BM25 of the query's words against titles, with tantivy's usual k1 = 1.2 and b = 0.75; no clicks at all.

    Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009). Words are folded as the
    catalogue folds them. Titles without any of the words share the last places.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        builder = tantivy.SchemaBuilder()
        builder.add_text_field("key", stored=False, tokenizer_name="raw", index_option="basic")
        builder.add_unsigned_field("column", stored=False, indexed=False, fast=True)
        builder.add_text_field("title", stored=False, tokenizer_name="whitespace")
        self._schema = builder.build()
        self._index = tantivy.Index(self._schema)
        self._writer = self._index.writer(_WRITER_BYTES, 1)
        self._searcher = self._index.searcher()
        self._titles: dict[int, str] = {}
        self._changed = False

    def scores(self, question: Question) -> Values:
        """BM25 of each title, 0 where no word is in it."""
        found: Values = np.zeros(len(self._shelf))
        words = dict.fromkeys(fold_words(question.search.query))
        if not words:
            return found
        self._refresh()
        terms = [tantivy.Query.term_query(self._schema, "title", word, index_option="freq") for word in words]
        query = tantivy.Query.boolean_query([(tantivy.Occur.Should, term) for term in terms])
        hits = self._searcher.search(query, max(len(self._titles), 1), count=False).hits
        columns = self._searcher.fast_field_values("column", [address for _, address in hits])
        found[np.array(columns, np.int64)] = [score for score, _ in hits]
        return found

    def learn(self, step: Step) -> None:
        """Take a title; an entry that only changes a price changes nothing here."""
        if not isinstance(step, ItemRecord):
            return
        column = self._shelf.column(step.item)
        title = " ".join(fold_words(step.title))
        if self._titles.get(column) == title:
            return
        if column in self._titles:
            self._writer.delete_documents_by_term("key", str(column))
        self._titles[column] = title
        document = tantivy.Document()
        document.add_text("key", str(column))
        document.add_unsigned("column", column)
        document.add_text("title", title)
        self._writer.add_document(document)
        self._changed = True

    def _refresh(self) -> None:
        if self._changed:
            self._writer.commit()
            self._index.reload()
            self._searcher = self._index.searcher()
            self._changed = False
