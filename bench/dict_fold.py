"""The peer: the same counting with Python's own dicts and lists, as fast as that can be written.

It decodes with Arrow's own conversions, keys counters by tuples, keeps histories as short lists, and leaves out what
the fold does besides: no digest, no retraction of pairs, no reader rule.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable

import pyarrow as pa

from streams.kinds import Kind


class DictFold:
    """Counters and histories by bucket."""

    def __init__(self, bucket_ms: int, history_max: int) -> None:
        self.bucket_ms = bucket_ms
        self.history_max = history_max
        self.seen: dict[int, set[bytes]] = defaultdict(set)
        self.counters: dict[int, dict[tuple[object, ...], int]] = defaultdict(lambda: defaultdict(int))
        self.history: dict[int, dict[int, list[tuple[int, bytes, str, int, int]]]] = defaultdict(
            lambda: defaultdict(list)
        )

    def fold_all(self, values: Iterable[bytes]) -> None:
        """Take frames."""
        for value in values:
            self.fold(value)

    def fold(self, value: bytes) -> None:  # noqa: C901 - one flat loop is what makes it fast
        """Take one frame."""
        batch = pa.ipc.open_stream(value).read_next_batch()
        columns = [column.to_pylist() for column in batch.columns[:9]]
        bucket_ms, history_max = self.bucket_ms, self.history_max
        for e, t, user, session, kind, query, item, ranking, place in zip(*columns, strict=True):
            bucket = t // bucket_ms
            seen = self.seen[bucket]
            if e in seen:
                continue
            seen.add(e)
            counters = self.counters[bucket]
            if kind == Kind.SERVED:
                counters[4, ranking[6:12]] += 1
                continue
            if kind == Kind.CLICK:
                counters[1, query, item] += 1
                if any(ranking):
                    served = int.from_bytes(ranking[:6], "big") // bucket_ms
                    self.counters[served][5, ranking[6:12], min(place, 20)] += 1
            if kind != Kind.SEARCH:
                counters[2, item, kind] += 1
            entries = self.history[bucket][user]
            if kind == Kind.CLICK:
                for _, _, other, its_session, its_kind in entries:
                    if its_session == session and its_kind == Kind.CLICK and other != item:
                        counters[(3, other, item) if other < item else (3, item, other)] += 1
            insort(entries, (t, e, query if kind == Kind.SEARCH else item, session, kind))
            if len(entries) > history_max:
                del entries[0]
