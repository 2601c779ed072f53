"""The inner loops of the fold: open a frame into rows, and take one bucket's rows into the tables of that bucket.

Every table is open-addressed. Counters live in a dense array of entries (what is counted, how often) with a table of
slots beside it; a slot holds 32 bits of the key's hash and the entry's place, so probing rarely touches an entry and
a snapshot writes only the dense part. A user's history is a chain of nodes, newest first.

Each change adds to or subtracts from the digest lanes of its table: a sum mod 2**64 does not know in which order it
was made, which is the whole point.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from streams.kernels.compile import I32, I64, U64, U64_ROWS, compiled, i64, inlined, none, to_int, u64
from streams.kernels.layout import (
    CLICK,
    FEEDBACK,
    FREE_NODE,
    IMPRESSION,
    L_ANSWERS,
    L_COUNTERS,
    L_HISTORY,
    L_IDENTITIES,
    N_ANSWERS,
    N_CHANGES,
    N_COUNTERS,
    N_DUPLICATES,
    N_FOREIGN,
    N_IDENTITIES,
    N_NODES,
    N_USERS,
    N_ZERO_COUNTERS,
    NO_BUCKET,
    R_ANSWER,
    R_IDENTITY,
    R_ITEM,
    R_KIND,
    R_POSITION,
    R_QUERY,
    R_SERVED,
    R_SESSION,
    R_TIME,
    R_USER,
    SEARCH,
    SERVED,
    TAG_ANSWER_CLICK,
    TAG_FEEDBACK,
    TAG_HISTORY,
    TAG_IMPRESSION,
    TAG_ITEM_KIND,
    TAG_PAIR,
    TAG_QUERY_ITEM,
    TAG_SERVED,
    TAG_USER,
    VIEW,
)
from streams.kernels.mix import G, P, Q, key, mix

U64Array = npt.NDArray[np.uint64]
I64Array = npt.NDArray[np.int64]
I32Array = npt.NDArray[np.int32]

_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)
_S8: Final = np.uint64(8)
_S16: Final = np.uint64(16)
_S32: Final = np.uint64(32)
_S36: Final = np.uint64(36)
_S56: Final = np.uint64(56)
_M32: Final = np.uint64(0xFFFFFFFF)
_M4: Final = np.uint64(0xF)
_COUNT_MASK: Final = np.uint64((1 << 56) - 1)


@inlined
def _bump(
    slots: U64Array,
    entries: U64Array,
    fill: I64Array,
    level: int,
    tag: np.uint64,
    a: np.uint64,
    b: np.uint64,
    up: int,
    lanes: U64Array,
    lane: int,
    bucket_salt: np.uint64,
) -> None:
    """Count one more (`up` = 1) or one less (0) of (tag, a, b), in the table and in its two digest lanes."""
    k = key(tag, a, b)
    mask = np.uint64(len(slots) - 1)
    high = k >> _S32
    p = high & mask
    meta = tag << _S56
    while True:
        s = slots[p]
        if s == _ZERO:
            i = fill[level]
            fill[level] = i + 1
            slots[p] = (high << _S32) | np.uint64(i + 1)
            entries[i, 0] = a
            entries[i, 1] = b
            entries[i, 2] = meta
            fill[N_ZERO_COUNTERS] += 1
            break
        if s >> _S32 == high:
            i = to_int(s & _M32) - 1
            if entries[i, 0] == a and entries[i, 1] == b and (entries[i, 2] & ~_COUNT_MASK) == meta:
                break
        p = (p + _ONE) & mask
    h = mix(k + bucket_salt)
    h2 = mix(h ^ (k * Q))
    if up != 0:
        if entries[i, 2] == meta:
            fill[N_ZERO_COUNTERS] -= 1
        entries[i, 2] += _ONE
        lanes[lane] += h
        lanes[lane + 1] += h2
    else:
        entries[i, 2] -= _ONE
        if entries[i, 2] == meta:
            fill[N_ZERO_COUNTERS] += 1
        lanes[lane] -= h
        lanes[lane + 1] -= h2


@inlined
def _history_lanes(user: np.uint64, time: np.uint64, node: U64Array, kind: np.uint64, up: int, lanes: U64Array) -> None:
    """Add (`up` = 1) or take away (0) one entry of a user's history from its two digest lanes."""
    k = key(TAG_HISTORY, user, time)
    k = mix(k ^ (node[0] * G))
    k = mix(k ^ (node[1] * P))
    k = mix((k ^ (node[2] * Q)) + kind)
    h2 = mix(k * Q + user)
    if up != 0:
        lanes[L_HISTORY] += k
        lanes[L_HISTORY + 1] += h2
    else:
        lanes[L_HISTORY] -= k
        lanes[L_HISTORY + 1] -= h2


@inlined
def _change(changes: U64Array, fill: I64Array, tag: np.uint64, up: int, a: np.uint64, b: np.uint64) -> None:
    n = fill[N_CHANGES]
    changes[n, 0] = (tag << _S8) | np.uint64(up)
    changes[n, 1] = a
    changes[n, 2] = b
    fill[N_CHANGES] = n + 1


@inlined
def _pairs_with(
    node: int,
    new: int,
    up: int,
    head: int,
    nodes: U64Array,
    slots: U64Array,
    entries: U64Array,
    fill: I64Array,
    lanes: U64Array,
    bucket_salt: np.uint64,
    changes: U64Array,
    emit: int,
) -> None:
    """Count (or retract) the pairs that the click in `node` makes with the other clicks of its session in the chain.

    `new` is left out: an entry that has just come in has made no pairs yet.
    """
    item = nodes[node, 1]
    session = nodes[node, 2]
    w = head
    while w >= 0:
        other = nodes[w, 1]
        if (
            w != new  # noqa: PLR1714 - numba compiles two comparisons, not a set
            and w != node
            and nodes[w, 2] == session
            and ((nodes[w, 3] >> _S32) & _M4) == np.uint64(CLICK)
            and other != item
        ):
            low = min(other, item)
            high = max(other, item)
            _bump(slots, entries, fill, N_COUNTERS, TAG_PAIR, low, high, up, lanes, L_COUNTERS, bucket_salt)
            if emit != 0:
                _change(changes, fill, TAG_PAIR, up, low, high)
        w = to_int(nodes[w, 3] & _M32) - 1


@inlined
def _seen(identities: U64Array, e: np.uint64, fill: I64Array, lanes: U64Array, salt: np.uint64) -> bool:
    """Whether the bucket knows this identity already; if not, it does from now on."""
    mask = np.uint64(len(identities) - 1)
    p = e & mask
    while identities[p] != _ZERO:
        if identities[p] == e:
            return True
        p = (p + _ONE) & mask
    identities[p] = e
    fill[N_IDENTITIES] += 1
    h = mix(e + salt)
    lanes[L_IDENTITIES] += h
    lanes[L_IDENTITIES + 1] += mix(h ^ (e * Q))
    return False


@inlined
def _user_slot(user_keys: U64Array, user_heads: I32Array, user: np.uint64, fill: I64Array) -> np.uint64:
    """The slot of a user (not 0), made when it is not there yet."""
    mask = np.uint64(len(user_keys) - 1)
    p = mix(user) & mask
    while user_keys[p] != user:
        if user_keys[p] == _ZERO:
            user_keys[p] = user
            user_heads[p] = -1
            fill[N_USERS] += 1
            break
        p = (p + _ONE) & mask
    return p


@inlined
def _new_node(nodes: U64Array, fill: I64Array) -> int:
    """A node that nothing uses."""
    new: int = fill[FREE_NODE]
    if new >= 0:
        fill[FREE_NODE] = to_int(nodes[new, 3] & _M32) - 1
    else:
        new = fill[N_NODES]
        fill[N_NODES] = new + 1
    return new


@inlined
def _drop_oldest(
    after: int,
    steps: int,
    new: int,
    head: int,
    user: np.uint64,
    start_ms: int,
    nodes: U64Array,
    slots: U64Array,
    entries: U64Array,
    fill: I64Array,
    lanes: U64Array,
    bucket_salt: np.uint64,
    changes: U64Array,
    emit: int,
) -> None:
    """Unlink the node that stands `steps` + 1 places behind `after`, if there is one, with the pairs that it made."""
    before = to_int(after)
    oldest = to_int(nodes[before, 3] & _M32) - 1
    while oldest >= 0 and steps > 0:
        before = oldest
        oldest = to_int(nodes[before, 3] & _M32) - 1
        steps -= 1
    if oldest < 0:
        return
    nodes[before, 3] = nodes[before, 3] & ~_M32
    kind = (nodes[oldest, 3] >> _S32) & _M4
    _history_lanes(user, (nodes[oldest, 3] >> _S36) + np.uint64(to_int(start_ms)), nodes[oldest], kind, 0, lanes)
    if kind == np.uint64(CLICK):
        _pairs_with(oldest, new, 0, head, nodes, slots, entries, fill, lanes, bucket_salt, changes, emit)
    nodes[oldest, 3] = np.uint64(fill[FREE_NODE] + 1)
    fill[FREE_NODE] = oldest


@inlined
def _remember(
    row: U64Array,
    start_ms: int,
    history_max: int,
    slots: U64Array,
    entries: U64Array,
    user_keys: U64Array,
    user_heads: I32Array,
    nodes: U64Array,
    fill: I64Array,
    lanes: U64Array,
    bucket_salt: np.uint64,
    changes: U64Array,
    emit: int,
) -> None:
    """Put an event into its user's history, keep the newest `history_max`, and count the pairs of clicks it makes."""
    user = row[R_USER]
    users = fill[N_USERS]
    p = _user_slot(user_keys, user_heads, user, fill)
    if emit != 0 and fill[N_USERS] > users:
        _change(changes, fill, TAG_USER, 1, user, _ZERO)
    kind = row[R_KIND]
    e = row[R_IDENTITY]
    since = row[R_TIME] - np.uint64(to_int(start_ms))
    cur = to_int(user_heads[p])
    prev = to_int(-1)
    place = 0
    while cur >= 0:
        other = nodes[cur, 3] >> _S36
        if other < since or (other == since and nodes[cur, 0] < e):
            break
        prev = cur
        cur = to_int(nodes[cur, 3] & _M32) - 1
        place += 1
    if place >= history_max:
        return
    new = _new_node(nodes, fill)
    nodes[new, 0] = e
    nodes[new, 1] = row[R_QUERY] if kind == np.uint64(SEARCH) else row[R_ITEM]
    nodes[new, 2] = row[R_SESSION]
    nodes[new, 3] = (since << _S36) | (kind << _S32) | np.uint64(cur + 1)
    if prev < 0:
        user_heads[p] = np.int32(new)
    else:
        nodes[prev, 3] = (nodes[prev, 3] & ~_M32) | np.uint64(new + 1)
    _history_lanes(user, row[R_TIME], nodes[new], kind, 1, lanes)
    head = to_int(user_heads[p])
    _drop_oldest(
        new, history_max - 1 - place, new, head, user, start_ms, nodes, slots, entries, fill, lanes, bucket_salt,
        changes, emit,
    )  # fmt: skip
    if kind == np.uint64(CLICK):
        _pairs_with(new, new, 1, head, nodes, slots, entries, fill, lanes, bucket_salt, changes, emit)


@inlined
def _answer_tag(kind: np.uint64) -> np.uint64:
    """Under which tag an event counts for the ranking that it names; 0 for none."""
    if kind == np.uint64(CLICK):
        return TAG_ANSWER_CLICK
    if kind == np.uint64(SERVED):
        return TAG_SERVED
    if kind == np.uint64(IMPRESSION):
        return TAG_IMPRESSION
    if kind == np.uint64(FEEDBACK):
        return TAG_FEEDBACK
    return _ZERO


@compiled(
    i64(
        i64, i64, i64, i64, U64_ROWS, I64, i64, i64, U64, U64, U64_ROWS, U64, U64_ROWS,
        U64, I32, U64_ROWS, I64, U64, U64_ROWS, i64, U64_ROWS,
    )
)  # fmt: skip
def fold_bucket(  # noqa: C901 - the rules of the fold, one after the other
    bucket: int,
    bucket_ms: int,
    cut: int,
    history_max: int,
    rows: U64Array,
    order: I64Array,
    start: int,
    stop: int,
    identities: U64Array,
    slots: U64Array,
    entries: U64Array,
    answer_slots: U64Array,
    answer_entries: U64Array,
    user_keys: U64Array,
    user_heads: I32Array,
    nodes: U64Array,
    fill: I64Array,
    lanes: U64Array,
    changes: U64Array,
    emit: int,
    foreign: U64Array,
) -> int:
    """Take `rows[order[start:stop]]`, all of this bucket, into its tables.

    Returns where it stopped: before `stop` when a table has no room for one more event in the worst case. The caller
    makes room and calls again. `foreign` gets (tag, answer, position, bucket) of what counts in an older bucket,
    `changes` what the read index has to follow (when `emit` is set).
    """
    salt = np.uint64(to_int(bucket)) * G
    start_ms = bucket * bucket_ms
    worst = history_max + 2
    identities_max = len(identities) * 2 // 3
    entries_max = min(len(entries), len(slots) * 2 // 3) - worst
    answers_max = min(len(answer_entries), len(answer_slots) * 2 // 3)
    users_max = len(user_keys) * 2 // 3
    changes_max = len(changes) - 2 * worst
    for j in range(start, stop):
        if (
            fill[N_IDENTITIES] >= identities_max
            or fill[N_COUNTERS] >= entries_max
            or fill[N_ANSWERS] >= answers_max
            or fill[N_USERS] >= users_max
            or fill[N_NODES] >= len(nodes)
            or (emit != 0 and fill[N_CHANGES] >= changes_max)
        ):
            return j
        row = rows[order[j]]
        if _seen(identities, row[R_IDENTITY], fill, lanes, salt):
            fill[N_DUPLICATES] += 1
            continue
        kind = row[R_KIND]
        tag = _answer_tag(kind)
        served = to_int(row[R_SERVED])
        if tag != _ZERO and served >= cut and served <= bucket and served != NO_BUCKET:
            place = row[R_POSITION] if tag == TAG_ANSWER_CLICK else _ZERO
            if served == bucket:
                _bump(
                    answer_slots, answer_entries, fill, N_ANSWERS, tag, row[R_ANSWER], place, 1, lanes, L_ANSWERS, salt
                )
            else:
                n = fill[N_FOREIGN]
                foreign[n, 0] = tag
                foreign[n, 1] = row[R_ANSWER]
                foreign[n, 2] = place
                foreign[n, 3] = np.uint64(served)
                fill[N_FOREIGN] = n + 1
        if kind > np.uint64(VIEW):
            continue
        if kind == np.uint64(CLICK) and row[R_QUERY] != _ZERO:
            _bump(
                slots, entries, fill, N_COUNTERS, TAG_QUERY_ITEM, row[R_QUERY], row[R_ITEM], 1, lanes, L_COUNTERS, salt
            )
            if emit != 0:
                _change(changes, fill, TAG_QUERY_ITEM, 1, row[R_QUERY], row[R_ITEM])
        if kind != np.uint64(SEARCH):
            _bump(slots, entries, fill, N_COUNTERS, TAG_ITEM_KIND, row[R_ITEM], kind, 1, lanes, L_COUNTERS, salt)
            if emit != 0:
                _change(changes, fill, TAG_ITEM_KIND, 1, row[R_ITEM], kind)
        if row[R_USER] != _ZERO:
            _remember(
                row, start_ms, history_max, slots, entries, user_keys, user_heads, nodes, fill, lanes, salt,
                changes, emit,
            )  # fmt: skip
    return stop


@compiled(none(i64, U64, U64_ROWS, I64, U64, u64, u64, u64))
def count_answer(
    bucket: int,
    answer_slots: U64Array,
    answer_entries: U64Array,
    fill: I64Array,
    lanes: U64Array,
    tag: np.uint64,
    answer: np.uint64,
    place: np.uint64,
) -> None:
    """Count one event for a ranking that was served in this (older) bucket. The caller has made room."""
    salt = np.uint64(to_int(bucket)) * G
    _bump(answer_slots, answer_entries, fill, N_ANSWERS, tag, answer, place, 1, lanes, L_ANSWERS, salt)
