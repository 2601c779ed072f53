"""What a log teaches and is judged by: every search with the tensors that a model would have been sent, in columns.

Walking a log through the real fold costs a hundred times as much as reading the walked tensors back, and training,
evaluation and compression all need the very same ones. So a log is walked once, each list taken before its click is
told, and everything after that works on columns. Candidates are in the order in which retrieval returned them (by
hash), padded with item 0. Features may be kept in half precision, which is enough to learn from; to judge by, they
are kept as the worker gets them, because rounding makes ties.
"""

import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.encode import Tensors
from models.errors import SourceUnreadable
from models.export import INPUTS
from models.records import SearchRecord, Source
from models.retrieval import CANDIDATES_MAX
from models.walk import Moment, Walk, lived
from streams.hashing import item_hash

ITEM_MASK: Final = 0x7FFF_FFFF_FFFF_FFFF
NO_PLACE: Final = -1
QUERY_LENGTH_MAX: Final = 120
"""Characters of a query that are kept; the encoding looks at fewer."""
_TYPES: Final = {"INT32": np.int32, "INT64": np.int64, "FP32": np.float32}
Rows = slice | npt.NDArray[np.int64] | npt.NDArray[np.bool_]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Cases:
    """n searches (or visits without a query), each as it was asked before its click was told."""

    query_tokens: npt.NDArray[np.int32]
    """Shape (n, 24)."""
    history_items: npt.NDArray[np.int64]
    """Shape (n, 20), as are the two below."""
    history_types: npt.NDArray[np.int32]
    history_gap: npt.NDArray[np.int32]
    candidate_items: npt.NDArray[np.int64]
    """Shape (n, K); 0 is padding."""
    candidate_feats: npt.NDArray[Any]
    """Shape (n, K, F), float32 or float16."""
    clicked: npt.NDArray[np.int16]
    """Shape (n,): place of the clicked candidate; -1 when it is none of them or nothing was clicked."""
    clicked_item: npt.NDArray[np.int64]
    """Shape (n,): number of the clicked item (`models.encode.as_item_numbers`), candidate or not; 0 without a click."""
    index: npt.NDArray[np.int64]
    """Shape (n,): place of the search in its source."""
    time_ms: npt.NDArray[np.int64]
    """Shape (n,): when it was asked, milliseconds since the epoch."""
    query: npt.NDArray[np.str_]
    """Shape (n,): the query as it was typed; empty for a visit without one."""

    def __len__(self) -> int:
        return len(self.clicked)

    @property
    def width(self) -> int:
        """K, the places for candidates."""
        return int(self.candidate_items.shape[1])

    def take(self, rows: Rows) -> "Cases":
        """Some of the cases, by slice, by numbers or by mask."""
        return Cases(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def tensors(self, rows: Rows = slice(None)) -> Tensors:
        """The six model inputs of some cases, features in float32."""
        chosen = {name: getattr(self, name)[rows] for name in INPUTS}
        chosen["candidate_feats"] = chosen["candidate_feats"].astype(np.float32, copy=False)
        return chosen

    def between(self, first: int, end: int) -> "Cases":
        """The cases of searches `first` to `end` (not included) of the source."""
        return self.take((self.index >= first) & (self.index < end))

    def with_candidates(self, places: npt.NDArray[np.int64]) -> "Cases":
        """Each case with the candidates at its own `places` (n, k) alone; `NO_PLACE` becomes padding."""
        at = np.maximum(places, 0)
        gone = places == NO_PLACE
        items = np.where(gone, 0, np.take_along_axis(self.candidate_items, at, axis=1))
        feats = np.take_along_axis(self.candidate_feats, at[:, :, None], axis=1)
        feats[gone] = 0
        hit = places == self.clicked[:, None]
        clicked = np.where(hit.any(axis=1) & (self.clicked >= 0), hit.argmax(axis=1), NO_PLACE).astype(np.int16)
        return replace(self, candidate_items=items, candidate_feats=feats, clicked=clicked)

    def save(self, path: Path) -> None:
        """Write them to one file, uncompressed (reading is then a copy); whole or not at all."""
        half = path.with_name(f".{path.name}.{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with half.open("wb") as sink:
                np.savez(sink, allow_pickle=False, **{field.name: getattr(self, field.name) for field in fields(self)})
            half.replace(path)
        finally:
            half.unlink(missing_ok=True)

    @staticmethod
    def load(path: Path) -> "Cases":
        """Read what `save` wrote. Raises SourceUnreadable."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return Cases(**{field.name: arrays[field.name] for field in fields(Cases)})
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise SourceUnreadable(f"{path} holds no cases ({error}); remove it, it is made again") from error

    @staticmethod
    def concatenate(parts: Sequence["Cases"]) -> "Cases":
        """All of them, one after the other; narrower ones are padded to the widest."""
        width = max(part.width for part in parts)
        wide = [_widened(part, width) for part in parts]
        return Cases(
            **{field.name: np.concatenate([getattr(part, field.name) for part in wide]) for field in fields(Cases)}
        )


def collect_cases(
    source: Source,
    *,
    first: int = 0,
    end: int | None = None,
    candidates: int = CANDIDATES_MAX,
    without_query_every: int = 0,
    half_precision: bool = False,
    on_progress: Progress = lambda *_: None,
) -> Cases:
    """Walk a source from its beginning and keep the searches `first` to `end`, each asked before its click was told.

    With `without_query_every`, every so many searches their user's list is also taken as for a home page, without the
    query, if the user touched anything before. `on_progress` gets the searches walked and how many there are.
    """
    end = len(source.searches) if end is None else min(end, len(source.searches))
    columns = _Columns(max(end - first, 0), candidates, without_query_every, half_precision=half_precision)
    walk, told = lived(source, end)
    for step in told:
        if not isinstance(step, SearchRecord):
            walk.tell(step)
            continue
        if step.index < first:
            walk.tell(step)
        else:
            for moment in _moments(walk, step, candidates, without_query_every):
                columns.add(moment)
        on_progress(step.index + 1, end)
    return columns.cases()


def _moments(walk: Walk, search: SearchRecord, candidates: int, without_query_every: int) -> list[Moment]:
    """Tell the search, and ask it as a region is asked: when it was folded. The home page is asked before it."""
    home = []
    if without_query_every and search.index % without_query_every == 0:
        visit = walk.ask(search, "recommendations", candidates)
        home = [visit] if len(visit.candidates.reading.anchors) else []
    walk.tell(search)
    return [walk.ask(search, limit=candidates), *home]


class _Columns:
    """Arrays that grow row by row in place: stacking at the end would hold everything twice."""

    def __init__(self, searches: int, candidates: int, without_query_every: int, *, half_precision: bool) -> None:
        rows = searches + (searches // without_query_every + 1 if without_query_every else 0)
        self._count = 0
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        for name, (kind, shape) in INPUTS.items():
            sizes = [size if isinstance(size, int) else candidates for size in shape[1:]]
            dtype = np.float16 if half_precision and kind == "FP32" else _TYPES[kind]
            self._arrays[name] = np.zeros((rows, *sizes), dtype)
        self._arrays["clicked"] = np.full(rows, NO_PLACE, np.int16)
        for name in ("clicked_item", "index", "time_ms"):
            self._arrays[name] = np.zeros(rows, np.int64)
        self._queries: list[str] = []

    def add(self, moment: Moment) -> None:
        row, arrays, search = self._count, self._arrays, moment.search
        self._count += 1
        for name in INPUTS:
            found = moment.tensors[name][0]
            arrays[name][row, : len(found)] = found
        if search.clicked:
            number = max(item_hash(search.clicked) & ITEM_MASK, 1)
            places = np.flatnonzero(moment.tensors["candidate_items"][0] == number)
            arrays["clicked_item"][row] = number
            arrays["clicked"][row] = places[0] if len(places) else NO_PLACE
        arrays["index"][row], arrays["time_ms"][row] = search.index, search.time_ms
        self._queries.append(moment.ask.query[:QUERY_LENGTH_MAX])

    def cases(self) -> Cases:
        arrays = {name: array[: self._count] for name, array in self._arrays.items()}
        return Cases(**arrays, query=np.array(self._queries, np.str_) if self._queries else np.zeros(0, "<U1"))


def _widened(cases: Cases, width: int) -> Cases:
    if cases.width == width:
        return cases
    n, have, features = cases.candidate_feats.shape
    items = np.zeros((n, width), np.int64)
    items[:, :have] = cases.candidate_items
    feats = np.zeros((n, width, features), cases.candidate_feats.dtype)
    feats[:, :have] = cases.candidate_feats
    return replace(cases, candidate_items=items, candidate_feats=feats)
