"""How alike two models rank the same candidates.

Figures of an evaluation say which model is better on average; these say how much a user would see change.
"""

import msgspec
import numpy as np
import numpy.typing as npt

from models.registry import TOP

Float = npt.NDArray[np.float32]


class RankAgreement(msgspec.Struct, frozen=True, kw_only=True):
    """How alike two versions rank the same candidates."""

    rows: int
    kendall_tau: float
    """Mean over rows of tau-b; 1: the same order, 0: unrelated, -1: reversed."""
    top10_overlap: float
    """Mean share of the ten best that both name."""
    same_best: float
    """Share of rows with the same best candidate."""


def rank_agreement(one: Float, other: Float, real: npt.NDArray[np.bool_]) -> RankAgreement:
    """Compare scores (n, K); `real` (n, K) tells candidates from padding. Rows of fewer than two are left out."""
    taus, overlaps, best = [], [], []
    for ours, theirs, known in zip(one, other, real, strict=True):
        if known.sum() < 2:
            continue
        mine, yours = ours[known].astype(np.float64), theirs[known].astype(np.float64)
        taus.append(kendall_tau(mine, yours))
        tops = [np.argsort(-scores, kind="stable")[:TOP] for scores in (mine, yours)]
        overlaps.append(len(np.intersect1d(tops[0], tops[1])) / len(tops[0]))
        best.append(tops[0][0] == tops[1][0])
    if not taus:
        raise ValueError("no row has two candidates")
    return RankAgreement(
        rows=len(taus),
        kendall_tau=float(np.mean(taus)),
        top10_overlap=float(np.mean(overlaps)),
        same_best=float(np.mean(best)),
    )


def kendall_tau(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Kendall's tau-b of two score vectors (n,): agreeing minus disagreeing pairs, over the pairs tied in neither.

    Kendall, "The treatment of ties in ranking problems", Biometrika 33 (1945). 1 when both are constant, 0 when one is.
    """
    upper = np.triu_indices(len(one), 1)
    ours = np.sign(one[:, None] - one[None, :])[upper]
    theirs = np.sign(other[:, None] - other[None, :])[upper]
    untied = float(np.sqrt(np.count_nonzero(ours) * np.count_nonzero(theirs)))
    if not untied:
        return float(not ours.any() and not theirs.any())
    return float((ours * theirs).sum()) / untied
