"""Slips of the finger in a query: what made-up shops, training and the judging of robustness have in common."""

from typing import Final

import numpy as np

TYPED_MIN: Final = 4
"""Letters of the shortest query in which people are made to slip."""
_TRIES: Final = 8


def mistyped(query: str, rng: np.random.Generator) -> str:
    """One slip: a letter left out, doubled, exchanged with its neighbour, or wrong.

    It may happen to change nothing (a letter exchanged with its equal). The first letter stays.
    """
    if len(query) < TYPED_MIN:
        return query
    at = int(rng.integers(1, len(query) - 1))
    slip = int(rng.integers(4))
    if slip == 0:
        return query[:at] + query[at + 1 :]
    if slip == 1:
        return query[:at] + query[at] + query[at:]
    if slip == 2:
        return query[:at] + query[at + 1] + query[at] + query[at + 2 :]
    return query[:at] + chr(97 + int(rng.integers(26))) + query[at + 1 :]


def with_one_typo(query: str, seed: int, number: int) -> str:
    """The query with one slip that shows; the same for the same seed and number. Shorter ones than TYPED_MIN stay."""
    rng = np.random.Generator(np.random.PCG64([seed, number]))
    for _ in range(_TRIES):
        changed = mistyped(query, rng)
        if changed.strip().lower() != query.strip().lower():
            return changed
    return query
