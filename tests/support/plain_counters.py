"""Counters kept the slow and obvious way, for tests of ranking that should not need the fold.

Lanes as in the real index: half-lives of 8 and 40 buckets, and undecayed; but nothing ever leaves the horizon.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.counters import U64, Counts

BUCKET_MS = 21_600_000
_HALF_LIVES = np.array([8.0, 40.0])


@dataclass(frozen=True)
class PlainHistory:
    """A user's newest events, newest first."""

    time_ms: npt.NDArray[np.int64]
    item: U64
    kind: npt.NDArray[np.uint8]


class _Lanes:
    __slots__ = ("bucket", "long", "short", "undecayed")

    def __init__(self) -> None:
        self.short = self.long = self.undecayed = 0.0
        self.bucket = 0

    def decayed(self, bucket: int) -> tuple[float, float, float]:
        age = bucket - self.bucket
        return self.short * 0.5 ** (age / 8), self.long * 0.5 ** (age / 40), self.undecayed

    def add(self, bucket: int, weight: float) -> None:
        now = max(bucket, self.bucket)
        short, long, undecayed = self.decayed(now)
        late = now - bucket
        self.short = short + weight * 0.5 ** (late / 8)
        self.long = long + weight * 0.5 ** (late / 40)
        self.undecayed = undecayed + weight
        self.bucket = now


class PlainCounters:
    """Takes clicks and searches, answers reads; one object is index and view at once."""

    def __init__(self) -> None:
        self._query: dict[int, dict[int, _Lanes]] = defaultdict(lambda: defaultdict(_Lanes))
        self._item: dict[int, list[_Lanes]] = defaultdict(lambda: [_Lanes() for _ in range(4)])
        self._co: dict[int, dict[int, _Lanes]] = defaultdict(lambda: defaultdict(_Lanes))
        self._popular: dict[int, _Lanes] = defaultdict(_Lanes)
        self._history: dict[int, list[tuple[int, int, int, int]]] = defaultdict(list)
        self._at_ms = 0

    def take(self, kind: int, time_ms: int, user: int, session: int = 0, query: int = 0, item: int = 0) -> None:
        """Count one event; kinds as in `streams.kinds`."""
        bucket = time_ms // BUCKET_MS
        if 1 <= kind <= 4:
            self._item[item][kind - 1].add(bucket, 1.0)
            self._popular[item].add(bucket, {1: 1.0, 2: 4.0, 3: 10.0, 4: 0.0}[kind])
        if kind == 1:
            if query:
                self._query[query][item].add(bucket, 1.0)
            for _, other, other_kind, other_session in self._history[user][-20:]:
                if other_kind == 1 and other_session == session and other != item:
                    self._co[item][other].add(bucket, 1.0)
                    self._co[other][item].add(bucket, 1.0)
        self._history[user].append((time_ms, item if kind else query, kind, session))

    def read(self, at_ms: int) -> "PlainCounters":
        """The view as of a moment."""
        self._at_ms = at_ms
        return self

    def _best(self, table: dict[int, _Lanes], limit: int) -> tuple[U64, Counts]:
        bucket = self._at_ms // BUCKET_MS
        found = sorted(((-lanes.decayed(bucket)[0], item) for item, lanes in table.items()))[:limit]
        items = np.array([item for _, item in found], np.uint64)
        return items, self._counts(table, items)

    def _counts(self, table: dict[int, _Lanes], items: U64) -> Counts:
        bucket = self._at_ms // BUCKET_MS
        counts = np.zeros((len(items), 3))
        if not table:
            return counts
        for place, item in enumerate(items.tolist()):
            lanes = table.get(item)
            if lanes is not None:
                counts[place] = lanes.decayed(bucket)
        return counts

    def query_items(self, q: int, limit: int) -> tuple[U64, Counts]:
        return self._best(self._query.get(q, {}), limit)

    def query_item_counts(self, q: int, items: U64) -> Counts:
        return self._counts(self._query.get(q, {}), items)

    def item_counts(self, items: U64) -> Counts:
        bucket = self._at_ms // BUCKET_MS
        counts = np.zeros((len(items), 4, 3))
        for place, item in enumerate(items.tolist()):
            for kind, lanes in enumerate(self._item.get(item, ())):
                if lanes.undecayed:
                    counts[place, kind] = lanes.decayed(bucket)
        return counts

    def co_items(self, item: int, limit: int) -> tuple[U64, Counts]:
        return self._best(self._co.get(item, {}), limit)

    def co_counts(self, anchors: U64, items: U64) -> Counts:
        counts = np.zeros((len(items), 3))
        for anchor in anchors.tolist():
            counts += self._counts(self._co.get(anchor, {}), items)
        return counts

    def popular(self, limit: int) -> tuple[U64, Counts]:
        return self._best(self._popular, limit)

    def history(self, user: int, limit: int = 20) -> PlainHistory:
        newest = [event for event in self._history.get(user, ()) if event[0] <= self._at_ms][-limit:][::-1]
        return PlainHistory(
            np.array([event[0] for event in newest], np.int64),
            np.array([event[1] for event in newest], np.uint64),
            np.array([event[2] for event in newest], np.uint8),
        )
