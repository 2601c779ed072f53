"""A derived index over the counters, so that features of 200 candidates cost one look-up each instead of one a bucket.

It stands outside the state and its digest: it can be thrown away and rebuilt at any time, and a bulk replay does
without it. Each counter is kept as a sum of forward-decayed weights (Cormode et al., "Forward decay", 2009): an event's
weight grows with its own bucket instead of shrinking with age, so nothing has to be touched as time passes and a read
divides by the weight of the moment. `streams.views` says why those sums are exact.

The index holds the buckets up to an anchor, the newest moment that was read. Later buckets (a few events from clocks
that run ahead) wait outside until a read reaches them. A read before the anchor takes the newest buckets out again if
they are small, and otherwise the slow, exact way over all buckets.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from streams.index_tables import IndexTables
from streams.kernels import index_read, index_write
from streams.kernels.cells import KIND_LANES, LANE_COUNT, N_ITEMS, POPULAR_WEIGHTS
from streams.kernels.layout import N_COUNTERS, N_USERS, TAG_PAIR, TAG_QUERY_ITEM
from streams.state import State, Unit
from streams.views import (
    BUCKETS_APART_MAX,
    LONG,
    SHORT,
    AnswerCounts,
    Counts,
    ExactView,
    History,
    U64Array,
    View,
    ranked,
    read_answers,
    read_history,
    weight,
)

_NEVER: Final = -(1 << 61)
_BASE_STEP: Final = 40
_STRIDE_MAX: Final = 112
"""The anchor moves over at most this many buckets at once: sums of weights further apart would not be exact."""
SMALL_COUNTERS_MAX: Final = 20_000
"""Up to this many counters are taken out, or built anew, for one read; above, that read goes the exact way."""


class ReadIndex:
    """Follows a fold (`Fold(state, index)`) and answers reads as of a moment."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._tables = IndexTables()
        self._anchor = _NEVER
        self._base = 0
        self._waiting: set[int] = set()
        self._scratch = _Scratch()
        self.exact_reads = 0
        """Reads so far that had to take the exact way."""
        self.rebuild()

    def read(self, at_ms: int) -> View:
        """A view as of `at_ms`."""
        bucket = at_ms // self._state.parameters.bucket_ms
        if not (self._reaches(bucket) if bucket >= self._anchor else self._steps_back_to(bucket)):
            self.exact_reads += 1
            return ExactView(self._state, at_ms)
        reads_as = min(bucket, self._anchor + BUCKETS_APART_MAX) if self._anchor != _NEVER else self._base
        return IndexView(self._state, self._tables, self._scratch, at_ms, reads_as - self._base)

    def rebuild(self, at_ms: int | None = None) -> None:
        """Build everything again from the state, as of `at_ms` (default: the fold's clock)."""
        if at_ms is None:
            clock = self._state.clock_bucket
            bucket = _NEVER if clock is None else clock
        else:
            bucket = at_ms // self._state.parameters.bucket_ms
        self._rebuild(bucket)

    def follow(self, bucket: int, changes: npt.NDArray[np.uint64]) -> None:
        """See `streams.fold.Follower`."""
        self._note_users(bucket, changes)
        if bucket > self._anchor:
            self._waiting.add(bucket)
            return
        weights = self._weights(bucket)
        at, stop = 0, len(changes)
        while True:
            at = index_write.add_changes(changes, at, stop, *weights, *self._tables.counters())
            if at == stop:
                break
            self._tables.make_room(stop - at)

    def evict(self, bucket: int, unit: Unit) -> None:
        """See `streams.fold.Follower`."""
        if bucket > self._anchor:
            self._waiting.discard(bucket)
        else:
            self._add_unit(bucket, unit, -1.0)

    def nbytes(self) -> int:
        """Memory of the index."""
        return self._tables.nbytes()

    def _rebuild(self, anchor: int) -> bool:
        self._tables = IndexTables()
        self._waiting = set()
        within = [b for b in self._state.units if b <= anchor]
        self._anchor = max(within, default=_NEVER)
        self._base = 0 if self._anchor == _NEVER else self._anchor // _BASE_STEP * _BASE_STEP
        entries = sum(int(unit.fill[N_USERS]) for unit in self._state.units.values())
        self._tables.make_room_for_users(entries // 2, _NEVER)
        for bucket in sorted(self._state.units):
            unit = self._state.units[bucket]
            self._add_users(bucket, unit)
            if bucket <= self._anchor:
                self._add_unit(bucket, unit, 1.0)
            else:
                self._waiting.add(bucket)
        return True

    def _weights(self, bucket: int) -> tuple[float, float]:
        return weight(SHORT, bucket - self._base), weight(LONG, bucket - self._base)

    def _reaches(self, bucket: int) -> bool:
        """Take in the waiting buckets up to `bucket`; say whether the index now holds all of them."""
        due = sorted(b for b in self._waiting if b <= bucket) if self._waiting else None
        if not due:
            return True
        clock = self._state.cut_bucket
        trusted = max(self._anchor, _NEVER if clock is None else clock + self._state.parameters.horizon_buckets)
        if self._anchor == _NEVER or due[-1] - self._base > BUCKETS_APART_MAX or due[-1] > trusted + _STRIDE_MAX:
            # A weight so much larger would swallow the sums that are there.
            return self._rebuild_if_small(bucket) if due[-1] > trusted + _STRIDE_MAX else self._rebuild(bucket)
        for later in due:
            self._waiting.discard(later)
            self._add_unit(later, self._state.units[later], 1.0)
        self._anchor = max(self._anchor, due[-1])
        return True

    def _steps_back_to(self, bucket: int) -> bool:
        """Take the buckets after `bucket` out again, if that is little work; say whether it was done."""
        if self._anchor - bucket > _STRIDE_MAX:
            return self._rebuild_if_small(bucket)
        units = self._state.units
        later = [b for b in units if bucket < b <= self._anchor]
        if sum(int(units[b].fill[N_COUNTERS]) for b in later) > SMALL_COUNTERS_MAX:
            return False
        for b in later:
            self._add_unit(b, units[b], -1.0)
            self._waiting.add(b)
        self._anchor = max((b for b in units if b <= bucket), default=_NEVER)
        return True

    def _rebuild_if_small(self, bucket: int) -> bool:
        if sum(int(unit.fill[N_COUNTERS]) for unit in self._state.units.values()) > SMALL_COUNTERS_MAX:
            return False
        return self._rebuild(bucket)

    def _add_unit(self, bucket: int, unit: Unit, sign: float) -> None:
        weights = self._weights(bucket)
        at, stop = 0, int(unit.fill[N_COUNTERS])
        while True:
            at = index_write.add_entries(unit.entries, at, stop, sign, *weights, *self._tables.counters())
            if at == stop:
                break
            self._tables.make_room(min(stop - at, 65_536))

    def _add_users(self, bucket: int, unit: Unit) -> None:
        at, stop = 0, len(unit.user_keys)
        while True:
            at = index_write.add_users(unit.user_keys, at, bucket, *self._tables.users())
            if at == stop:
                break
            self._tables.make_room_for_users(min(stop - at, 65_536), self._oldest())

    def _note_users(self, bucket: int, changes: npt.NDArray[np.uint64]) -> None:
        at, stop = 0, len(changes)
        while True:
            at = index_write.add_user_changes(changes, at, stop, bucket, *self._tables.users())
            if at == stop:
                break
            self._tables.make_room_for_users(stop - at, self._oldest())

    def _oldest(self) -> int:
        cut = self._state.cut_bucket
        return _NEVER if cut is None else cut


class _Scratch:
    """Room that reads of chains share."""

    def __init__(self) -> None:
        self.found: U64Array = np.empty(0, np.uint64)
        self.lanes: Counts = np.empty((0, LANE_COUNT))
        self.places = np.empty(0, np.int64)
        self.buckets = np.empty(64, np.int64)
        self.reserve(1024)

    def reserve(self, room: int) -> None:
        """Make room for chains of this length; what was read before is lost."""
        self.found = np.empty(room, np.uint64)
        self.lanes = np.empty((room, LANE_COUNT))
        self.places = np.empty(room, np.int64)


class IndexView:
    """A view that reads the index; see `streams.views.View`."""

    def __init__(self, state: State, tables: IndexTables, scratch: _Scratch, at_ms: int, since_base: int) -> None:
        self.at_ms = at_ms
        self._state = state
        self._tables = tables
        self._scratch = scratch
        self._bucket = at_ms // state.parameters.bucket_ms
        self._short = weight(SHORT, since_base)
        self._long = weight(LONG, since_base)
        self._scale = np.array([self._short, self._long, 1.0])

    def query_items(self, q: int, limit: int) -> tuple[U64Array, Counts]:
        """See `View`."""
        return self._chain(TAG_QUERY_ITEM, q, limit)

    def query_item_counts(self, q: int, items: U64Array) -> Counts:
        """See `View`."""
        t = self._tables
        out = np.empty((len(items), LANE_COUNT))
        index_read.read_query_items(
            np.uint64(q), items, self._short, self._long, t.cell_slots, t.cell_keys, t.cell_links, t.cell_lanes, out
        )
        return out

    def item_counts(self, items: U64Array) -> Counts:
        """See `View`."""
        t = self._tables
        out = np.empty((len(items), KIND_LANES))
        index_read.read_items(items, self._short, self._long, t.item_slots, t.item_keys, t.item_lanes, out)
        return out.reshape(len(items), KIND_LANES // LANE_COUNT, LANE_COUNT)

    def co_items(self, item: int, limit: int) -> tuple[U64Array, Counts]:
        """See `View`."""
        return self._chain(TAG_PAIR, item, limit)

    def co_counts(self, anchors: U64Array, items: U64Array) -> Counts:
        """See `View`."""
        t = self._tables
        out = np.zeros((len(items), LANE_COUNT))
        index_read.read_pairs(
            anchors,
            items,
            t.cell_slots,
            t.cell_keys,
            t.cell_links,
            t.cell_lanes,
            t.item_slots,
            t.item_keys,
            t.item_heads,
            out,
        )
        out /= self._scale
        return out

    def popular(self, limit: int) -> tuple[U64Array, Counts]:
        """See `View`."""
        t, places = self._tables, self._scratch.places
        count = int(t.fill[N_ITEMS])
        n = index_read.best(t.item_popular, t.item_bounds, count, max(limit, 1), places)
        if n > len(places):
            self._scratch.reserve(n)
            places = self._scratch.places
            n = index_read.best(t.item_popular, t.item_bounds, count, max(limit, 1), places)
        lanes = t.item_lanes[places[:n]].reshape(n, KIND_LANES // LANE_COUNT, LANE_COUNT)
        return ranked(t.item_keys[places[:n]], np.einsum("k,nkl->nl", POPULAR_WEIGHTS, lanes) / self._scale, limit)

    def history(self, user: int, limit: int = 20) -> History:
        """See `View`."""
        t, scratch = self._tables, self._scratch
        while True:
            n = index_read.user_buckets(
                np.uint64(user), t.user_slots, t.user_keys, t.user_heads, t.user_nodes, scratch.buckets
            )
            if n < len(scratch.buckets):
                return read_history(self._state, scratch.buckets[:n].tolist(), user, self.at_ms, limit)
            scratch.buckets = np.empty(2 * n, np.int64)

    def answers(self) -> list[AnswerCounts]:
        """See `View`."""
        units = (unit for bucket, unit in self._state.units.items() if bucket <= self._bucket)
        return read_answers(units, self._state.parameters.position_max)

    def _chain(self, tag: np.uint64, of: int, limit: int) -> tuple[U64Array, Counts]:
        t = self._tables
        while True:
            found, lanes = self._scratch.found, self._scratch.lanes
            n = index_read.walk(
                tag,
                np.uint64(of),
                t.cell_keys,
                t.cell_links,
                t.cell_lanes,
                t.item_slots,
                t.item_keys,
                t.item_heads,
                t.query_slots,
                t.query_keys,
                t.query_heads,
                found,
                lanes,
            )
            if n <= len(found):
                return ranked(found[:n].copy(), lanes[:n] / self._scale, limit)
            self._scratch.reserve(2 * n)
