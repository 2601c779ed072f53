"""How good a network is on cases that it was not fitted to, while it is being trained.

With the counters and without them, since one graph has to serve both. The report that a version is judged by is
`models.evaluation`, over the whole catalogue; this one ranks the candidates of each case and is quick.
"""

from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from models.cases import Cases
from models.counterless import without_counters
from models.qhrank.batches import as_inputs, trimmed
from models.qhrank.network import QHRank, opinion_of
from models.quality import MRR_DEPTH, NDCG_DEPTH

_BATCH: Final = 256
_WITHOUT_COUNTERS: Final = 0.25


class Figures(msgspec.Struct, frozen=True):
    """Means over cases. One whose clicked item is no candidate counts 0 in the first three, and not in the loss."""

    mrr_at_5: float
    ndcg_at_10: float
    precision_at_1: float
    loss: float


class Judged(msgspec.Struct, frozen=True):
    """The same cases three times."""

    with_counters: Figures
    without_counters: Figures
    text_alone: Figures
    """Of the text tower's own scores."""

    @property
    def merit(self) -> float:
        """What the best epoch is chosen by: the loss, that without the counters a quarter as much.

        Not MRR: on a few thousand cases it moves by chance as much as one epoch moves it.
        """
        return -(self.with_counters.loss + _WITHOUT_COUNTERS * self.without_counters.loss)


def judge(model: QHRank, cases: Cases) -> Judged:
    """Figures of a network; leaves it in evaluation mode."""
    model.eval()
    sums = np.zeros((3, 5))
    with torch.no_grad():
        for first in range(0, len(cases), _BATCH):
            rows = slice(first, first + _BATCH)
            tensors, clicked = cases.tensors(rows), cases.clicked[rows].astype(np.int64)
            inputs = as_inputs(trimmed(tensors))
            items = inputs["candidate_items"]
            text = model.text_scores(inputs)
            opinion = opinion_of(text)
            bare = without_counters(tensors["candidate_feats"], tensors["candidate_items"], cases.query[rows] != "")
            for place, scores in enumerate((
                model.joined(opinion, inputs["candidate_feats"], items),
                model.joined(opinion, torch.from_numpy(bare), items),
                text,
            )):  # fmt: skip
                sums[place] += _sums(scores, clicked)
    return Judged(*(_figures(of, len(cases)) for of in sums))


def text_scores(model: QHRank, cases: Cases) -> npt.NDArray[np.float32]:
    """The text tower's scores (n, K); leaves the network in evaluation mode."""
    model.eval()
    parts: list[npt.NDArray[np.float32]] = []
    with torch.no_grad():
        for first in range(0, len(cases), _BATCH):
            inputs = as_inputs(trimmed(cases.tensors(slice(first, first + _BATCH))))
            parts.append(model.text_scores(inputs).numpy())
    return np.concatenate(parts)


def _sums(scores: torch.Tensor, clicked: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Of reciprocal ranks, gains, first places, losses, and of the cases with a loss."""
    ranks = ranks_of(scores.numpy(), clicked)
    hit = clicked >= 0
    losses = functional.cross_entropy(scores[hit], torch.from_numpy(clicked[hit]), reduction="sum")
    near, in_ten = (ranks >= 1) & (ranks <= MRR_DEPTH), (ranks >= 1) & (ranks <= NDCG_DEPTH)
    return np.array(
        [
            (near / np.maximum(ranks, 1)).sum(),
            (in_ten / np.log2(1 + np.maximum(ranks, 1))).sum(),
            (ranks == 1).sum(),
            losses.item(),
            hit.sum(),
        ]
    )


def ranks_of(scores: npt.NDArray[Any], clicked: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """1-based rank (n,) of the clicked place (n,; -1 none) in scores (n, K), ties in order of place; 0 where none."""
    own = scores[np.arange(len(clicked)), np.maximum(clicked, 0)][:, None]
    before = np.arange(scores.shape[1]) < clicked[:, None]
    ranks = 1 + (scores > own).sum(axis=1) + ((scores == own) & before).sum(axis=1)
    return np.where(clicked >= 0, ranks, 0)


def _figures(sums: npt.NDArray[np.float64], cases: int) -> Figures:
    reciprocal, gain, first, loss, hits = (float(value) for value in sums)
    count = max(cases, 1)
    return Figures(reciprocal / count, gain / count, first / count, loss / max(hits, 1.0))
