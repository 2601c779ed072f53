"""Growing the tables of a unit, filling them again from a snapshot, and recomputing a digest in full."""

from typing import Final

import numpy as np
import numpy.typing as npt

from streams.kernels.compile import F64_ROWS, I32, I64, U64, U64_ROWS, compiled, f64, i64, inlined, none, to_int, u64
from streams.kernels.layout import (
    L_ANSWERS,
    L_COUNTERS,
    L_HISTORY,
    L_IDENTITIES,
    N_NODES,
    N_USERS,
    TAG_HISTORY,
)
from streams.kernels.mix import G, P, Q, key, mix

U64Array = npt.NDArray[np.uint64]
I64Array = npt.NDArray[np.int64]
I32Array = npt.NDArray[np.int32]

_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)
_S32: Final = np.uint64(32)
_S36: Final = np.uint64(36)
_S56: Final = np.uint64(56)
_M32: Final = np.uint64(0xFFFFFFFF)
_M4: Final = np.uint64(0xF)
_COUNT_MASK: Final = np.uint64((1 << 56) - 1)


@compiled(none(U64, U64))
def regrow_identities(old: U64Array, new: U64Array) -> None:
    """Put every identity of `old` (0 is an empty slot) into the empty set `new`."""
    mask = np.uint64(len(new) - 1)
    for e in old:
        if e != _ZERO:
            p = e & mask
            while new[p] != _ZERO:
                p = (p + _ONE) & mask
            new[p] = e


@compiled(none(U64, I32, U64, I32))
def regrow_users(old_keys: U64Array, old_heads: I32Array, new_keys: U64Array, new_heads: I32Array) -> None:
    """Put every user of the old table into the empty new one."""
    mask = np.uint64(len(new_keys) - 1)
    for j in range(len(old_keys)):
        user = old_keys[j]
        if user != _ZERO:
            p = mix(user) & mask
            while new_keys[p] != _ZERO:
                p = (p + _ONE) & mask
            new_keys[p] = user
            new_heads[p] = old_heads[j]


@compiled(none(U64, U64))
def regrow_slots(old: U64Array, new: U64Array) -> None:
    """Put every slot of `old` into the empty table `new`; a slot carries all of the hash that this needs."""
    mask = np.uint64(len(new) - 1)
    for s in old:
        if s != _ZERO:
            p = (s >> _S32) & mask
            while new[p] != _ZERO:
                p = (p + _ONE) & mask
            new[p] = s


@compiled(i64(U64_ROWS, i64, U64_ROWS, U64))
def refill_counters(old: U64Array, count: int, entries: U64Array, slots: U64Array) -> int:
    """Put those of `old[:count]` that are not zero into an empty counter table; return how many there are."""
    mask = np.uint64(len(slots) - 1)
    n = 0
    for j in range(count):
        meta = old[j, 2]
        if meta & _COUNT_MASK == _ZERO:
            continue
        high = key(meta >> _S56, old[j, 0], old[j, 1]) >> _S32
        p = high & mask
        while slots[p] != _ZERO:
            p = (p + _ONE) & mask
        slots[p] = (high << _S32) | np.uint64(n + 1)
        entries[n, 0] = old[j, 0]
        entries[n, 1] = old[j, 1]
        entries[n, 2] = meta
        n += 1
    return n


@compiled(i64(U64, I32, U64_ROWS, U64_ROWS))
def list_history(user_keys: U64Array, user_heads: I32Array, nodes: U64Array, out: U64Array) -> int:
    """Write every user's entries as rows (user, identity, item, session, time and kind), newest first; how many."""
    n = 0
    for j in range(len(user_keys)):
        if user_keys[j] == _ZERO:
            continue
        c = to_int(user_heads[j])
        while c >= 0:
            out[n, 0] = user_keys[j]
            out[n, 1] = nodes[c, 0]
            out[n, 2] = nodes[c, 1]
            out[n, 3] = nodes[c, 2]
            out[n, 4] = nodes[c, 3] >> _S32
            n += 1
            c = to_int(nodes[c, 3] & _M32) - 1
    return n


@compiled(none(U64_ROWS, i64, U64, I32, U64_ROWS, I64))
def refill_history(
    rows: U64Array, count: int, user_keys: U64Array, user_heads: I32Array, nodes: U64Array, fill: I64Array
) -> None:
    """The reverse of `list_history`, into empty tables; the rows of a user stand together, newest first."""
    mask = np.uint64(len(user_keys) - 1)
    for j in range(count - 1, -1, -1):
        user = rows[j, 0]
        p = mix(user) & mask
        while user_keys[p] != user:
            if user_keys[p] == _ZERO:
                user_keys[p] = user
                user_heads[p] = -1
                fill[N_USERS] += 1
                break
            p = (p + _ONE) & mask
        n = fill[N_NODES]
        nodes[n, 0] = rows[j, 1]
        nodes[n, 1] = rows[j, 2]
        nodes[n, 2] = rows[j, 3]
        nodes[n, 3] = (rows[j, 4] << _S32) | np.uint64(to_int(user_heads[p]) + 1)
        user_heads[p] = np.int32(n)
        fill[N_NODES] = n + 1


@inlined
def _rescan_counters(entries: U64Array, count: int, salt: np.uint64, lanes: U64Array, lane: int) -> None:
    for j in range(count):
        k = key(entries[j, 2] >> _S56, entries[j, 0], entries[j, 1])
        times = entries[j, 2] & _COUNT_MASK
        h = mix(k + salt)
        lanes[lane] += h * times
        lanes[lane + 1] += mix(h ^ (k * Q)) * times


@compiled(none(i64, i64, U64, U64_ROWS, i64, U64_ROWS, i64, U64, I32, U64_ROWS, U64))
def rescan(
    bucket: int,
    bucket_ms: int,
    identities: U64Array,
    entries: U64Array,
    entries_count: int,
    answers: U64Array,
    answers_count: int,
    user_keys: U64Array,
    user_heads: I32Array,
    nodes: U64Array,
    lanes: U64Array,
) -> None:
    """Add up the digest lanes of a unit from everything it holds: what the incremental ones must equal."""
    salt = np.uint64(to_int(bucket)) * G
    start = np.uint64(to_int(bucket) * to_int(bucket_ms))
    for e in identities:
        if e != _ZERO:
            h = mix(e + salt)
            lanes[L_IDENTITIES] += h
            lanes[L_IDENTITIES + 1] += mix(h ^ (e * Q))
    _rescan_counters(entries, entries_count, salt, lanes, L_COUNTERS)
    _rescan_counters(answers, answers_count, salt, lanes, L_ANSWERS)
    for j in range(len(user_keys)):
        user = user_keys[j]
        if user == _ZERO:
            continue
        c = to_int(user_heads[j])
        while c >= 0:
            k = key(TAG_HISTORY, user, start + (nodes[c, 3] >> _S36))
            k = mix(k ^ (nodes[c, 0] * G))
            k = mix(k ^ (nodes[c, 1] * P))
            k = mix((k ^ (nodes[c, 2] * Q)) + ((nodes[c, 3] >> _S32) & _M4))
            lanes[L_HISTORY] += k
            lanes[L_HISTORY + 1] += mix(k * Q + user)
            c = to_int(nodes[c, 3] & _M32) - 1


@compiled(i64(U64, I32, U64_ROWS, i64, i64, U64_ROWS, i64, i64))
def read_history(
    user_keys: U64Array,
    user_heads: I32Array,
    nodes: U64Array,
    user: int,
    offset_max: int,
    out: U64Array,
    n: int,
    bucket_start_ms: int,
) -> int:
    """Append to `out[n:]` a user's entries of one bucket as (time, item, kind, identity), newest first.

    Only entries at most `offset_max` ms after the bucket's start. `user` is the uint64 as int64. Returns the new n.
    """
    wanted = np.uint64(to_int(user))
    mask = np.uint64(len(user_keys) - 1)
    p = mix(wanted) & mask
    while user_keys[p] != wanted:
        if user_keys[p] == _ZERO:
            return n
        p = (p + _ONE) & mask
    c = to_int(user_heads[p])
    while c >= 0 and n < len(out):
        offset = to_int(nodes[c, 3] >> _S36)
        if offset <= offset_max:
            out[n, 0] = np.uint64(to_int(bucket_start_ms + offset))
            out[n, 1] = nodes[c, 1]
            out[n, 2] = (nodes[c, 3] >> _S32) & _M4
            out[n, 3] = nodes[c, 0]
            n += 1
        c = to_int(nodes[c, 3] & _M32) - 1
    return n


@compiled(none(U64, U64_ROWS, u64, U64, U64, f64, f64, F64_ROWS))
def add_counters(
    slots: U64Array,
    entries: U64Array,
    tag: np.uint64,
    a: U64Array,
    b: U64Array,
    short: float,
    long: float,
    out: npt.NDArray[np.float64],
) -> None:
    """Add to `out` (k, 3) this unit's counts of each (tag, a[j], b[j]), weighted in the first two lanes."""
    mask = np.uint64(len(slots) - 1)
    for j in range(len(a)):
        high = key(tag, a[j], b[j]) >> _S32
        p = high & mask
        while slots[p] != _ZERO:
            i = to_int(slots[p] & _M32) - 1
            meta = entries[i, 2]
            if slots[p] >> _S32 == high and entries[i, 0] == a[j] and entries[i, 1] == b[j] and meta >> _S56 == tag:
                count = np.float64(meta & _COUNT_MASK)
                out[j, 0] += count * short
                out[j, 1] += count * long
                out[j, 2] += count
                break
            p = (p + _ONE) & mask
