"""Where things stand in the tables of the read index, and how they are found there.

Four tables: items (all their counts in one row), queries and users (where their chains start), and cells: one for each
(query, item) and each pair of items. A cell hangs in the chain of its query, or in those of both its items, so that
"which items belong to this" is a walk and not a scan.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from streams.kernels.compile import inlined, to_int
from streams.kernels.mix import key, mix

U64Array = npt.NDArray[np.uint64]
I32Array = npt.NDArray[np.int32]

# Fill levels.
N_CELLS: Final = 0
N_ITEMS: Final = 1
N_QUERIES: Final = 2
N_USERS: Final = 3
N_USER_NODES: Final = 4
N_DEAD_CELLS: Final = 5
FILL_WIDTH: Final = 6

# Columns of a cell's links.
C_TAG: Final = 0
C_NEXT_A: Final = 1
C_NEXT_B: Final = 2
CELL_LINKS: Final = 3

LANE_COUNT: Final = 3
KIND_LANES: Final = 4 * LANE_COUNT
BOUND_ITEMS: Final = 128
"""Popularities have one upper bound for so many items that stand together, so that the best are found by a glance."""
POPULAR_WEIGHTS: Final = np.array([1.0, 4.0, 10.0, 0.25])
"""Of clicks, carts, purchases and views. Dyadic, so that sums stay exact."""

_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)
_S32: Final = np.uint64(32)
_M32: Final = np.uint64(0xFFFFFFFF)


@inlined
def find(slots: U64Array, keys: U64Array, k: np.uint64) -> int:
    """The place of a key, -1 when the table does not hold it."""
    mask = np.uint64(len(slots) - 1)
    high = mix(k) >> _S32
    p = high & mask
    while slots[p] != _ZERO:
        if slots[p] >> _S32 == high:
            i = to_int(slots[p] & _M32) - 1
            if keys[i] == k:
                return i  # type: ignore[no-any-return]
        p = (p + _ONE) & mask
    return -1


@inlined
def find_cell(slots: U64Array, keys: U64Array, links: I32Array, tag: np.uint64, a: np.uint64, b: np.uint64) -> int:
    """The place of the cell that counts (tag, a, b), -1 when there is none."""
    mask = np.uint64(len(slots) - 1)
    high = key(tag, a, b) >> _S32
    p = high & mask
    while slots[p] != _ZERO:
        if slots[p] >> _S32 == high:
            i = to_int(slots[p] & _M32) - 1
            if keys[i, 0] == a and keys[i, 1] == b and np.uint64(links[i, C_TAG]) == tag:
                return i  # type: ignore[no-any-return]
        p = (p + _ONE) & mask
    return -1
