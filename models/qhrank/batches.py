"""Batches of cases as tensors: changed on purpose for training, and cut to what is not padding.

Most queries are short and most users are new, so nearly all of a batch's 44 places for tokens and history would be
padding. Rows of like length are put together, within a stretch of the shuffled rows that is long enough to keep
batches mixed: training then takes a third of the time.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from models.cases import Cases
from models.counterless import without_counters
from models.data.augmentation import changed_query_tokens, history_lengths, with_tokens_dropped

Inputs = dict[str, torch.Tensor]
_STRETCH: Final = 24
"""Batches whose rows are sorted by length together."""
_HISTORY: Final = ("history_items", "history_types", "history_gap")


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """How cases are changed before they are learned from; shares of 0 to 1."""

    counters_dropped: float = 0.25
    """Of the lists: as if nothing had been counted."""
    tokens_dropped: float = 0.15
    """Of the query tokens."""
    queries_changed: float = 0.1
    """Of the queries: a typo, or a word less."""
    histories_cut: float = 0.1


def as_inputs(tensors: Mapping[str, npt.NDArray[Any]]) -> Inputs:
    """Tensors that share the arrays' memory where it is in one piece."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in tensors.items()}


def trimmed(tensors: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """The same without columns of tokens and history that are padding in every row."""
    tokens = max(int(lengths(tensors["query_tokens"]).max(initial=0)), 1)
    history = max(int(lengths(tensors["history_types"]).max(initial=0)), 1)
    cut = dict(tensors)
    cut["query_tokens"] = tensors["query_tokens"][:, :tokens]
    cut.update({name: tensors[name][:, :history] for name in _HISTORY})
    return cut


def lengths(padded: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Places up to the last that is not 0, for each row; shape (n,)."""
    used = padded != 0
    return np.where(used.any(axis=1), padded.shape[1] - used[:, ::-1].argmax(axis=1), 0)


def training_batches(
    cases: Cases, size: int, changes: Changes, rng: np.random.Generator
) -> Iterator[tuple[npt.NDArray[np.int64], Inputs, torch.Tensor]]:
    """One epoch: numbers of the cases (B,), inputs, and the places (B,) of the clicked candidates.

    Every case must have one.
    """
    tokens = changed_query_tokens(cases.query_tokens, cases.query, changes.queries_changed, rng)
    known = history_lengths(cases.history_types, changes.histories_cut, rng)
    asked = cases.query != ""
    for rows in _grouped(lengths(tokens), known, size, rng):
        tensors = cases.tensors(rows)
        tensors["query_tokens"] = with_tokens_dropped(tokens[rows], changes.tokens_dropped, rng)
        forgotten = np.arange(cases.history_types.shape[1]) >= known[rows, None]
        for name in _HISTORY:
            tensors[name] = np.where(forgotten, 0, tensors[name])
        bare = rng.random(len(rows)) < changes.counters_dropped
        items, feats = tensors["candidate_items"], tensors["candidate_feats"]
        feats[bare] = without_counters(feats[bare], items[bare], asked[rows][bare])
        yield rows, as_inputs(trimmed(tensors)), torch.from_numpy(cases.clicked[rows].astype(np.int64))


def _grouped(
    tokens: npt.NDArray[np.int64], history: npt.NDArray[np.int64], size: int, rng: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """Rows of like length in batches of `size`, the batches in any order."""
    shuffled = rng.permutation(len(tokens))
    batches: list[npt.NDArray[np.int64]] = []
    for first in range(0, len(shuffled), size * _STRETCH):
        stretch = shuffled[first : first + size * _STRETCH]
        stretch = stretch[np.lexsort((tokens[stretch], history[stretch]))]
        batches += [stretch[at : at + size] for at in range(0, len(stretch), size)]
    return [batches[place] for place in rng.permutation(len(batches)).tolist()]


def batch_count(cases: int, size: int) -> int:
    """How many batches `training_batches` makes of so many cases."""
    stretches, rest = divmod(cases, size * _STRETCH)
    return stretches * _STRETCH + -(-rest // size)
