"""Which titles go with a query: an index in memory for finding them, and one exact score for comparing them.

Finding is tantivy's: over 100,000 titles 0.02 ms for the best hundred (0.6 ms for the thousand proposed here) and 3 to
6 ms for taking changes in, where bm25s took 2.1 ms and cannot change without being rebuilt. Its BM25 depends on how its
segments happen to be merged, though, so it only *proposes*; what decides is `match`, computed from the catalogue's
columns alone: the same in every region and after every restart. A catalogue of up to SCAN_ROWS items is simply
compared in full, which also finds every typo.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import tantivy

from models.catalogue import Catalogue, Mask, Rows
from models.text import Text, one_slip, read_query, word_hash

Float = npt.NDArray[np.float32]
SCAN_ROWS: Final = 2_000
PROPOSED_MAX: Final = 1_000
FEW_HITS: Final = 20
"""With fewer proposals than this the spelling is taken loosely."""
_NEAR_EQUAL: Final = 0.01
_WRITER_BYTES: Final = 15_000_000
_CORRECTED_LETTERS_MIN: Final = 4
_CORRECTIONS_MAX: Final = 20_000


@dataclass(frozen=True, slots=True)
class Match:
    """How well k titles go with a query; every array has shape (k,)."""

    coverage: Float
    """Share of the query's words that stand in the title, rare words weighing more."""
    title_coverage: Float
    """Share of the title's words that stand in the query."""
    spelling: Float
    """Share of the query's trigrams that the title has."""
    likeness: Float
    """Trigrams in common against all of both (Dice)."""
    score: Float
    """One number for ordering titles, 0 to 1."""


class LexicalIndex:
    """Proposes rows of a catalogue for a query, and follows the catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        builder = tantivy.SchemaBuilder()
        builder.add_text_field("key", stored=False, tokenizer_name="raw", index_option="basic")
        builder.add_unsigned_field("row", stored=False, indexed=False, fast=True)
        builder.add_unsigned_field("hash", stored=False, indexed=False, fast=True)
        builder.add_text_field("title", stored=False, tokenizer_name="whitespace")
        self._schema = builder.build()
        self._index = tantivy.Index(self._schema)
        self._writer = self._index.writer(_WRITER_BYTES, 1)
        self._searcher = self._index.searcher()
        self._written: set[int] = set()
        self._dirty: set[int] = {catalogue.item_at(int(row)).hash for row in catalogue.live_rows()}
        self._corrections: dict[str, str] = {}
        self.refreshes_itself = True
        """Whether a query takes changes in first. A server takes them in itself (`stage`, `commit`, `show`)."""
        catalogue.subscribe(self._changed)

    def _changed(self, hashes: list[int]) -> None:
        self._dirty.update(hashes)
        self._corrections.clear()

    def _refresh(self) -> None:
        """Take in what changed since the last query."""
        if self.refreshes_itself and self.stage():
            self.commit()
            self.show()

    def stage(self) -> bool:
        """Hand what changed to the index, in the order of hashes, not visible yet; says whether there was anything."""
        if not self._dirty:
            return False
        for item_hash in sorted(self._dirty):
            key = f"{item_hash:016x}"
            if item_hash in self._written:
                self._writer.delete_documents_by_term("key", key)
                self._written.discard(item_hash)
            row = self._catalogue.row_of(item_hash)
            if row is None:
                continue
            document = tantivy.Document()
            document.add_text("key", key)
            document.add_unsigned("row", row)
            document.add_unsigned("hash", item_hash)
            document.add_text("title", " ".join(self._catalogue.text(row).words))
            self._writer.add_document(document)
            self._written.add(item_hash)
        self._dirty.clear()
        return True

    def commit(self) -> None:
        """The slow part: tens of milliseconds on a busy machine. Another thread may do it, while queries go on."""
        self._writer.commit()
        self._index.reload()

    def show(self) -> None:
        """Let queries see what was committed."""
        self._searcher = self._index.searcher()
        self._corrections.clear()

    def propose(self, words: tuple[str, ...], mask: Mask | None) -> Rows:
        """Rows whose titles may go with the words, in no particular order; `mask` says which rows are allowed."""
        if len(self._catalogue) <= SCAN_ROWS:
            return np.flatnonzero(mask) if mask is not None else self._catalogue.live_rows()
        self._refresh()
        rows = self._search([self._term(word) for word in words])
        if len(rows) < FEW_HITS:
            rows = np.union1d(rows, self._search([self._loose(word) for word in words]))
        # What left the catalogue may still stand in the text index.
        return rows[(self._catalogue.columns.live if mask is None else mask)[rows]]

    def _term(self, word: str) -> tantivy.Query:
        return tantivy.Query.term_query(self._schema, "title", word, index_option="freq")

    def _loose(self, word: str) -> tantivy.Query:
        if len(word) < _CORRECTED_LETTERS_MIN:
            return self._term(word)
        return tantivy.Query.fuzzy_term_query(self._schema, "title", word, distance=1, transposition_cost_one=True)

    def _search(self, terms: list[tantivy.Query]) -> Rows:
        """Rows that hold any of the terms.

        More than PROPOSED_MAX of them are cut by BM25, whose order among near equals depends on the segments. So what
        is near the cut is left out, and titles that hold every term come in instead, in the order of their hashes.
        """
        if not terms:
            return np.zeros(0, np.int64)
        some = tantivy.Query.boolean_query([(tantivy.Occur.Should, term) for term in terms])
        hits = self._searcher.search(some, PROPOSED_MAX, count=False).hits
        if len(hits) < PROPOSED_MAX:
            return self._rows(hits)
        cut = hits[-1][0] * (1 + _NEAR_EQUAL)
        every = tantivy.Query.boolean_query([(tantivy.Occur.Must, term) for term in terms])
        by_hash = self._searcher.search(
            every, PROPOSED_MAX, count=False, order_by_field="hash", order=tantivy.Order.Asc
        ).hits
        return np.union1d(self._rows([hit for hit in hits if hit[0] > cut]), self._rows(by_hash))

    def _rows(self, hits: list[tuple[float, tantivy.DocAddress]]) -> Rows:
        return np.array(self._searcher.fast_field_values("row", [address for _, address in hits]), np.int64)

    def corrected(self, text: Text) -> tuple[str, ...]:
        """The query's words, those that no title knows replaced by the commonest one that is a slip away."""
        known = self._catalogue.word_items
        return tuple(
            word if value in known else self._correction(word)
            for word, value in zip(text.words, text.word_hashes.tolist(), strict=True)
        )

    def _correction(self, word: str) -> str:
        if len(word) < _CORRECTED_LETTERS_MIN or any(character.isdigit() for character in word):
            return word
        found = self._corrections.get(word)
        if found is None:
            if len(self._corrections) >= _CORRECTIONS_MAX:
                self._corrections.clear()
            found = self._corrections[word] = self._nearest(word)
        return found

    def _nearest(self, word: str) -> str:
        self._refresh()
        rows = self._search([self._loose(word)])
        live = rows[self._catalogue.columns.live[rows]]
        alike = {near for row in live.tolist() for near in self._catalogue.text(row).words if one_slip(word, near)}
        return max(alike, key=lambda near: (self._catalogue.word_items[word_hash(near)], near), default=word)

    def match(self, words: tuple[str, ...], rows: Rows) -> Match:
        """Compare a query's (corrected) words with the titles of some rows."""
        columns = self._catalogue.columns
        query = read_query(" ".join(words))
        if not query.words or not len(rows):
            zeros = np.zeros(len(rows), np.float32)
            return Match(zeros, zeros, zeros, zeros, zeros)
        weights = self.weights(query)
        titles = columns.words[rows]
        hit = np.empty((len(rows), len(query.words)), np.float32)
        for place, value in enumerate(query.word_hashes):
            hit[:, place] = (titles == value).any(axis=1)
        coverage = hit @ (weights / weights.sum())
        title_coverage = np.minimum(hit.sum(axis=1) / np.maximum(columns.word_count[rows], 1), 1)
        common = np.bitwise_count(columns.signature[rows] & query.signature).sum(axis=1, dtype=np.float32)
        size = np.float32(np.bitwise_count(query.signature).sum())
        spelling = common / size
        likeness = 2 * common / (size + columns.trigram_count[rows])
        score = 0.5 * coverage + 0.2 * spelling + 0.15 * likeness + 0.15 * title_coverage
        return Match(coverage, title_coverage.astype(np.float32), spelling, likeness, score.astype(np.float32))

    def weights(self, query: Text) -> Float:
        """Rarity of each word, shape (m,): BM25's inverse document frequency."""
        total = len(self._catalogue)
        known = self._catalogue.word_items
        counts = np.array([known.get(value, 0) for value in query.word_hashes.tolist()], np.float32)
        rarity: Float = np.log1p((total - counts + 0.5) / (counts + 0.5)).astype(np.float32)
        return rarity
