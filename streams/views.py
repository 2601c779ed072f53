"""What can be asked of the counters and histories as of one moment, and the slow, obvious way to answer.

Counts come in three lanes: decayed with a short half-life, with a long one, and undecayed. Decay goes by buckets: at
a moment in bucket A, an event of bucket b weighs w(b) / w(A), where w doubles every half-life. The weights are rounded
to 20 binary digits, so that sums of them are exact in a float64: then a sum does not depend on its order, what is
added can be taken away again without a trace, and the derived index and a walk over all buckets agree to the last bit.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from streams.kernels import tables
from streams.kernels.cells import LANE_COUNT, POPULAR_WEIGHTS
from streams.kernels.index_read import best
from streams.kernels.layout import (
    N_ANSWERS,
    N_COUNTERS,
    TAG_ANSWER_CLICK,
    TAG_FEEDBACK,
    TAG_IMPRESSION,
    TAG_ITEM_KIND,
    TAG_PAIR,
    TAG_QUERY_ITEM,
    TAG_SERVED,
)
from streams.state import State, Unit

U64Array = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.float64]

SHORT: Final = 0
LONG: Final = 1
UNDECAYED: Final = 2
"""Lanes: the last axis of all counts."""
HALF_LIVES_BUCKETS: Final = (8, 40)
"""Of the short and the long lane: 2 and 10 days with buckets of 6 hours."""

_MANTISSAS: Final = tuple(
    tuple((np.round(2.0 ** (np.arange(h) / h) * (1 << 20)) / (1 << 20)).tolist()) for h in HALF_LIVES_BUCKETS
)
_NO_BOUNDS: Final = np.empty(0)
BUCKETS_APART_MAX: Final = 4000
"""A moment further than this after the newest bucket reads as if it were this far: all is forgotten equally."""


def weight(lane: int, buckets: int) -> float:
    """How much an event weighs in a lane (SHORT or LONG), `buckets` after the one where it would weigh 1."""
    halvings, place = divmod(buckets, HALF_LIVES_BUCKETS[lane])
    return math.ldexp(_MANTISSAS[lane][place], halvings)


class History(msgspec.Struct, frozen=True):
    """The newest events of a user, newest first; arrays of shape (n,)."""

    time_ms: npt.NDArray[np.int64]
    item: U64Array
    """Hash of the item; of the query for a search."""
    kind: npt.NDArray[np.uint8]
    """`streams.kinds.Kind`."""


class AnswerCounts(msgspec.Struct, frozen=True):
    """What became of the rankings of one model version, arm and rung."""

    model_tag: int
    """See `streams.asks.model_tag`."""
    arm: int
    rung: int
    served: int
    impressions: int
    feedback: int
    clicks_by_position: tuple[int, ...]
    """Clicks at each 1-based position; place 0 counts those that did not name one, the last those beyond it."""

    @property
    def click_rate(self) -> float:
        """Clicks a served ranking (CTR); 0.0 when none was served."""
        return sum(self.clicks_by_position) / self.served if self.served else 0.0

    @property
    def reciprocal_rank(self) -> float:
        """Mean over served rankings of the sum of 1 / position of their clicks: online MRR with single clicks."""
        total = sum(n / place for place, n in enumerate(self.clicks_by_position) if place)
        return total / self.served if self.served else 0.0


class View(Protocol):
    """The counters and histories as of `at_ms`.

    Counters know whole buckets, up to the one of `at_ms`; histories know nothing later than `at_ms`. A view is to be
    read in the thread that folds, before the next frame is folded.
    """

    at_ms: int

    def query_items(self, q: int, limit: int) -> tuple[U64Array, Counts]:
        """Items clicked for a query, best first by the short lane: hashes (m,) and clicks (m, 3)."""

    def query_item_counts(self, q: int, items: U64Array) -> Counts:
        """Clicks for a query on each of k items: (k, 3)."""

    def item_counts(self, items: U64Array) -> Counts:
        """Clicks, carts, purchases and views of each of k items: (k, 4, 3)."""

    def co_items(self, item: int, limit: int) -> tuple[U64Array, Counts]:
        """Items clicked in one session with this one, best first by the short lane: hashes (m,), pairs (m, 3)."""

    def co_counts(self, anchors: U64Array, items: U64Array) -> Counts:
        """How often each of k items was clicked in one session with the anchors, summed over them: (k, 3)."""

    def popular(self, limit: int) -> tuple[U64Array, Counts]:
        """The items with the most clicks, carts, purchases and views (1 : 4 : 10 : 1/4), by the short lane."""

    def history(self, user: int, limit: int = 20) -> History:
        """The user's newest events."""

    def answers(self) -> list[AnswerCounts]:
        """Served rankings and clicks on them, by model version, arm and rung; undecayed, within the horizon."""


def ranked(items: U64Array, lanes: Counts, limit: int) -> tuple[U64Array, Counts]:
    """The best `limit` of m items: by the short lane, then the long one, the undecayed one, and the item's number.

    The full order makes the answer a function of the counts alone, not of where they happen to stand.
    """
    if limit < 1:
        return items[:0], lanes[:0]
    if len(items) > 4 * limit:
        places = np.empty(len(items), np.int64)
        places = places[: best(np.ascontiguousarray(lanes[:, SHORT]), _NO_BOUNDS, len(items), limit, places)]
        if len(places) >= limit:
            items, lanes = items[places], lanes[places]
    order = np.lexsort((items, -lanes[:, UNDECAYED], -lanes[:, LONG], -lanes[:, SHORT]))[:limit]
    return items[order], lanes[order]


def read_history(state: State, buckets: Iterable[int], user: int, at_ms: int, limit: int) -> History:
    """The newest `limit` events of a user in these buckets (newest first), none of them later than `at_ms`."""
    bucket_ms = state.parameters.bucket_ms
    out = np.empty((max(limit, 0), 4), np.uint64)
    n = 0
    for bucket in buckets:
        unit = state.units.get(bucket)
        start_ms = bucket * bucket_ms
        if unit is None or start_ms > at_ms or not user:
            continue
        if n >= limit:
            break
        offset_max = at_ms - start_ms
        signed = user - (1 << 64) if user >= 1 << 63 else user
        n = tables.read_history(unit.user_keys, unit.user_heads, unit.nodes, signed, offset_max, out, n, start_ms)
    return History(out[:n, 0].astype(np.int64), out[:n, 1].copy(), out[:n, 2].astype(np.uint8))


def read_answers(units: Iterable[Unit], position_max: int) -> list[AnswerCounts]:
    """Counts by ranking, summed over units."""
    sums: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    clicks: dict[int, list[int]] = defaultdict(lambda: [0] * (position_max + 1))
    for unit in units:
        for answer, place, meta in unit.answer_entries[: unit.fill[N_ANSWERS]].tolist():
            tag, count = meta >> 56, meta & (1 << 56) - 1
            sums[answer][tag] += count
            if tag == int(TAG_ANSWER_CLICK):
                clicks[answer][place] += count
    return [
        AnswerCounts(
            model_tag=answer >> 16,
            arm=answer >> 8 & 0xFF,
            rung=answer & 0xFF,
            served=sums[answer][int(TAG_SERVED)],
            impressions=sums[answer][int(TAG_IMPRESSION)],
            feedback=sums[answer][int(TAG_FEEDBACK)],
            clicks_by_position=tuple(clicks[answer]),
        )
        for answer in sorted(sums)
    ]


class ExactView:
    """A view straight from the units, for moments that the index has passed, and to hold the index against."""

    def __init__(self, state: State, at_ms: int) -> None:
        self.at_ms = at_ms
        self._state = state
        self._bucket = at_ms // state.parameters.bucket_ms
        self._units = [(b, state.units[b]) for b in sorted(state.units, reverse=True) if b <= self._bucket]
        newest = self._units[0][0] if self._units else self._bucket
        self._base = newest // 40 * 40
        self._scale = np.array([*self._weights(min(self._bucket, newest + BUCKETS_APART_MAX)), 1.0])

    def query_items(self, q: int, limit: int) -> tuple[U64Array, Counts]:
        """See `View`."""
        return self._best_of(int(TAG_QUERY_ITEM), lambda e: (e[e[:, 0] == q], 1), limit)

    def query_item_counts(self, q: int, items: U64Array) -> Counts:
        """See `View`."""
        return self._counts(TAG_QUERY_ITEM, np.full(len(items), q, np.uint64), items)

    def item_counts(self, items: U64Array) -> Counts:
        """See `View`."""
        by_kind = [self._counts(TAG_ITEM_KIND, items, np.full(len(items), k, np.uint64)) for k in range(1, 5)]
        return np.stack(by_kind, axis=1)

    def co_items(self, item: int, limit: int) -> tuple[U64Array, Counts]:
        """See `View`."""

        def others(entries: U64Array) -> tuple[U64Array, int]:
            mine = entries[(entries[:, 0] == item) | (entries[:, 1] == item)]
            mine[:, 1] = np.where(mine[:, 0] == item, mine[:, 1], mine[:, 0])
            return mine, 1

        return self._best_of(int(TAG_PAIR), others, limit)

    def co_counts(self, anchors: U64Array, items: U64Array) -> Counts:
        """See `View`."""
        total = np.zeros((len(items), LANE_COUNT))
        for anchor in anchors:
            total += self._counts(TAG_PAIR, np.minimum(items, anchor), np.maximum(items, anchor))
        return total

    def popular(self, limit: int) -> tuple[U64Array, Counts]:
        """See `View`."""
        return self._best_of(int(TAG_ITEM_KIND), lambda e: (e, 0), limit, by_kind=True)

    def history(self, user: int, limit: int = 20) -> History:
        """See `View`."""
        return read_history(self._state, (b for b, _ in self._units), user, self.at_ms, limit)

    def answers(self) -> list[AnswerCounts]:
        """See `View`."""
        return read_answers((unit for _, unit in self._units), self._state.parameters.position_max)

    def _weights(self, bucket: int) -> tuple[float, float]:
        return weight(SHORT, bucket - self._base), weight(LONG, bucket - self._base)

    def _counts(self, tag: np.uint64, a: U64Array, b: U64Array) -> Counts:
        out = np.zeros((len(a), LANE_COUNT))
        for bucket, unit in self._units:
            tables.add_counters(unit.slots, unit.entries, tag, a, b, *self._weights(bucket), out)
        out /= self._scale
        return out

    def _best_of(
        self,
        tag: int,
        select: Callable[[U64Array], tuple[U64Array, int]],
        limit: int,
        *,
        by_kind: bool = False,
    ) -> tuple[U64Array, Counts]:
        sums: dict[int, npt.NDArray[np.float64]] = defaultdict(lambda: np.zeros(LANE_COUNT))
        for bucket, unit in self._units:
            entries = unit.entries[: unit.fill[N_COUNTERS]]
            chosen, column = select(entries[entries[:, 2] >> np.uint64(56) == tag])
            lanes = np.array([*self._weights(bucket), 1.0])
            for row in chosen.tolist():
                times = float(POPULAR_WEIGHTS[row[1] - 1]) if by_kind else 1.0
                sums[row[column]] += (row[2] & (1 << 56) - 1) * times * lanes
        live = {item: lanes for item, lanes in sums.items() if lanes[SHORT if by_kind else UNDECAYED] > 0.0}
        items = np.fromiter(live, np.uint64, len(live))
        lanes = np.array(list(live.values())).reshape(len(live), LANE_COUNT)
        return ranked(items, lanes / self._scale, limit)
