"""Opening a frame: its columns become rows of numbers, with strings hashed and times put into buckets.

Rows of several frames are written one behind the other into the same array, so that a replay can fold many small
frames in one go. A string is hashed once a frame, straight from the dictionary's buffers.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from streams.kernels.compile import (
    I16_VIEW,
    I32_VIEW,
    I64,
    I64_VIEW,
    U8_ROWS_VIEW,
    U8_VIEW,
    U16_VIEW,
    U64_ROWS,
    U64_ROWS_VIEW,
    U64_VIEW,
    compiled,
    i64,
    to_int,
)
from streams.kernels.layout import (
    ITEM,
    NO_BUCKET,
    R_ANSWER,
    R_BUCKET,
    R_IDENTITY,
    R_ITEM,
    R_KIND,
    R_POSITION,
    R_QUERY,
    R_SERVED,
    R_SESSION,
    R_TIME,
    R_USER,
)
from streams.kernels.mix import hash_bytes, identity64

U64Array = npt.NDArray[np.uint64]
I64Array = npt.NDArray[np.int64]
I32Array = npt.NDArray[np.int32]

_ZERO: Final = np.uint64(0)
_S8: Final = np.uint64(8)
_S16: Final = np.uint64(16)


@compiled(
    i64(
        U64_ROWS_VIEW, I64_VIEW, U64_VIEW, U64_VIEW, U8_VIEW,
        I32_VIEW, U8_VIEW, I16_VIEW, I32_VIEW, U8_VIEW, I16_VIEW,
        U8_ROWS_VIEW, U16_VIEW, i64, i64, U64_ROWS, i64, U64_ROWS, I64,
    )
)  # fmt: skip
def open_frame(
    ids: U64Array,
    time_ms: I64Array,
    user: U64Array,
    session: U64Array,
    kind: npt.NDArray[np.uint8],
    query_offsets: I32Array,
    query_raw: npt.NDArray[np.uint8],
    query_index: npt.NDArray[np.int16],
    item_offsets: I32Array,
    item_raw: npt.NDArray[np.uint8],
    item_index: npt.NDArray[np.int16],
    ranking: npt.NDArray[np.uint8],
    position: npt.NDArray[np.uint16],
    bucket_ms: int,
    position_max: int,
    rows: U64Array,
    at: int,
    items: U64Array,
    span: I64Array,
) -> int:
    """Write the frame's events as rows from `rows[at]` on; return how many.

    Catalogue events do not become rows: `items` gets (place in the frame, item, identity) of each, `span[2]` their
    number. `span[0]`, `span[1]` are widened to the lowest and highest bucket seen.
    """
    queries = np.empty(len(query_offsets) - 1, np.uint64)
    for j in range(len(queries)):
        queries[j] = hash_bytes(query_raw, query_offsets[j], query_offsets[j + 1], 1)
    names = np.empty(len(item_offsets) - 1, np.uint64)
    for j in range(len(names)):
        names[j] = hash_bytes(item_raw, item_offsets[j], item_offsets[j + 1], 0)
    n = at
    m = 0
    for j in range(len(time_ms)):
        e = identity64(ids[j, 0], ids[j, 1])
        if kind[j] == ITEM:
            items[m, 0] = np.uint64(j)
            items[m, 1] = names[item_index[j]]
            items[m, 2] = e
            m += 1
            continue
        bucket = time_ms[j] // bucket_ms
        rows[n, R_IDENTITY] = e
        rows[n, R_TIME] = np.uint64(time_ms[j])
        rows[n, R_USER] = user[j]
        rows[n, R_SESSION] = session[j]
        rows[n, R_KIND] = np.uint64(kind[j])
        rows[n, R_QUERY] = queries[query_index[j]]
        rows[n, R_ITEM] = names[item_index[j]]
        rows[n, R_BUCKET] = np.uint64(bucket)
        place = to_int(position[j])
        rows[n, R_POSITION] = np.uint64(min(place, position_max))
        served = _ZERO
        for k in range(6):
            served = (served << _S8) | np.uint64(ranking[j, k])
        answer = _ZERO
        for k in range(8, 12):
            answer = (answer << _S8) | np.uint64(ranking[j, k])
        answer = (answer << _S16) | (np.uint64(ranking[j, 6]) << _S8) | np.uint64(ranking[j, 7])
        unique = _ZERO
        for k in range(12, 16):
            unique |= np.uint64(ranking[j, k])
        rows[n, R_ANSWER] = answer
        if served == _ZERO and answer == _ZERO and unique == _ZERO:
            rows[n, R_SERVED] = np.uint64(np.int64(NO_BUCKET))
        else:
            rows[n, R_SERVED] = np.uint64(np.int64(served) // bucket_ms)
        span[0] = min(span[0], bucket)
        span[1] = max(span[1], bucket)
        n += 1
    span[2] = m
    return n - at
