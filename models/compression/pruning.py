"""Magnitude pruning of whole hidden units: the weights left are a smaller network, not one with zeros in it.

Zeros would make no graph smaller and no processor faster; a unit less makes two matrices narrower.
"""

import msgspec
import numpy as np
import numpy.typing as npt

from models.qhrank.network import Sizes
from models.qhrank.training import Weights

Float = npt.NDArray[np.float32]


def pruned(weights: Weights, sizes: Sizes, share: float) -> tuple[Weights, Sizes]:
    """Keep this share (0 to 1) of the units of every feed-forward layer, those with the largest weights.

    A unit's size is the length of what goes into it times the length of what comes out of it, since scaling the one up
    and the other down changes little (Li et al., "Pruning filters for efficient ConvNets", 2017, take one side only).
    """
    inner, hidden = (max(round(width * share), 1) for width in (sizes.inner, sizes.hidden))
    left = dict(weights)
    for layer in range(sizes.layers):
        block = f"text.blocks.{layer}"
        _cut(left, f"{block}.widen", f"{block}.narrow", inner)
    _cut(left, "hidden", "deeper", hidden)
    _cut(left, "deeper", "outer", hidden)
    return left, msgspec.structs.replace(sizes, inner=inner, hidden=hidden)


def _cut(weights: dict[str, npt.NDArray[np.float32]], into: str, out_of: str, keep: int) -> None:
    """Take the smallest units between two layers out of both, in place; those left stay in order."""
    before, after = weights[f"{into}.weight"], weights[f"{out_of}.weight"]
    size = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=0)
    units = np.sort(np.argsort(-size, kind="stable")[:keep])
    weights[f"{into}.weight"], weights[f"{into}.bias"] = before[units], weights[f"{into}.bias"][units]
    weights[f"{out_of}.weight"] = after[:, units]
