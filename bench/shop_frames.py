"""Frames of a busy shop, made column by column: packing events one at a time would take longer than folding them.

Zipf-like users, items and queries over `days`; a fifth searches, half clicks, some carts, purchases and views, a tenth
served rankings, a third of the clicks on one; one in a hundred events comes late, one in a hundred comes twice.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streams.frame import SCHEMA
from streams.kinds import Kind

START_MS = 1_700_000_000_000
DAY_MS = 86_400_000
QUERIES = np.array([f"query number {n} x" for n in range(50_000)])
ITEMS = np.array([f"{1_000_000 + n}" for n in range(100_000)])
USERS = 1_000_000
KINDS = (Kind.SEARCH, Kind.CLICK, Kind.CART, Kind.PURCHASE, Kind.VIEW, Kind.SERVED)
SHARES = (0.2, 0.5, 0.04, 0.02, 0.14, 0.1)

Ints = npt.NDArray[np.int64]


def zipf(g: np.random.Generator, size: int, n: int, exponent: float = 1.05) -> Ints:
    """Make n draws from 0..size-1, small ones far more often."""
    shares = np.cumsum(1 / np.arange(1, size + 1) ** exponent)
    return np.searchsorted(shares / shares[-1], g.random(n)).astype(np.int64)


def _mixed(x: Ints) -> npt.NDArray[np.uint64]:
    h = x.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    h ^= h >> np.uint64(29)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    return h ^ (h >> np.uint64(32))


USER_NUMBERS = _mixed(np.arange(1, USERS + 1))


class Shop:
    """The columns of n events, in the order in which they arrive."""

    def __init__(self, events: int, days: float = 40.0, seed: int = 1) -> None:
        g = np.random.default_rng(seed)
        n = events - events // 100
        time_ms = START_MS + (np.sort(g.random(n)) * days * DAY_MS).astype(np.int64)
        query = zipf(g, len(QUERIES), n)
        item = (zipf(g, len(ITEMS), n) + query * 7) % len(ITEMS)
        user = USER_NUMBERS[zipf(g, USERS, n, 0.8)]
        session = _mixed((user ^ (time_ms // 1_800_000).astype(np.uint64)).astype(np.int64))
        kind = g.choice(np.array(KINDS, np.uint8), n, p=SHARES)
        ids = g.integers(0, 256, (n, 16), np.uint8)
        ranking = g.integers(0, 256, (n, 16), np.uint8)
        ranking[:, 6:8] %= 3
        ranking[:, 8:12] = 7
        served = time_ms - g.integers(0, 60_000, n)
        for byte in range(6):
            ranking[:, byte] = (served >> (8 * (5 - byte))) & 255
        with_ranking = (kind == Kind.SERVED) | ((kind == Kind.CLICK) & (g.random(n) < 0.3))
        ranking[~with_ranking] = 0
        place = np.where(with_ranking & (kind == Kind.CLICK), g.integers(1, 30, n), 0).astype(np.uint16)
        arrival = np.arange(n, dtype=np.float64)
        late = g.random(n) < 0.01
        arrival[late] += g.random(int(late.sum())) * min(200_000, n / 4)
        again = g.integers(0, n, events - n)
        order = np.concatenate([np.arange(n), again])
        order = order[np.argsort(np.concatenate([arrival, again + g.random(len(again)) * 50_000]), kind="stable")]
        self.time_ms, self.user, self.session, self.kind = time_ms[order], user[order], session[order], kind[order]
        self.query, self.item, self.ids, self.ranking = query[order], item[order], ids[order], ranking[order]
        self.place = place[order]

    def __len__(self) -> int:
        return len(self.time_ms)

    def frames(self, frame_events: int) -> Iterator[bytes]:
        """The values of Kafka records."""
        for start in range(0, len(self), frame_events):
            yield self._frame(slice(start, min(start + frame_events, len(self))))

    def _frame(self, part: slice) -> bytes:
        kind = self.kind[part]
        n = len(kind)
        has_query = (kind == Kind.SEARCH) | (kind == Kind.CLICK)
        has_item = (kind != Kind.SEARCH) & (kind != Kind.SERVED)
        batch = pa.record_batch(
            [
                _fixed(self.ids[part]),
                pa.array(self.time_ms[part]),
                pa.array(self.user[part]),
                pa.array(self.session[part]),
                pa.array(kind),
                _strings(np.where(has_query, self.query[part], -1), QUERIES),
                _strings(np.where(has_item, self.item[part], -1), ITEMS),
                _fixed(self.ranking[part]),
                pa.array(self.place[part]),
                pa.array([b""] * n, pa.binary()),
            ],
            schema=SCHEMA,
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, SCHEMA) as writer:
            writer.write_batch(batch)
        return bytes(sink.getvalue())


def _fixed(rows: npt.NDArray[np.uint8]) -> pa.Array:
    raw = pa.py_buffer(np.ascontiguousarray(rows).tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(rows), [None, raw])


def _strings(index: Ints, names: npt.NDArray[np.str_]) -> pa.DictionaryArray:
    values, places = np.unique(index, return_inverse=True)
    texts = ["" if v < 0 else str(names[v]) for v in values]
    return pa.DictionaryArray.from_arrays(pa.array(places.astype(np.int16)), pa.array(texts, pa.utf8()))
