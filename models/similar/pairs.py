"""What `similar` is chosen and judged by: pairs of items that were clicked one after the other in one session.

A log is walked through the real fold, index, retrieval and encoding. Before a click is told, the item that was clicked
before it in the session is asked about; right is the item that is clicked now. A click on the same item again, and
items that the catalogue does not know, make no pair.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from models.cases import ITEM_MASK, NO_PLACE
from models.encode import FEATURE, Tensors, encode
from models.export import INPUTS
from models.records import OutcomeRecord, SearchRecord, Source
from models.retrieval import CANDIDATES_MAX
from models.similar.blend import Float
from models.walk import Walk, number_of, steps
from streams.asks import Ask
from streams.hashing import item_hash

AT: Final = 10
"""Places of a list that count."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """n questions with their tensors, candidates padded with item 0."""

    tensors: Tensors
    clicked: npt.NDArray[np.int64]
    """Shape (n,): the clicked candidate's place; -1 when retrieval did not propose it."""
    index: npt.NDArray[np.int64]
    """Shape (n,): place in the source of the search that was clicked next."""

    def __len__(self) -> int:
        return len(self.clicked)

    def between(self, first: int, end: int) -> "Pairs":
        """Those that end in searches `first` to `end` (not included)."""
        rows = (self.index >= first) & (self.index < end)
        return Pairs({name: array[rows] for name, array in self.tensors.items()}, self.clicked[rows], self.index[rows])


def collect_pairs(
    source: Source, *, first: int = 0, end: int | None = None, on_progress: Callable[[int, int], None] = lambda *_: None
) -> Pairs:
    """Walk a source from its beginning and keep the pairs that end in searches `first` to `end`."""
    end = len(source.searches) if end is None else min(end, len(source.searches))
    walk = Walk()
    newest: dict[str, str] = {}
    found: list[tuple[Tensors, int, int]] = []
    for step in steps(source, end):
        if isinstance(step, SearchRecord):
            on_progress(step.index + 1, end)
        elif isinstance(step, OutcomeRecord) and step.kind == "click":
            search = step.search
            item = newest.get(search.session, "")
            if search.index >= first and item not in ("", search.clicked):
                pair = _asked(walk, step, item)
                found.extend([] if pair is None else [pair])
            newest[search.session] = search.clicked
        walk.tell(step)
    return _stacked(found)


def _asked(walk: Walk, click: OutcomeRecord, item: str) -> tuple[Tensors, int, int] | None:
    walk.settle()
    search = click.search
    right = item_hash(search.clicked)
    if walk.catalogue.row_of(item_hash(item)) is None or walk.catalogue.row_of(right) is None:
        return None
    ask = Ask(
        ask_id=str(search.index),
        reply_to="",
        kind="similar",
        deadline_unix_ms=0,
        at_ms=click.time_ms,
        user=number_of(search.user),
        item=item,
    )
    view = walk.index.read(ask.at_ms)
    candidates = walk.retriever.candidates(ask, view)
    tensors = encode(ask, candidates, view, walk.catalogue)
    places = np.flatnonzero(tensors["candidate_items"][0] == max(right & ITEM_MASK, 1))
    return tensors, int(places[0]) if len(places) else NO_PLACE, search.index


def _stacked(found: list[tuple[Tensors, int, int]]) -> Pairs:
    types = {"INT32": np.int32, "INT64": np.int64, "FP32": np.float32}
    tensors: Tensors = {}
    width = max((given["candidate_items"].shape[1] for given, _, _ in found), default=1)
    for name, (kind, shape) in INPUTS.items():
        sizes = [size if isinstance(size, int) else width for size in shape[1:]]
        tensors[name] = np.zeros((len(found), *sizes), types[kind])
        for row, (given, _, _) in enumerate(found):
            tensors[name][row, : given[name].shape[1]] = given[name][0]
    clicked = np.array([place for _, place, _ in found], np.int64)
    return Pairs(tensors, clicked, np.array([index for _, _, index in found], np.int64))


def reciprocal_ranks(scores: Float, pairs: Pairs) -> npt.NDArray[np.float64]:
    """1 / rank of the right item (n,), 0 beyond the tenth place; the mean over all orders of tied candidates."""
    return _expected(scores, pairs, np.where(_RANKS <= AT, 1.0 / _RANKS, 0.0))


def hits(scores: Float, pairs: Pairs) -> npt.NDArray[np.float64]:
    """Whether the right item is among the first ten (n,); the share of the orders of tied candidates in which it is."""
    return _expected(scores, pairs, np.where(_RANKS <= AT, 1.0, 0.0))


_RANKS: Final = np.arange(1.0, CANDIDATES_MAX + 1)


def _expected(scores: Float, pairs: Pairs, gains: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    sums = np.concatenate([[0.0], np.cumsum(gains)])
    known = pairs.clicked != NO_PLACE
    own = np.take_along_axis(scores, np.maximum(pairs.clicked, 0)[:, None], axis=1)
    there = pairs.tensors["candidate_items"] != 0
    better = ((scores > own) & there).sum(axis=1)
    tied = np.maximum(((scores == own) & there).sum(axis=1), 1)
    mean: npt.NDArray[np.float64] = (sums[better + tied] - sums[better]) / tied
    return np.where(known, mean, 0.0)


def log_share(scores: Float, pairs: Pairs) -> float:
    """Mean score of the right item over the pairs in which it is a candidate; 0 when it never is."""
    rows = np.flatnonzero(pairs.clicked != NO_PLACE)
    return float(scores[rows, pairs.clicked[rows]].mean()) if len(rows) else 0.0


def baselines(pairs: Pairs, cosine: Float) -> dict[str, Float]:
    """Scores (n, K) of each signal alone; co-clicks and titles are told apart by popularity where they are equal."""
    features = pairs.tensors["candidate_feats"]
    popularity = features[..., FEATURE["popularity_share_long"]]
    return {
        "popularity": popularity,
        "co_clicks": features[..., FEATURE["co_clicks"]] + 1e-4 * popularity,
        "embeddings": cosine,
        "title": features[..., FEATURE["coverage"]] + 1e-4 * popularity,
    }
