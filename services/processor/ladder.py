"""The ladder: model, then streaming counters, then popularity; an answer says its rung, and why it was not the model.

The lower rungs need nothing but the tensors that the model would have got, so stepping down costs microseconds and
cannot fail for a reason that lies outside this process.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from services.inference.client import InferenceExpired, InferenceFailed, InferenceRefused, InferenceUnavailable
from streams.kinds import Rung

CLIENT_SLACK_SECONDS: Final = 0.01
Tensors = dict[str, npt.NDArray[np.generic]]
Scores = npt.NDArray[np.float32]


class StepDown(Enum):
    """Why an answer did not come from the model rung; the label of a metric."""

    NONE = "none"
    UNAVAILABLE = "inference_unavailable"
    REFUSED = "inference_refused"
    EXPIRED = "inference_expired"
    BAD_SCORES = "bad_scores"
    OVERLOADED = "overloaded"
    NO_CANDIDATES = "no_candidates"


class Scored(Protocol):
    """What the inference client returns."""

    @property
    def scores(self) -> Scores:
        """Shape (1, K)."""

    @property
    def model_version(self) -> str:
        """As in `ranker/1`."""


Infer = Callable[[Tensors, int], Awaitable[Scored]]
"""(tensors, deadline in Unix ms) -> scores."""
Score = Callable[[Tensors], Scores]
"""A lower rung: float32[K], higher is better."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Scores for the K candidates, float32[K], and where they came from."""

    scores: Scores
    rung: Rung
    step_down: StepDown
    reason: str
    """One sentence; empty when the model answered."""
    model_version: str


def first_of(special: Infer, general: Infer) -> Infer:
    """Ask a special model, and the general one when the special one does not serve or does not take the request."""

    async def infer(tensors: Tensors, deadline_unix_ms: int) -> Scored:
        try:
            return await special(tensors, deadline_unix_ms)
        except (InferenceRefused, InferenceUnavailable):
            return await general(tensors, deadline_unix_ms)

    return infer


class Ladder:
    """Scores candidates on the best rung that answers in time."""

    def __init__(self, infer: Infer, counters: Score, popularity: Score) -> None:
        self._infer = infer
        self._counters = counters
        self._popularity = popularity
        self.model_version = ""
        """`ranker/1`: the version that answered last; empty when none did yet."""

    async def score(self, tensors: Tensors, candidate_count: int, *, deadline_ms: int, now_ms: int) -> Outcome:
        """Ask the model, and step down if it does not answer by `deadline_ms`."""
        if candidate_count == 0:
            return self.step_down(tensors, 0, StepDown.NO_CANDIDATES, "nothing in the catalogue fits the request")
        try:
            # The client keeps the deadline itself and learns from it; this one only catches a client that does not.
            async with asyncio.timeout(max(0, deadline_ms - now_ms) / 1000 + CLIENT_SLACK_SECONDS):
                answer = await self._infer(tensors, deadline_ms)
        except InferenceFailed as problem:
            return self.step_down(tensors, candidate_count, _why(problem), problem.reason)
        except TimeoutError:
            reason = f"the inference worker did not answer within {deadline_ms - now_ms} ms"
            return self.step_down(tensors, candidate_count, StepDown.EXPIRED, reason)
        scores = np.asarray(answer.scores, np.float32).reshape(-1)
        if len(scores) != candidate_count or not np.isfinite(scores).all():
            reason = (
                f"{answer.model_version} gave {len(scores)} scores for {candidate_count} candidates, or not numbers"
            )
            return self.step_down(tensors, candidate_count, StepDown.BAD_SCORES, reason)
        self.model_version = answer.model_version
        return Outcome(scores, Rung.MODEL, StepDown.NONE, "", self.model_version)

    def step_down(self, tensors: Tensors, candidate_count: int, why: StepDown, reason: str) -> Outcome:
        """Score from the counters, or from popularity when the counters know none of the candidates."""
        if candidate_count == 0:
            return Outcome(np.zeros(0, np.float32), Rung.POPULARITY, why, reason, self.model_version)
        counters = self._counters(tensors)
        if np.any(counters > 0):
            return Outcome(counters, Rung.COUNTERS, why, reason, self.model_version)
        return Outcome(self._popularity(tensors), Rung.POPULARITY, why, reason, self.model_version)


def _why(problem: InferenceFailed) -> StepDown:
    if isinstance(problem, InferenceExpired):
        return StepDown.EXPIRED
    return StepDown.REFUSED if isinstance(problem, InferenceRefused) else StepDown.UNAVAILABLE
