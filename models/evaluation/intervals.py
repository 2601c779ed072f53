"""Confidence intervals by bootstrap: 95 %, whole users drawn with replacement, all rankers on the same draws.

A user's searches resemble each other, so the user is what is drawn (the cluster bootstrap), not the search: intervals
from single searches would be too narrow wherever people search more than once. All rankers are judged on the same
draws, so the interval of a difference is one of paired differences. The percentile method, without studentising:
these are means of thousands of bounded values. The t interval was turned down as it takes searches for independent.
"""

from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.evaluation.metrics import Values

DRAWS: Final = 1_000
_CHUNK: Final = 64
_LOW, _HIGH = 2.5, 97.5


class Estimate(msgspec.Struct, frozen=True):
    """A mean over searches with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The draws for n searches of some users, made once and used for every mean."""

    weights: npt.NDArray[np.uint8]
    """Shape (draws, n): how often each search is in each draw (about once; 255 times never happens)."""

    @staticmethod
    def draw(users: npt.NDArray[np.int64], seed: int, draws: int = DRAWS) -> "Bootstrap":
        """Draw users with replacement, as many as there are; `users` (n,) says whose each search is."""
        _, member = np.unique(users, return_inverse=True)
        count = int(member.max(initial=-1)) + 1
        rng = np.random.Generator(np.random.PCG64(seed))
        weights = np.zeros((draws, len(users)), np.uint8)
        for draw in range(draws):
            drawn = rng.integers(max(count, 1), size=count)
            weights[draw] = np.bincount(drawn, minlength=count)[member]
        return Bootstrap(weights)

    def take(self, rows: npt.NDArray[np.bool_]) -> "Bootstrap":
        """The same draws over some of the searches alone."""
        return Bootstrap(self.weights[:, rows])

    def estimates(self, values: Values) -> list[Estimate]:
        """The mean of each column of `values` (n, m); (0, 0, 0) where there are no searches.

        A draw that holds none of the searches (a small slice) tells nothing and is left out.
        """
        if not len(values):
            return [Estimate(0.0, 0.0, 0.0)] * values.shape[1]
        sums, totals = self._sums(values), self.weights.sum(axis=1, dtype=np.float64)
        means = sums[totals > 0] / totals[totals > 0, None]
        low, high = np.percentile(means, (_LOW, _HIGH), axis=0)
        return [
            Estimate(float(mean), float(bottom), float(top))
            for mean, bottom, top in zip(values.mean(axis=0), low, high, strict=True)
        ]

    def _sums(self, values: Values) -> Values:
        """Weighted sums of each draw, (draws, m), a chunk at a time: float64 weights of all draws would not fit."""
        chunks = [
            self.weights[at : at + _CHUNK].astype(np.float64) @ values for at in range(0, len(self.weights), _CHUNK)
        ]
        return np.concatenate(chunks)
