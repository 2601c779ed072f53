"""Fitting the small ranking model: listwise softmax over what was clicked, by L-BFGS.

Each list is the clicked item (place 0) with other candidates of the same search; the loss is the cross-entropy of a
softmax over the list, which ties the model to order rather than to click rates. A few hundred weights and a full
batch: a quasi-Newton method ends in a minute where stochastic descent would need a schedule to be tuned, and it has
no randomness beyond the seed of its start.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from models.export import Weights

Float = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
_NOTHING: Final = np.float32(-1e9)


@dataclass(frozen=True, slots=True)
class Lists:
    """Searches to learn from, the clicked candidate in place 0."""

    features: Float
    """Shape (n, k, F)."""
    known: Mask
    """Shape (n, k): which places hold a candidate."""

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came out, and how."""

    weights: Weights
    iterations: int
    loss: float
    held_out_loss: float


class _Network:
    """Packs the weights into one vector and differentiates the loss."""

    def __init__(self, prior: Float, hidden: int, decay: float) -> None:
        features = len(prior)
        self._shapes = [(features,), (features, hidden), (hidden,), (hidden,)]
        self._decay = decay
        self._anchor = np.concatenate([prior.astype(np.float64), np.zeros((features + 2) * hidden)])

    def start(self, seed: int) -> npt.NDArray[np.float64]:
        rng = np.random.Generator(np.random.PCG64(seed))
        features, hidden = self._shapes[1]
        inner = rng.normal(size=(features, hidden)) / np.sqrt(features)
        outer = rng.normal(size=hidden) * 0.1
        vector: npt.NDArray[np.float64] = self._anchor.copy()
        vector += np.concatenate([np.zeros(features), inner.ravel(), np.zeros(hidden), outer])
        return vector

    def unpack(self, vector: npt.NDArray[np.float64]) -> Weights:
        parts: list[Float] = []
        start = 0
        for shape in self._shapes:
            size = int(np.prod(shape))
            parts.append(vector[start : start + size].reshape(shape).astype(np.float32))
            start += size
        return Weights(*parts)

    def loss(self, vector: npt.NDArray[np.float64], lists: Lists) -> float:
        scores = np.where(lists.known, self.unpack(vector).score(lists.features), _NOTHING)
        highest = scores.max(axis=1)
        exponents = np.exp(scores - highest[:, None]).sum(axis=1)
        return float((np.log(exponents) + highest - scores[:, 0]).mean())

    def gradient(
        self, vector: npt.NDArray[np.float64], lists: Lists, chunk: int = 4096
    ) -> tuple[float, npt.NDArray[np.float64]]:
        """Loss with weight decay, and its gradient; in chunks, to bound memory."""
        weights = self.unpack(vector)
        total = 0.0
        slopes = np.zeros_like(vector)
        for first in range(0, len(lists), chunk):
            features, known = lists.features[first : first + chunk], lists.known[first : first + chunk]
            hidden = np.tanh(features @ weights.inner + weights.bias)
            scores = np.where(known, features @ weights.direct + hidden @ weights.outer, _NOTHING)
            highest = scores.max(axis=1, keepdims=True)
            shares = np.exp(scores - highest)
            sums = shares.sum(axis=1, keepdims=True)
            total += float((np.log(sums) + highest)[:, 0].sum() - scores[:, 0].sum())
            slope = shares / sums
            slope[:, 0] -= 1
            bent = slope[..., None] * weights.outer * (1 - hidden * hidden)
            flat, flat_bent = features.reshape(-1, features.shape[-1]), bent.reshape(-1, bent.shape[-1])
            parts = (
                flat.T @ slope.ravel(),
                flat.T @ flat_bent,
                flat_bent.sum(axis=0),
                hidden.reshape(-1, hidden.shape[-1]).T @ slope.ravel(),
            )
            slopes += np.concatenate([part.ravel() for part in parts])
        count = max(len(lists), 1)
        away = vector - self._anchor
        return total / count + self._decay * float(away @ away), slopes / count + 2 * self._decay * away


def fit(
    lists: Lists,
    held_out: Lists,
    *,
    seed: int,
    prior: Float | None = None,
    hidden: int = 8,
    decay: float = 1e-2,
    iterations: int = 120,
    on_iteration: Callable[[int, float], None] = lambda *_: None,
) -> Fitted:
    """Fit to `lists` and keep the weights that were best on `held_out`.

    `prior` (F,) are linear weights to start from and to be drawn back to, instead of 0: what is known to order well in
    shops that look different from the ones at hand. Features are standardised for the fit; the returned weights take
    them as they are.
    """
    flat = lists.features[lists.known]
    mean, spread = flat.mean(axis=0), flat.std(axis=0) + np.float32(1e-3)

    def standard(raw: Lists) -> Lists:
        return Lists(np.where(raw.known[..., None], (raw.features - mean) / spread, 0).astype(np.float32), raw.known)

    train, judge = standard(lists), standard(held_out)
    start = np.zeros_like(mean) if prior is None else prior * spread
    network = _Network(start, hidden, decay)
    best_loss, best, done = np.inf, network.start(seed), 0

    def after(vector: npt.NDArray[np.float64]) -> None:
        nonlocal best_loss, best, done
        done += 1
        loss = network.loss(vector, judge)
        if loss < best_loss:
            best_loss, best = loss, vector.copy()
        on_iteration(done, loss)

    minimize(
        network.gradient,
        best,
        args=(train,),
        jac=True,
        method="L-BFGS-B",
        callback=after,
        options={"maxiter": iterations, "maxcor": 20},
    )
    return Fitted(_raw(network.unpack(best), mean, spread), done, network.loss(best, train), float(best_loss))


def _raw(weights: Weights, mean: Float, spread: Float) -> Weights:
    """The same function of features that are not standardised (up to a constant, which no order sees)."""
    inner = weights.inner / spread[:, None]
    return Weights(
        direct=(weights.direct / spread).astype(np.float32),
        inner=inner.astype(np.float32),
        bias=(weights.bias - mean @ inner).astype(np.float32),
        outer=weights.outer,
    )
