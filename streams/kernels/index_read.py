"""Reading many counters at once: by item, by query, by pair, whole chains, and the best of all."""

from typing import Final

import numpy as np
import numpy.typing as npt

from streams.kernels.cells import BOUND_ITEMS, C_NEXT_A, C_NEXT_B, KIND_LANES, LANE_COUNT, find, find_cell
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
    u64,
)
from streams.kernels.layout import TAG_PAIR, TAG_QUERY_ITEM
from streams.kernels.mix import mix

U64Array = npt.NDArray[np.uint64]
F64Array = npt.NDArray[np.float64]
I64Array = npt.NDArray[np.int64]
I32Array = npt.NDArray[np.int32]

_ONE: Final = np.uint64(1)


@compiled(none(U64, f64, f64, U64, U64, F64_ROWS, F64_ROWS))
def read_items(
    items: U64Array,
    short: float,
    long: float,
    item_slots: U64Array,
    item_keys: U64Array,
    item_lanes: F64Array,
    out: F64Array,
) -> None:
    """Counts of each item into `out` (k, 12); `short` and `long` are the weights of the bucket that is read at."""
    for j in range(len(items)):
        i = find(item_slots, item_keys, items[j])
        for lane in range(0, KIND_LANES, LANE_COUNT):
            if i < 0:
                out[j, lane] = 0.0
                out[j, lane + 1] = 0.0
                out[j, lane + 2] = 0.0
            else:
                out[j, lane] = item_lanes[i, lane] / short
                out[j, lane + 1] = item_lanes[i, lane + 1] / long
                out[j, lane + 2] = item_lanes[i, lane + 2]


@compiled(none(u64, U64, f64, f64, U64, U64_ROWS, I32_ROWS, F64_ROWS, F64_ROWS))
def read_query_items(
    query: np.uint64,
    items: U64Array,
    short: float,
    long: float,
    cell_slots: U64Array,
    cell_keys: U64Array,
    cell_links: I32Array,
    cell_lanes: F64Array,
    out: F64Array,
) -> None:
    """Clicks for the query on each item into `out` (k, 3)."""
    for j in range(len(items)):
        c = find_cell(cell_slots, cell_keys, cell_links, TAG_QUERY_ITEM, query, items[j])
        if c < 0:
            out[j, 0] = 0.0
            out[j, 1] = 0.0
            out[j, 2] = 0.0
        else:
            out[j, 0] = cell_lanes[c, 0] / short
            out[j, 1] = cell_lanes[c, 1] / long
            out[j, 2] = cell_lanes[c, 2]


@inlined
def _other(cell: int, tag: np.uint64, of: np.uint64, keys: U64Array) -> np.uint64:
    """The item that a cell of a chain names: the clicked one of a query, or the other one of a pair."""
    return keys[cell, 0] if tag == TAG_PAIR and keys[cell, 1] == of else keys[cell, 1]  # type: ignore[no-any-return]


@inlined
def _next(cell: int, tag: np.uint64, of: np.uint64, keys: U64Array, links: I32Array) -> int:
    side = C_NEXT_A if keys[cell, 0] == of or tag == TAG_QUERY_ITEM else C_NEXT_B
    return to_int(links[cell, side])  # type: ignore[no-any-return]


@compiled(i64(u64, u64, U64_ROWS, I32_ROWS, F64_ROWS, U64, U64, I32_ROWS, U64, U64, I32, U64, F64_ROWS))
def walk(
    tag: np.uint64,
    of: np.uint64,
    cell_keys: U64Array,
    cell_links: I32Array,
    cell_lanes: F64Array,
    item_slots: U64Array,
    item_keys: U64Array,
    item_heads: I32Array,
    query_slots: U64Array,
    query_keys: U64Array,
    query_heads: I32Array,
    found: U64Array,
    lanes: F64Array,
) -> int:
    """Collect a chain: the items of a query, or those clicked together with an item. Returns how many there are.

    More than `found` has room for are counted, not written: the caller comes again with more room.
    """
    c = to_int(-1)
    if tag == TAG_QUERY_ITEM:
        q = find(query_slots, query_keys, of)
        if q >= 0:
            c = to_int(query_heads[q])
    else:
        i = find(item_slots, item_keys, of)
        if i >= 0:
            c = to_int(item_heads[i, 0])
    n = 0
    while c >= 0:
        if cell_lanes[c, 2] != 0.0:
            if n < len(found):
                found[n] = _other(c, tag, of, cell_keys)
                for lane in range(LANE_COUNT):
                    lanes[n, lane] = cell_lanes[c, lane]
            n += 1
        c = _next(c, tag, of, cell_keys, cell_links)
    return n


@inlined
def _places(items: U64Array) -> I32Array:
    """A small hash table of the places of items in their array; -1 is an empty slot. An item may stand there twice."""
    size = 16
    while size < 2 * len(items):
        size *= 2
    mask = np.uint64(size - 1)
    places = np.full(size, -1, np.int32)
    for j in range(len(items)):
        p = mix(items[j]) & mask
        while places[p] >= 0:
            p = (p + _ONE) & mask
        places[p] = np.int32(j)
    return places


@inlined
def _add_lanes(total: F64Array, lanes: F64Array) -> None:
    for lane in range(LANE_COUNT):
        total[lane] += lanes[lane]


@inlined
def _add_where(item: np.uint64, places: I32Array, items: U64Array, lanes: F64Array, out: F64Array) -> None:
    """Add lanes to the row of `out` of each place where the item stands."""
    mask = np.uint64(len(places) - 1)
    p = mix(item) & mask
    while places[p] >= 0:
        j = to_int(places[p])
        if items[j] == item:
            _add_lanes(out[j], lanes)
        p = (p + _ONE) & mask


@compiled(none(U64, U64, U64, U64_ROWS, I32_ROWS, F64_ROWS, U64, U64, I32_ROWS, F64_ROWS))
def read_pairs(
    anchors: U64Array,
    items: U64Array,
    cell_slots: U64Array,
    cell_keys: U64Array,
    cell_links: I32Array,
    cell_lanes: F64Array,
    item_slots: U64Array,
    item_keys: U64Array,
    item_heads: I32Array,
    out: F64Array,
) -> None:
    """Add to `out` (k, 3) how often each item was clicked together with the anchors, in the lanes' own scale.

    A short chain of an anchor is walked, holding each cell against the wanted items; for a long one, each pair is
    looked up instead.
    """
    wanted = _places(items)
    for anchor in anchors:
        i = find(item_slots, item_keys, anchor)
        if i < 0:
            continue
        if to_int(item_heads[i, 1]) > len(items):
            for j in range(len(items)):
                low = min(anchor, items[j])
                c = find_cell(cell_slots, cell_keys, cell_links, TAG_PAIR, low, max(anchor, items[j]))
                if c >= 0:
                    _add_lanes(out[j], cell_lanes[c])
            continue
        c = to_int(item_heads[i, 0])
        while c >= 0:
            _add_where(_other(c, TAG_PAIR, anchor, cell_keys), wanted, items, cell_lanes[c], out)
            c = _next(c, TAG_PAIR, anchor, cell_keys, cell_links)


@inlined
def _push(heap: F64Array, n: int, x: float) -> None:
    """Put `x` into a min-heap of n values."""
    p = n
    while p > 0 and heap[(p - 1) // 2] > x:
        heap[p] = heap[(p - 1) // 2]
        p = (p - 1) // 2
    heap[p] = x


@inlined
def _replace_least(heap: F64Array, n: int, x: float) -> None:
    """Put `x` into a min-heap of n values in place of its least."""
    p = 0
    while True:
        c = 2 * p + 1
        if c >= n:
            break
        if c + 1 < n and heap[c + 1] < heap[c]:
            c += 1
        if heap[c] >= x:
            break
        heap[p] = heap[c]
        p = c
    heap[p] = x


@inlined
def _at_least(values: F64Array, bounds: F64Array, count: int, least: float, out: I64Array) -> int:
    """The places of all values that are positive and at least `least`, without looking where none can be."""
    m = 0
    for start in range(0, count, BOUND_ITEMS):
        if len(bounds) > 0 and bounds[start // BOUND_ITEMS] < least:
            continue
        for j in range(start, min(start + BOUND_ITEMS, count)):
            if values[j] >= least and values[j] > 0.0:
                if m < len(out):
                    out[m] = j
                m += 1
    return m


@compiled(i64(F64, F64, i64, i64, I64))
def best(values: F64Array, bounds: F64Array, count: int, limit: int, out: I64Array) -> int:
    """The places of the `limit` largest positive of `values[:count]`, and of all that tie with the last, unordered.

    One pass with a heap of the best so far: nearly every value is only compared with its least. `bounds` (empty, or
    one for every `BOUND_ITEMS` values) are upper bounds by which whole stretches are passed over; they are tightened
    on the way. Returns how many places there are; ties beyond the room of `out` are counted, not written.
    """
    heap = np.empty(limit, np.float64)
    n = 0
    for start in range(0, count, BOUND_ITEMS):
        block = start // BOUND_ITEMS
        if n == limit and len(bounds) > 0 and bounds[block] <= heap[0]:
            continue
        largest = 0.0
        for j in range(start, min(start + BOUND_ITEMS, count)):
            x = values[j]
            largest = max(largest, x)
            if x > 0.0 and n < limit:
                _push(heap, n, x)
                n += 1
            elif x > 0.0 and x > heap[0]:
                _replace_least(heap, n, x)
        if len(bounds) > 0:
            bounds[block] = largest
    return _at_least(values, bounds, count, heap[0], out) if n > 0 else 0


@compiled(i64(u64, U64, U64, I32, I64_ROWS, I64))
def user_buckets(
    user: np.uint64, slots: U64Array, keys: U64Array, heads: I32Array, nodes: I64Array, out: I64Array
) -> int:
    """Write the buckets in which the user has entries, newest first, into `out`; return how many fitted."""
    u = find(slots, keys, user)
    if u < 0:
        return 0
    n = 0
    c = to_int(heads[u])
    while c >= 0 and n < len(out):
        out[n] = nodes[c, 0]
        n += 1
        c = nodes[c, 1]
    return n
