"""A trained network as a scorer of one ask, for evaluation in the process that trained it."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from models.encode import Tensors
from models.qhrank.exporting import scores_of
from models.qhrank.training import Trained, network_of


def scorer_of(trained: Trained) -> Callable[[Tensors], npt.NDArray[np.float32]]:
    """The six tensors of one ask (B = 1) into a score for each of its K candidates, shape (K,)."""
    model = network_of(trained.weights, trained.sizes)

    def score(tensors: Tensors) -> npt.NDArray[np.float32]:
        scores: npt.NDArray[np.float32] = scores_of(model, tensors)[0]
        return scores

    return score
