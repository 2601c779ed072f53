"""Whether a compressed model still ranks as its parent does: figures on searches that neither learned from.

A fall is measured twice, against the parent and against the version that the chain began with, so that small falls do
not add up over the steps. Beside quality it is asked whether a score depends on what else is in the batch: such a model
has no scores of its own to prove itself by, and the worker would refuse it.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.agreement import RankAgreement, rank_agreement
from models.cases import Cases
from models.quality import MRR_DEPTH, NDCG_DEPTH
from models.registry import SCORE_TOLERANCE, top_places

_OUT_OF_REACH: Final = -1e9
_NORMAL_95: Final = 1.96


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How far a compressed model may be from its parent."""

    fall_max: float = 0.003
    """Of NDCG@10; also from the version that the chain began with."""
    same_best_min: float = 0.95
    """Share of searches whose best item must stay the best: figures on clicks do not see what else users see change."""
    top10_min: float = 0.9
    """Mean share of the ten best that must stay among them."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Mean of child minus parent over the same searches, with a 95 % interval."""

    mean: float
    low: float
    high: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a compressed model's rankings are worth. A clicked item that is no candidate counts 0."""

    rows: int
    ndcg_at_10: float
    mrr_at_5: float
    ndcg_change: Change
    """Against the parent."""
    mrr_change: Change
    ndcg_change_from_first: float
    """Against the version that the chain began with."""
    agreement: RankAgreement
    """With the parent: the same best item, the ten best, Kendall's tau."""
    same_ten: float
    """Share of rows with the same ten best in the same order."""
    unsteady: float
    """Largest difference of a score between batches of different sizes."""
    refused: str
    """Why it may not be used; empty: it may."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What one model made of the searches."""

    scores: npt.NDArray[np.float32]
    """Shape (n, K)."""
    unsteady: float = 0.0


def judge(child: Scored, parent: Scored, first: Scored, cases: Cases, limits: Limits | None = None) -> Verdict:
    """Compare `child` with its `parent` and with the `first` of the chain on the same cases."""
    limits = limits or Limits()
    ndcg, mrr = gains(child.scores, cases)
    parent_ndcg, parent_mrr = gains(parent.scores, cases)
    first_ndcg, _ = gains(first.scores, cases)
    real = cases.candidate_items != 0
    ours, theirs = (np.where(real, scored.scores, _OUT_OF_REACH) for scored in (child, parent))
    change, from_first = _change(ndcg - parent_ndcg), float((ndcg - first_ndcg).mean())
    agreement = rank_agreement(child.scores, parent.scores, real)
    return Verdict(
        rows=len(cases),
        ndcg_at_10=float(ndcg.mean()),
        mrr_at_5=float(mrr.mean()),
        ndcg_change=change,
        mrr_change=_change(mrr - parent_mrr),
        ndcg_change_from_first=from_first,
        agreement=agreement,
        same_ten=float((top_places(ours) == top_places(theirs)).all(axis=1).mean()),
        unsteady=child.unsteady,
        refused=_unfit(child) or _fall((change.mean, from_first), limits) or _disagreement(agreement, limits),
    )


def gains(scores: npt.NDArray[np.float32], cases: Cases) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """NDCG@10 and reciprocal rank down to place 5 of each row; ties in order of place, a NaN below everything."""
    clicked = cases.clicked.astype(np.int64)
    known = np.nan_to_num(np.where(cases.candidate_items != 0, scores, -np.inf), nan=-np.inf, neginf=-np.inf)
    own = known[np.arange(len(clicked)), np.maximum(clicked, 0)][:, None]
    before = np.arange(known.shape[1]) < clicked[:, None]
    ranks: npt.NDArray[Any] = 1 + (known > own).sum(axis=1) + ((known == own) & before).sum(axis=1)
    hit = clicked >= 0
    ndcg = np.where(hit & (ranks <= NDCG_DEPTH), 1.0 / np.log2(1.0 + ranks), 0.0)
    return ndcg, np.where(hit & (ranks <= MRR_DEPTH), 1.0 / ranks, 0.0)


def _change(differences: npt.NDArray[np.float64]) -> Change:
    mean = float(differences.mean())
    spread = _NORMAL_95 * float(differences.std()) / max(len(differences), 1) ** 0.5
    return Change(mean=mean, low=mean - spread, high=mean + spread)


def _unfit(child: Scored) -> str:
    if not np.isfinite(child.scores).all():
        return "a score is not a finite number"
    if not child.unsteady <= SCORE_TOLERANCE:
        return (
            f"a score differs by {child.unsteady:.2g} with what else is in the batch; a golden set allows "
            f"{SCORE_TOLERANCE:g}"
        )
    return ""


def _fall(changes: tuple[float, float], limits: Limits) -> str:
    for change, than in zip(changes, ("its parent's", "that of the version that it all began with"), strict=True):
        if not change >= -limits.fall_max:
            return f"NDCG@10 is {-change:.4f} below {than}; at most {limits.fall_max:g} is allowed"
    return ""


def _disagreement(agreement: RankAgreement, limits: Limits) -> str:
    if not agreement.same_best >= limits.same_best_min:
        return f"only {agreement.same_best:.1%} of the searches keep their best item; {limits.same_best_min:.0%} must"
    if not agreement.top10_overlap >= limits.top10_min:
        return f"only {agreement.top10_overlap:.1%} of the ten best stay among them; {limits.top10_min:.0%} must"
    return ""
