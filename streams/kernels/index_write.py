"""Following the fold: what counters gained or lost, whole units that come in or leave, and users' buckets."""

from typing import Final

import numpy as np
import numpy.typing as npt

from streams.kernels.cells import (
    BOUND_ITEMS,
    C_NEXT_A,
    C_NEXT_B,
    C_TAG,
    KIND_LANES,
    LANE_COUNT,
    N_CELLS,
    N_DEAD_CELLS,
    N_ITEMS,
    N_QUERIES,
    N_USER_NODES,
    N_USERS,
    POPULAR_WEIGHTS,
    find,
    find_cell,
)
from streams.kernels.compile import (
    F64,
    F64_ROWS,
    I32,
    I32_ROWS,
    I64,
    I64_ROWS,
    U64,
    U64_ROWS,
    compiled,
    f64,
    i64,
    inlined,
    none,
    to_int,
)
from streams.kernels.layout import TAG_ITEM_KIND, TAG_PAIR, TAG_QUERY_ITEM, TAG_USER
from streams.kernels.mix import key, mix

U64Array = npt.NDArray[np.uint64]
F64Array = npt.NDArray[np.float64]
I64Array = npt.NDArray[np.int64]
I32Array = npt.NDArray[np.int32]

_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)
_S8: Final = np.uint64(8)
_S32: Final = np.uint64(32)
_S56: Final = np.uint64(56)
_M32: Final = np.uint64(0xFFFFFFFF)
_COUNT_MASK: Final = np.uint64((1 << 56) - 1)


@inlined
def _place(slots: U64Array, keys: U64Array, k: np.uint64, fill: I64Array, level: int) -> int:
    """The place of a key, made when the table does not hold it yet."""
    mask = np.uint64(len(slots) - 1)
    high = mix(k) >> _S32
    p = high & mask
    while slots[p] != _ZERO:
        if slots[p] >> _S32 == high:
            i = to_int(slots[p] & _M32) - 1
            if keys[i] == k:
                return i  # type: ignore[no-any-return]
        p = (p + _ONE) & mask
    n: int = fill[level]
    slots[p] = (high << _S32) | np.uint64(n + 1)
    keys[n] = k
    fill[level] = n + 1
    return n


@inlined
def _new_cell(
    slots: U64Array,
    keys: U64Array,
    links: I32Array,
    lanes: F64Array,
    tag: np.uint64,
    a: np.uint64,
    b: np.uint64,
    fill: I64Array,
) -> int:
    """Append a cell with no counts, not yet in any chain."""
    mask = np.uint64(len(slots) - 1)
    high = key(tag, a, b) >> _S32
    p = high & mask
    while slots[p] != _ZERO:
        p = (p + _ONE) & mask
    n: int = fill[N_CELLS]
    slots[p] = (high << _S32) | np.uint64(n + 1)
    keys[n, 0] = a
    keys[n, 1] = b
    links[n, C_TAG] = np.int32(tag)
    links[n, C_NEXT_A] = -1
    links[n, C_NEXT_B] = -1
    lanes[n, 0] = 0.0
    lanes[n, 1] = 0.0
    lanes[n, 2] = 0.0
    fill[N_CELLS] = n + 1
    return n


@inlined
def _hang(
    cell: int,
    tag: np.uint64,
    a: np.uint64,
    b: np.uint64,
    links: I32Array,
    item_slots: U64Array,
    item_keys: U64Array,
    item_heads: I32Array,
    query_slots: U64Array,
    query_keys: U64Array,
    query_heads: I32Array,
    fill: I64Array,
) -> None:
    """Put a cell at the head of its chains. The items of a pair are in their table already."""
    if tag == TAG_QUERY_ITEM:
        known = fill[N_QUERIES]
        q = _place(query_slots, query_keys, a, fill, N_QUERIES)
        if fill[N_QUERIES] > known:
            query_heads[q] = -1
        links[cell, C_NEXT_A] = query_heads[q]
        query_heads[q] = np.int32(cell)
    else:
        i = find(item_slots, item_keys, a)
        links[cell, C_NEXT_A] = item_heads[i, 0]
        item_heads[i, 0] = np.int32(cell)
        item_heads[i, 1] += 1
        i = find(item_slots, item_keys, b)
        links[cell, C_NEXT_B] = item_heads[i, 0]
        item_heads[i, 0] = np.int32(cell)
        item_heads[i, 1] += 1


@inlined
def _item(
    item: np.uint64,
    item_slots: U64Array,
    item_keys: U64Array,
    item_lanes: F64Array,
    item_popular: F64Array,
    item_heads: I32Array,
    fill: I64Array,
) -> int:
    """The place of an item, made with no counts when it is new."""
    known = fill[N_ITEMS]
    i = _place(item_slots, item_keys, item, fill, N_ITEMS)
    if fill[N_ITEMS] > known:
        for lane in range(KIND_LANES):
            item_lanes[i, lane] = 0.0
        item_popular[i] = 0.0
        item_heads[i, 0] = -1
        item_heads[i, 1] = 0
    return i


@inlined
def _add(
    tag: np.uint64,
    a: np.uint64,
    b: np.uint64,
    times: float,
    short: float,
    long: float,
    cell_slots: U64Array,
    cell_keys: U64Array,
    cell_links: I32Array,
    cell_lanes: F64Array,
    item_slots: U64Array,
    item_keys: U64Array,
    item_lanes: F64Array,
    item_popular: F64Array,
    item_bounds: F64Array,
    item_heads: I32Array,
    query_slots: U64Array,
    query_keys: U64Array,
    query_heads: I32Array,
    fill: I64Array,
) -> None:
    """Count (tag, a, b) `times` more (or fewer), in all lanes; `short` and `long` are the weights of the bucket."""
    if tag == TAG_ITEM_KIND:
        i = _item(a, item_slots, item_keys, item_lanes, item_popular, item_heads, fill)
        lane = (to_int(b) - 1) * LANE_COUNT
        item_lanes[i, lane] += times * short
        item_lanes[i, lane + 1] += times * long
        item_lanes[i, lane + 2] += times
        if item_lanes[i, lane + 2] == 0.0:
            item_lanes[i, lane] = 0.0
            item_lanes[i, lane + 1] = 0.0
        popular = 0.0
        for k in range(len(POPULAR_WEIGHTS)):
            popular += item_lanes[i, k * LANE_COUNT] * POPULAR_WEIGHTS[k]
        item_popular[i] = popular
        item_bounds[i // BOUND_ITEMS] = max(item_bounds[i // BOUND_ITEMS], popular)
        return
    c = find_cell(cell_slots, cell_keys, cell_links, tag, a, b)
    if c < 0:
        if tag == TAG_PAIR:
            _item(a, item_slots, item_keys, item_lanes, item_popular, item_heads, fill)
            _item(b, item_slots, item_keys, item_lanes, item_popular, item_heads, fill)
        c = _new_cell(cell_slots, cell_keys, cell_links, cell_lanes, tag, a, b, fill)
        _hang(
            c, tag, a, b, cell_links, item_slots, item_keys, item_heads, query_slots, query_keys, query_heads, fill
        )  # fmt: skip
    elif cell_lanes[c, 2] == 0.0:
        fill[N_DEAD_CELLS] -= 1
    cell_lanes[c, 0] += times * short
    cell_lanes[c, 1] += times * long
    cell_lanes[c, 2] += times
    if cell_lanes[c, 2] == 0.0:
        cell_lanes[c, 0] = 0.0
        cell_lanes[c, 1] = 0.0
        fill[N_DEAD_CELLS] += 1


@inlined
def _add_user(
    user: np.uint64,
    bucket: int,
    slots: U64Array,
    keys: U64Array,
    heads: I32Array,
    nodes: I64Array,
    fill: I64Array,
) -> None:
    """Note that a user has entries in a bucket. The chain of a user's buckets is newest first."""
    known = fill[N_USERS]
    u = _place(slots, keys, user, fill, N_USERS)
    if fill[N_USERS] > known:
        heads[u] = -1
    before = to_int(-1)
    c = to_int(heads[u])
    while c >= 0 and nodes[c, 0] > bucket:
        before = c
        c = nodes[c, 1]
    if c >= 0 and nodes[c, 0] == bucket:
        return
    n = fill[N_USER_NODES]
    nodes[n, 0] = bucket
    nodes[n, 1] = c
    if before < 0:
        heads[u] = np.int32(n)
    else:
        nodes[before, 1] = n
    fill[N_USER_NODES] = n + 1


@inlined
def _has_room(
    cell_slots: U64Array, cell_keys: U64Array, item_slots: U64Array, item_keys: U64Array, query_slots: U64Array,
    query_keys: U64Array, fill: I64Array,
) -> bool:  # fmt: skip
    """Whether one more change fits into the tables, whatever it is."""
    return bool(
        fill[N_CELLS] + 1 < min(len(cell_keys), len(cell_slots) * 2 // 3)
        and fill[N_ITEMS] + 2 < min(len(item_keys), len(item_slots) * 2 // 3)
        and fill[N_QUERIES] + 1 < min(len(query_keys), len(query_slots) * 2 // 3)
    )


_TABLES = (
    U64, U64_ROWS, I32_ROWS, F64_ROWS, U64, U64, F64_ROWS, F64, F64, I32_ROWS, U64, U64, I32, I64,
)  # fmt: skip


@compiled(i64(U64_ROWS, i64, i64, f64, f64, *_TABLES))
def add_changes(
    changes: U64Array,
    start: int,
    stop: int,
    short: float,
    long: float,
    cell_slots: U64Array,
    cell_keys: U64Array,
    cell_links: I32Array,
    cell_lanes: F64Array,
    item_slots: U64Array,
    item_keys: U64Array,
    item_lanes: F64Array,
    item_popular: F64Array,
    item_bounds: F64Array,
    item_heads: I32Array,
    query_slots: U64Array,
    query_keys: U64Array,
    query_heads: I32Array,
    fill: I64Array,
) -> int:
    """Follow the fold's change rows, all of one bucket; stop early when a table is full, and return where."""
    for j in range(start, stop):
        if not _has_room(cell_slots, cell_keys, item_slots, item_keys, query_slots, query_keys, fill):
            return j
        tag = changes[j, 0] >> _S8
        if tag == TAG_USER:
            continue
        times = 1.0 if changes[j, 0] & _ONE == _ONE else -1.0
        _add(
            tag, changes[j, 1], changes[j, 2], times, short, long,
            cell_slots, cell_keys, cell_links, cell_lanes, item_slots, item_keys, item_lanes, item_popular, item_bounds,
            item_heads, query_slots, query_keys, query_heads, fill,
        )  # fmt: skip
    return stop


@compiled(i64(U64_ROWS, i64, i64, f64, f64, f64, *_TABLES))
def add_entries(
    entries: U64Array,
    start: int,
    stop: int,
    sign: float,
    short: float,
    long: float,
    cell_slots: U64Array,
    cell_keys: U64Array,
    cell_links: I32Array,
    cell_lanes: F64Array,
    item_slots: U64Array,
    item_keys: U64Array,
    item_lanes: F64Array,
    item_popular: F64Array,
    item_bounds: F64Array,
    item_heads: I32Array,
    query_slots: U64Array,
    query_keys: U64Array,
    query_heads: I32Array,
    fill: I64Array,
) -> int:
    """Add (`sign` 1.0) or take away (-1.0) all counters of a unit; stops early like `add_changes`."""
    for j in range(start, stop):
        if not _has_room(cell_slots, cell_keys, item_slots, item_keys, query_slots, query_keys, fill):
            return j
        count = entries[j, 2] & _COUNT_MASK
        if count == _ZERO:
            continue
        _add(
            entries[j, 2] >> _S56, entries[j, 0], entries[j, 1], sign * np.float64(count), short, long,
            cell_slots, cell_keys, cell_links, cell_lanes, item_slots, item_keys, item_lanes, item_popular, item_bounds,
            item_heads, query_slots, query_keys, query_heads, fill,
        )  # fmt: skip
    return stop


@compiled(i64(U64_ROWS, i64, i64, i64, U64, U64, I32, I64_ROWS, I64))
def add_user_changes(
    changes: U64Array,
    start: int,
    stop: int,
    bucket: int,
    slots: U64Array,
    keys: U64Array,
    heads: I32Array,
    nodes: I64Array,
    fill: I64Array,
) -> int:
    """Follow the change rows that tell of a user's first entry in a bucket; stops early when a table is full."""
    for j in range(start, stop):
        if changes[j, 0] >> _S8 != TAG_USER:
            continue
        if fill[N_USERS] + 1 >= min(len(keys), len(slots) * 2 // 3) or fill[N_USER_NODES] >= len(nodes):
            return j
        _add_user(changes[j, 1], bucket, slots, keys, heads, nodes, fill)
    return stop


@compiled(i64(U64, i64, i64, U64, U64, I32, I64_ROWS, I64))
def add_users(
    users: U64Array,
    start: int,
    bucket: int,
    slots: U64Array,
    keys: U64Array,
    heads: I32Array,
    nodes: I64Array,
    fill: I64Array,
) -> int:
    """Note all users of a unit (its table of users, 0 is an empty slot); stops early when a table is full."""
    for j in range(start, len(users)):
        if users[j] == _ZERO:
            continue
        if fill[N_USERS] + 1 >= min(len(keys), len(slots) * 2 // 3) or fill[N_USER_NODES] >= len(nodes):
            return j
        _add_user(users[j], bucket, slots, keys, heads, nodes, fill)
    return len(users)


@compiled(
    none(
        U64_ROWS, I32_ROWS, F64_ROWS, i64, U64, U64_ROWS, I32_ROWS, F64_ROWS, U64, U64, I32_ROWS, U64, U64, I32, I64
    )
)  # fmt: skip
def copy_live_cells(
    old_keys: U64Array,
    old_links: I32Array,
    old_lanes: F64Array,
    count: int,
    cell_slots: U64Array,
    cell_keys: U64Array,
    cell_links: I32Array,
    cell_lanes: F64Array,
    item_slots: U64Array,
    item_keys: U64Array,
    item_heads: I32Array,
    query_slots: U64Array,
    query_keys: U64Array,
    query_heads: I32Array,
    fill: I64Array,
) -> None:
    """Copy the cells that still count something into empty tables of cells and queries, and chain them anew."""
    for i in range(fill[N_ITEMS]):
        item_heads[i, 0] = -1
        item_heads[i, 1] = 0
    for j in range(count):
        if old_lanes[j, 2] == 0.0:
            continue
        tag = np.uint64(old_links[j, C_TAG])
        a = old_keys[j, 0]
        b = old_keys[j, 1]
        c = _new_cell(cell_slots, cell_keys, cell_links, cell_lanes, tag, a, b, fill)
        _hang(
            c, tag, a, b, cell_links, item_slots, item_keys, item_heads, query_slots, query_keys, query_heads, fill
        )  # fmt: skip
        for lane in range(LANE_COUNT):
            cell_lanes[c, lane] = old_lanes[j, lane]


@compiled(none(U64, i64, I32, I64_ROWS, i64, U64, U64, I32, I64_ROWS, I64))
def copy_live_users(
    old_keys: U64Array,
    count: int,
    old_heads: I32Array,
    old_nodes: I64Array,
    oldest: int,
    slots: U64Array,
    keys: U64Array,
    heads: I32Array,
    nodes: I64Array,
    fill: I64Array,
) -> None:
    """Copy the buckets of users from `oldest` on into empty tables."""
    for j in range(count):
        c = to_int(old_heads[j])
        while c >= 0:
            if old_nodes[c, 0] >= oldest:
                _add_user(old_keys[j], old_nodes[c, 0], slots, keys, heads, nodes, fill)
            c = old_nodes[c, 1]
