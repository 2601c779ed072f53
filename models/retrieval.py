"""From a whole catalogue to at most two hundred items worth scoring.

A union of what each source is good at: items clicked for this very query, titles that go with it, items clicked for
queries inside it or for it spelled properly, what people click after what this user clicked, and what is popular now.
Each source has a quota, so that none can crowd out the others, and the order of the sources decides who stays when
the union is too large. Everything is ordered by count and then by hash: two regions with the same state propose the
same candidates. Candidates are returned in the order of their hashes, so a stable sort by score breaks ties alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from models.catalogue import Catalogue, Mask, Rows
from models.counters import U64, CounterView, HistoryRead
from models.lexical import LexicalIndex, Match
from models.text import Text, read_query
from streams.asks import Ask
from streams.hashing import item_hash, query_hash
from streams.kinds import Kind

CANDIDATES_MAX: Final = 200
CALLERS_MAX: Final = 512
"""Of the caller's own candidates so many are scored: as many as an inference worker takes at once."""
HISTORY_MAX: Final = 20
VARIANTS_MAX: Final = 6
_FILL_ROWS: Final = 4_000
_ANCHORS_MAX: Final = 5

FROM_QUERY, FROM_TITLE, FROM_VARIANT, FROM_HISTORY, FROM_POPULARITY, FROM_CALLER, FROM_FILL = 1, 2, 4, 8, 16, 32, 64
"""Bits of `Candidates.source`."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Another way of saying the query, or a part of it, under which clicks may have been counted."""

    query: int
    """Its hash."""
    weight: float
    """Share of the query's (rarity-weighted) words in it, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was understood of a request."""

    query: int
    """Hash of the query as it was typed; 0 when there is none."""
    words: tuple[str, ...]
    """Corrected words of the query; of the title for `similar`."""
    typed: Text
    variants: tuple[Variant, ...]
    anchors: U64
    """Items to start from: the one asked about, or those that the user touched last, newest first."""
    history: HistoryRead
    like: int = 0
    """Hash of the item that `similar` asks about; 0 otherwise."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """K items to be scored, in the order of their hashes."""

    items: U64
    rows: Rows
    """Their rows in the catalogue; for use at once, rows are used again when items leave."""
    match: Match
    source: npt.NDArray[np.uint8]
    reading: Reading
    unknown: tuple[str, ...] = ()
    """Named by the caller but not scored: they go last, in the caller's order, those of the catalogue first."""

    @property
    def lexical(self) -> npt.NDArray[np.float32]:
        """How well each title goes with the query, 0 to 1; shape (K,)."""
        return self.match.score

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class _History:
    time_ms: npt.NDArray[np.int64]
    item: U64
    kind: npt.NDArray[np.uint8]


_NO_HISTORY: Final = _History(np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.uint8))
_TOUCHED: Final = (Kind.CLICK, Kind.CART, Kind.PURCHASE, Kind.VIEW)


def _before(ask: Ask, history: HistoryRead) -> HistoryRead:
    """The history without the search that is being answered, which was folded before its ask came.

    Training asks a log's searches, of which some were folded by then and some not: what is left must not depend on it.
    An ask does not name its event, whose time the app may have set. So the newest entries go as long as they are
    searches for the very query, and those of the ask's own moment.
    """
    if ask.kind == "search" and len(history.kind):
        same = (history.kind == Kind.SEARCH) & (history.item == np.uint64(query_hash(ask.query)))
        own = same & (np.logical_and.accumulate(same) | (history.time_ms >= ask.at_ms))
        if own.any():
            history = _History(history.time_ms[~own], history.item[~own], history.kind[~own])
    return history if len(history.kind) <= HISTORY_MAX else _newest(history)


def _newest(history: HistoryRead) -> HistoryRead:
    return _History(history.time_ms[:HISTORY_MAX], history.item[:HISTORY_MAX], history.kind[:HISTORY_MAX])


class _Union:
    """Collects candidates, source by source, up to a limit."""

    def __init__(self, catalogue: Catalogue, mask: Mask | None, excluded: set[int], limit: int) -> None:
        self._catalogue = catalogue
        self._mask = mask
        self._excluded = excluded
        self._limit = limit
        self.found: dict[int, tuple[int, int]] = {}
        """item hash -> (row, source bits)"""

    @property
    def room(self) -> int:
        """How many more candidates are taken."""
        return self._limit - len(self.found)

    def add(self, hashes: U64, source: int, quota: int) -> None:
        """Take up to `quota` items that were not taken before; mark those that were."""
        row_of, mask, found, excluded = self._catalogue.row_of, self._mask, self.found, self._excluded
        quota = min(quota, self.room)
        for value in hashes.tolist():
            known = found.get(value)
            if known is not None:
                found[value] = (known[0], known[1] | source)
                continue
            if quota <= 0:
                continue
            row = row_of(value)
            if row is None or value in excluded or (mask is not None and not mask[row]):
                continue
            found[value] = (row, source)
            quota -= 1


class Retriever:
    """Finds candidates in a catalogue that it follows."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._lexical = LexicalIndex(catalogue)

    @property
    def text_index(self) -> LexicalIndex:
        """For a server, which takes changes in beside the queries."""
        return self._lexical

    def candidates(self, ask: Ask, view: CounterView, limit: int = CANDIDATES_MAX) -> Candidates:
        """The items to be scored for an ask, at most `limit`.

        With `ask.candidates` these are exactly the caller's that pass as any other item must, up to `CALLERS_MAX`.
        """
        reading = self._read(ask, view)
        mask = self._catalogue.allowed(ask.filter, in_stock=ask.in_stock)
        excluded = {item_hash(item) for item in ask.exclude}
        if ask.item:
            excluded.add(item_hash(ask.item))
        if ask.candidates is not None:
            return self._callers(ask.candidates, reading, mask, excluded, limit)
        union = _Union(self._catalogue, mask, excluded, limit)
        deeper = 4 if mask is not None else 1
        if reading.query:
            union.add(view.query_items(reading.query, 100 * deeper)[0], FROM_QUERY, limit // 2)
        if reading.words:
            union.add(self._by_title(reading, mask), FROM_TITLE, limit // 2)
        for variant in reading.variants:
            union.add(view.query_items(variant.query, 50 * deeper)[0], FROM_VARIANT, limit // 8)
        for anchor in reading.anchors.tolist():
            union.add(view.co_items(anchor, 40 * deeper)[0], FROM_HISTORY, limit // 8)
        union.add(view.popular(limit * deeper)[0], FROM_POPULARITY, limit)
        self._fill(union, mask, view)
        return self._finish(union.found, reading, ())

    def _read(self, ask: Ask, view: CounterView) -> Reading:
        history = _before(ask, view.history(ask.user, HISTORY_MAX + 1)) if ask.user else _NO_HISTORY
        touched = history.item[np.isin(history.kind, _TOUCHED)].tolist()
        anchors = list(dict.fromkeys(touched))[:_ANCHORS_MAX]
        if ask.item:
            anchors = [item_hash(ask.item)]
            row = self._catalogue.row_of(anchors[0])
            text = read_query("") if row is None else self._catalogue.text(row)
            return Reading(0, text.words, text, (), np.array(anchors, np.uint64), history, like=anchors[0])
        text = read_query(ask.query)
        words = self._lexical.corrected(text)
        return Reading(
            query=query_hash(ask.query) if ask.query else 0,
            words=words,
            typed=text,
            variants=self._variants(ask.query, text, words) if words else (),
            anchors=np.array(anchors, np.uint64),
            history=history,
        )

    def _variants(self, query: str, text: Text, words: tuple[str, ...]) -> tuple[Variant, ...]:
        """The query spelled properly, and the runs of words inside it, the weightiest first."""
        weights = self._lexical.weights(read_query(" ".join(words)))
        total = float(weights.sum()) or 1.0
        ways: dict[int, float] = {}
        if words != text.words:
            ways[query_hash(" ".join(words))] = 1.0
        runs = [
            (float(weights[start:end].sum()) / total, start, end)
            for start in range(len(words))
            for end in range(start + 1, len(words) + 1)
            if 0 < end - start < len(words)
        ]
        for share, start, end in sorted(runs, key=lambda run: (-run[0], run[1], run[2]))[:VARIANTS_MAX]:
            ways.setdefault(query_hash(" ".join(words[start:end])), share)
        ways.pop(query_hash(query), None)
        return tuple(Variant(value, share) for value, share in list(ways.items())[:VARIANTS_MAX])

    def _by_title(self, reading: Reading, mask: Mask | None) -> U64:
        """Items whose titles go with the words, best first."""
        rows = self._lexical.propose(reading.words, mask)
        score = self._lexical.match(reading.words, rows).score
        hashes = self._catalogue.columns.hash[rows]
        best = np.lexsort((hashes, -score))[:CANDIDATES_MAX]
        return hashes[best[score[best] > 0]]

    def _fill(self, union: _Union, mask: Mask | None, view: CounterView) -> None:
        """Items that no source knows: all of a small catalogue, else some, popular first and then by hash."""
        if union.room <= 0:
            return
        rows = np.flatnonzero(mask) if mask is not None else self._catalogue.live_rows()
        hashes = np.sort(self._catalogue.columns.hash[rows])[:_FILL_ROWS]
        if len(hashes) > union.room:
            popularity = view.item_counts(hashes)[:, 0, 0]
            hashes = hashes[np.lexsort((hashes, -popularity))]
        union.add(hashes, FROM_FILL, union.room)

    def _callers(
        self, wanted: list[str], reading: Reading, mask: Mask | None, excluded: set[int], limit: int
    ) -> Candidates:
        limit = max(limit, min(len(wanted), CALLERS_MAX))
        found: dict[int, tuple[int, int]] = {}
        beyond: list[str] = []
        unknown: list[str] = []
        for item in dict.fromkeys(wanted):
            value = item_hash(item)
            if value in excluded:
                continue
            row = self._catalogue.row_of(value)
            if row is None:
                unknown.append(item)
            elif mask is not None and not mask[row]:
                continue
            elif len(found) < limit:
                found[value] = (row, FROM_CALLER)
            else:
                beyond.append(item)
        return self._finish(found, reading, (*beyond, *unknown))

    def _finish(self, found: Mapping[int, tuple[int, int]], reading: Reading, unknown: tuple[str, ...]) -> Candidates:
        ordered = sorted(found.items())
        rows = np.array([row for _, (row, _) in ordered], np.int64)
        return Candidates(
            items=np.array([value for value, _ in ordered], np.uint64),
            rows=rows,
            match=self._lexical.match(reading.words, rows),
            source=np.array([source for _, (_, source) in ordered], np.uint8),
            reading=reading,
            unknown=unknown,
        )
