"""The arrays of the read index, and how they grow: dead cells and forgotten buckets are left behind on the way."""

from typing import Any

import numpy as np
import numpy.typing as npt

from streams.kernels import index_write, tables
from streams.kernels.cells import (
    BOUND_ITEMS,
    CELL_LINKS,
    FILL_WIDTH,
    KIND_LANES,
    LANE_COUNT,
    N_CELLS,
    N_DEAD_CELLS,
    N_ITEMS,
    N_QUERIES,
    N_USER_NODES,
    N_USERS,
)

U64Array = npt.NDArray[np.uint64]

_SMALLEST = 256


class IndexTables:
    """Four tables of cells, items, queries and users; `kernels.cells` says what they hold."""

    def __init__(self) -> None:
        self.fill = np.zeros(FILL_WIDTH, np.int64)
        self.cell_slots: U64Array = _slots(_SMALLEST)
        self.cell_keys: U64Array = np.empty((_SMALLEST, 2), np.uint64)
        self.cell_links = np.empty((_SMALLEST, CELL_LINKS), np.int32)
        self.cell_lanes = np.empty((_SMALLEST, LANE_COUNT), np.float64)
        self.item_slots: U64Array = _slots(_SMALLEST)
        self.item_keys: U64Array = np.empty(_SMALLEST, np.uint64)
        self.item_lanes = np.empty((_SMALLEST, KIND_LANES), np.float64)
        self.item_popular = np.empty(_SMALLEST, np.float64)
        self.item_bounds = np.zeros(_SMALLEST // BOUND_ITEMS + 1, np.float64)
        self.item_heads = np.empty((_SMALLEST, 2), np.int32)
        self.query_slots: U64Array = _slots(_SMALLEST)
        self.query_keys: U64Array = np.empty(_SMALLEST, np.uint64)
        self.query_heads = np.empty(_SMALLEST, np.int32)
        self.user_slots: U64Array = _slots(_SMALLEST)
        self.user_keys: U64Array = np.empty(_SMALLEST, np.uint64)
        self.user_heads = np.empty(_SMALLEST, np.int32)
        self.user_nodes = np.empty((_SMALLEST, 2), np.int64)

    def counters(self) -> tuple[Any, ...]:
        """The arrays that kernels take to count something, in their order."""
        return (
            self.cell_slots,
            self.cell_keys,
            self.cell_links,
            self.cell_lanes,
            self.item_slots,
            self.item_keys,
            self.item_lanes,
            self.item_popular,
            self.item_bounds,
            self.item_heads,
            self.query_slots,
            self.query_keys,
            self.query_heads,
            self.fill,
        )

    def users(self) -> tuple[Any, ...]:
        """The arrays that kernels take to note a user's bucket, in their order."""
        return self.user_slots, self.user_keys, self.user_heads, self.user_nodes, self.fill

    def make_room(self, ahead: int) -> None:
        """Grow the tables of counters that could not take `ahead` more changes of any kind."""
        fill = self.fill
        if int(fill[N_CELLS]) + ahead >= min(len(self.cell_keys), len(self.cell_slots) * 2 // 3):
            self._regrow_cells(ahead)
        if int(fill[N_ITEMS]) + 2 * ahead >= min(len(self.item_keys), len(self.item_slots) * 2 // 3):
            room = _room(int(fill[N_ITEMS]), 2 * ahead)
            self.item_slots = _moved_slots(self.item_slots, room)
            self.item_keys = _longer(self.item_keys, room)
            self.item_lanes = _longer(self.item_lanes, room)
            self.item_popular = _longer(self.item_popular, room)
            bounds = np.zeros(room // BOUND_ITEMS + 1, np.float64)
            bounds[: len(self.item_bounds)] = self.item_bounds
            self.item_bounds = bounds
            self.item_heads = _longer(self.item_heads, room)
        if int(fill[N_QUERIES]) + ahead >= min(len(self.query_keys), len(self.query_slots) * 2 // 3):
            room = _room(int(fill[N_QUERIES]), ahead)
            self.query_slots = _moved_slots(self.query_slots, room)
            self.query_keys = _longer(self.query_keys, room)
            self.query_heads = _longer(self.query_heads, room)

    def make_room_for_users(self, ahead: int, oldest_bucket: int) -> None:
        """Make the table of users anew with room for `ahead` more, without what is older than `oldest_bucket`."""
        users, nodes = int(self.fill[N_USERS]), int(self.fill[N_USER_NODES])
        old = (self.user_keys, users, self.user_heads, self.user_nodes)
        room = _room(users, ahead)
        self.user_slots = _slots(room)
        self.user_keys = np.empty(room, np.uint64)
        self.user_heads = np.empty(room, np.int32)
        self.user_nodes = np.empty((_room(nodes, ahead), 2), np.int64)
        self.fill[N_USERS] = self.fill[N_USER_NODES] = 0
        index_write.copy_live_users(*old, oldest_bucket, *self.users())

    def _regrow_cells(self, ahead: int) -> None:
        """Grow the table of cells; when many are dead, leave them and the queries that had only such ones behind."""
        count, dead = int(self.fill[N_CELLS]), int(self.fill[N_DEAD_CELLS])
        if dead * 4 <= count:
            room = _room(count, ahead)
            self.cell_slots = _moved_slots(self.cell_slots, room)
            self.cell_keys = _longer(self.cell_keys, room)
            self.cell_links = _longer(self.cell_links, room)
            self.cell_lanes = _longer(self.cell_lanes, room)
            return
        old = (self.cell_keys, self.cell_links, self.cell_lanes, count)
        room = _room(count - dead, ahead)
        self.cell_slots = _slots(room)
        self.cell_keys = np.empty((room, 2), np.uint64)
        self.cell_links = np.empty((room, CELL_LINKS), np.int32)
        self.cell_lanes = np.empty((room, LANE_COUNT), np.float64)
        self.query_slots = np.zeros_like(self.query_slots)
        self.fill[N_CELLS] = self.fill[N_QUERIES] = self.fill[N_DEAD_CELLS] = 0
        index_write.copy_live_cells(
            *old,
            self.cell_slots,
            self.cell_keys,
            self.cell_links,
            self.cell_lanes,
            self.item_slots,
            self.item_keys,
            self.item_heads,
            self.query_slots,
            self.query_keys,
            self.query_heads,
            self.fill,
        )

    def nbytes(self) -> int:
        """Memory of all arrays."""
        return sum(int(array.nbytes) for array in (*self.counters(), *self.users()[:-1]))


def _room(count: int, ahead: int) -> int:
    return max(_SMALLEST, count * 3 // 2, count + 2 * ahead + 2)


def _slots(room: int) -> U64Array:
    size = 1
    while size * 2 // 3 <= room:
        size *= 2
    return np.zeros(size, np.uint64)


def _moved_slots(old: U64Array, room: int) -> U64Array:
    new = _slots(room)
    if len(new) <= len(old):
        return old
    tables.regrow_slots(old, new)
    return new


def _longer(array: npt.NDArray[Any], room: int) -> npt.NDArray[Any]:
    grown = np.empty((room, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown
