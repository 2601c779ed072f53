"""Events into state: `state` afterwards is a function of the set of events taken, not of their order.

That is what lets two regions that hold the same logs agree to the last bit, whatever the interleaving, the frame
boundaries, or how late a healed tail arrives, and it is why there is no clock here, no randomness, no I/O and no float.
The rules that make it so:

* identity is the event's content, and lives exactly as long as the bucket of event time it belongs to;
* the clock is the newest bucket with enough distinct events at or after it, so a few events from a broken clock
  cannot move it, and it only ever moves forward as events are added;
* an event counts iff its bucket is inside the one horizon before the clock; leaving the horizon deletes the bucket;
* what several events make together stands in the oldest one's bucket, so that it leaves with it;
* of a user's events the newest N of a bucket are kept, and what was derived from one that leaves is retracted;
* a catalogue entry is the largest (time, identity) ever seen.

A sketch with timers and expiry on arrival order was turned down: it gives every reader a state of its own.
"""

import itertools
from typing import Final, Protocol, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from streams.digest import add_lanes, catalogue_lanes
from streams.errors import DECODE_ERRORS
from streams.frame import Columns
from streams.kernels.fold import count_answer, fold_bucket
from streams.kernels.layout import (
    N_CHANGES,
    N_DUPLICATES,
    N_FOREIGN,
    N_IDENTITIES,
    R_BUCKET,
    ROW_WIDTH,
)
from streams.kernels.rows import open_frame
from streams.position import Verdict, judge
from streams.state import CatalogueEntry, PartitionPoint, State, Unit

_NEVER: Final = -(1 << 61)
"""Stands for the clock and the cut while there is none: older than any bucket of an int64 time."""


_Scalar = TypeVar("_Scalar", bound=np.generic)


class Applied(msgspec.Struct, frozen=True):
    """What one frame, or one batch of frames, did to the state."""

    verdict: Verdict
    events: int = 0
    """Distinct events taken, without those of the catalogue."""
    duplicates: int = 0
    late: int = 0
    """Events before the horizon: counted, not taken."""
    item_events: int = 0
    changed_items: list[int] = []
    """Hashes of the items whose catalogue entry is another one now."""


class Follower(Protocol):
    """What is told about changes, to keep a derived view of the counters (`streams.index`)."""

    def follow(self, bucket: int, changes: npt.NDArray[np.uint64]) -> None:
        """Rows (tag << 8 | up, a, b): counters of this bucket that went up or down by one."""

    def evict(self, bucket: int, unit: Unit) -> None:
        """This bucket is about to be forgotten."""


class _Tombstone(msgspec.Struct):
    deleted: bool = False


_tombstones = msgspec.json.Decoder(_Tombstone)


class Fold:
    """Takes frames into a state, by the reader rule.

    `apply` is for one frame. A replay calls `take` for several small ones, then `flush`: the kernels then run once
    for all of them. Between `take` and `flush` the state must not be read.
    """

    def __init__(self, state: State, index: Follower | None = None) -> None:
        self.state = state
        self.index = index
        self._points: dict[tuple[str, int], PartitionPoint] = {}
        self._span = np.array([1 << 62, -(1 << 62), 0], np.int64)
        worst = 2 * (state.parameters.history_max + 2)
        self._changes = np.empty((max(4096, 4 * worst), 3), np.uint64)
        self._items = np.empty((0, 3), np.uint64)
        self._rows = np.empty((0, ROW_WIDTH), np.uint64)
        self._pending = 0
        self._frames = 0
        self._item_events = 0
        self._changed_items: list[int] = []
        self._reserve(1024)

    @property
    def pending_events(self) -> int:
        """Events taken but not flushed."""
        return self._pending

    def apply(
        self, columns: Columns, log: str, partition: int, offset: int, checksum: int, leader_epoch: int
    ) -> Applied:
        """Take one frame, the record at `offset`. A duplicate or a gap changes nothing; a gap must stop the caller."""
        verdict = self.take(columns, log, partition, offset, checksum, leader_epoch)
        return self.flush() if verdict is Verdict.ACCEPTED else Applied(verdict)

    def take(
        self, columns: Columns, log: str, partition: int, offset: int, checksum: int, leader_epoch: int
    ) -> Verdict:
        """Stage one frame for the next `flush`, when the reader rule accepts it."""
        if judge(self.next_offset(log, partition), offset) is Verdict.ACCEPTED and columns.count:
            # Before the frontier moves: a frame that cannot be opened must not be behind it.
            self._open(columns)
        verdict = self._advance(log, partition, offset, checksum, leader_epoch)
        if verdict is Verdict.ACCEPTED:
            self._frames += 1
        return verdict

    def skip(self, log: str, partition: int, offset: int, checksum: int, leader_epoch: int) -> Verdict:
        """Step over a record that went to the dead log, by the same rule."""
        verdict = self._advance(log, partition, offset, checksum, leader_epoch)
        if verdict is Verdict.ACCEPTED:
            self.state.tally.dead_frames += 1
            if not self._pending:
                self._move_frontier()
        return verdict

    def jump(self, log: str, partition: int, start: int, end: int, checksum: int, leader_epoch: int) -> Verdict:
        """Step over the hole `[start, end)`, which nobody holds, by the same rule."""
        verdict = judge(self.next_offset(log, partition), start, end)
        if verdict is Verdict.ACCEPTED:
            self._points[log, partition] = PartitionPoint(end, checksum, leader_epoch)
            if not self._pending:
                self._move_frontier()
        return verdict

    def next_offset(self, log: str, partition: int) -> int:
        """The next offset that is wanted, staged frames included."""
        point = self._points.get((log, partition))
        return self.state.next_offset(log, partition) if point is None else point.next_offset

    def flush(self) -> Applied:
        """Fold everything that is staged."""
        events = duplicates = late = 0
        if self._pending:
            cut = self.state.cut_bucket
            for bucket, start, stop in self._groups():
                if cut is not None and bucket < cut:
                    late += stop - start
                    continue
                distinct, again = self._fold_bucket(bucket, start, stop, _NEVER if cut is None else cut)
                events += distinct
                duplicates += again
            if self.state.clock_bucket is None or self._span[1] > self.state.clock_bucket:
                self._advance_clock()
        self._move_frontier()
        applied = Applied(Verdict.ACCEPTED, events, duplicates, late, self._item_events, self._changed_items)
        self._count(applied)
        self._span[:] = (1 << 62, -(1 << 62), 0)
        self._pending = self._frames = self._item_events = 0
        self._changed_items = []
        return applied

    def _advance(self, log: str, partition: int, offset: int, checksum: int, leader_epoch: int) -> Verdict:
        verdict = judge(self.next_offset(log, partition), offset)
        if verdict is Verdict.ACCEPTED:
            self._points[log, partition] = PartitionPoint(offset + 1, checksum, leader_epoch)
        return verdict

    def _move_frontier(self) -> None:
        self.state.points.update(self._points)
        self._points.clear()

    def _count(self, applied: Applied) -> None:
        tally = self.state.tally
        tally.frames += self._frames
        tally.events += applied.events
        tally.item_events += applied.item_events
        tally.duplicates += applied.duplicates
        tally.late += applied.late

    def _reserve(self, rows: int) -> None:
        grown = np.empty((rows, ROW_WIDTH), np.uint64)
        if self._pending:
            grown[: self._pending] = self._rows[: self._pending]
        self._rows = grown
        self._foreign = np.empty((rows, 4), np.uint64)
        self._in_order = np.arange(rows, dtype=np.int64)

    def _open(self, columns: Columns) -> None:
        n = columns.count
        if self._pending + n > len(self._rows):
            self._reserve(max(2 * len(self._rows), self._pending + n))
        if n > len(self._items):
            self._items = np.empty((max(n, 256), 3), np.uint64)
        parameters = self.state.parameters
        self._pending += open_frame(
            _aligned(columns.ids),
            _aligned(columns.time_ms),
            _aligned(columns.user),
            _aligned(columns.session),
            columns.kind,
            _aligned(columns.query.offsets),
            columns.query.raw,
            _aligned(columns.query.index),
            _aligned(columns.item.offsets),
            columns.item.raw,
            _aligned(columns.item.index),
            columns.ranking,
            _aligned(columns.position),
            parameters.bucket_ms,
            parameters.position_max,
            self._rows,
            self._pending,
            self._items,
            self._span,
        )
        for row, item, identity in self._items[: int(self._span[2])].tolist():
            self._take_item(columns, row, item, identity)

    def _take_item(self, columns: Columns, row: int, item: int, identity: int) -> None:
        """The newest entry of an item wins, by (time, identity): the order of arrival has no say."""
        self._item_events += 1
        state = self.state
        time_ms = int(columns.time_ms[row])
        known = state.catalogue.get(item)
        if known is not None:
            if (known.time_ms, known.identity) >= (time_ms, identity):
                return
            state.catalogue_lanes = add_lanes(state.catalogue_lanes, catalogue_lanes(item, known), -1)
        body = columns.body(row)
        entry = CatalogueEntry(columns.item.text(row), time_ms, identity, body, _is_tombstone(body))
        state.catalogue[item] = entry
        state.catalogue_lanes = add_lanes(state.catalogue_lanes, catalogue_lanes(item, entry), 1)
        self._changed_items.append(item)

    def _groups(self) -> list[tuple[int, int, int]]:
        """The staged rows by bucket, as (bucket, start, stop) in `self._order`."""
        n = self._pending
        if self._span[0] == self._span[1]:
            self._order = self._in_order
            return [(int(self._span[0]), 0, n)]
        buckets = self._rows[:n, R_BUCKET].astype(np.int64)
        self._order = np.argsort(buckets, kind="stable")
        in_order = buckets[self._order]
        starts = [0, *(np.flatnonzero(np.diff(in_order)) + 1).tolist(), n]
        return [(int(in_order[start]), start, stop) for start, stop in itertools.pairwise(starts)]

    def _fold_bucket(self, bucket: int, start: int, stop: int, cut: int) -> tuple[int, int]:
        """Fold one group; return how many events were new, and how many were not."""
        unit = self._unit(bucket)
        known = unit.events
        parameters = self.state.parameters
        while True:
            start = fold_bucket(
                bucket,
                parameters.bucket_ms,
                cut,
                parameters.history_max,
                self._rows,
                self._order,
                start,
                stop,
                unit.identities,
                unit.slots,
                unit.entries,
                unit.answer_slots,
                unit.answer_entries,
                unit.user_keys,
                unit.user_heads,
                unit.nodes,
                unit.fill,
                unit.lanes,
                self._changes,
                self.index is not None,
                self._foreign,
            )
            if self.index is not None:
                self.index.follow(bucket, self._changes[: unit.fill[N_CHANGES]])
            if unit.fill[N_FOREIGN]:
                self._count_foreign(self._foreign[: unit.fill[N_FOREIGN]].tolist())
            unit.fill[N_CHANGES] = unit.fill[N_FOREIGN] = 0
            if start == stop:
                break
            unit.make_room(parameters.history_max, min(stop - start, 512))
        duplicates = int(unit.fill[N_DUPLICATES])
        unit.fill[N_DUPLICATES] = 0
        return int(unit.fill[N_IDENTITIES]) - known, duplicates

    def _unit(self, bucket: int) -> Unit:
        unit = self.state.units.get(bucket)
        if unit is None:
            unit = self.state.units[bucket] = Unit()
        return unit

    def _count_foreign(self, rows: list[list[int]]) -> None:
        """Count what belongs to rankings of older buckets; the kernel has checked that those still count."""
        for tag, answer, position, served in rows:
            bucket = served if served < 1 << 63 else served - (1 << 64)
            unit = self._unit(bucket)
            unit.room_for_answers(1)
            count_answer(
                bucket,
                unit.answer_slots,
                unit.answer_entries,
                unit.fill,
                unit.lanes,
                np.uint64(tag),
                np.uint64(answer),
                np.uint64(position),
            )

    def _advance_clock(self) -> None:
        """Move the clock to the newest bucket that enough events stand at or after, and forget what fell out."""
        state = self.state
        floor = _NEVER if state.clock_bucket is None else state.clock_bucket
        later = 0
        for bucket in sorted((b for b in state.units if b > floor), reverse=True):
            later += state.units[bucket].events
            if later >= state.parameters.clock_events:
                state.clock_bucket = bucket
                self._evict(bucket - state.parameters.horizon_buckets)
                return

    def _evict(self, cut: int) -> None:
        for bucket in [b for b in self.state.units if b < cut]:
            if self.index is not None:
                self.index.evict(bucket, self.state.units[bucket])
            del self.state.units[bucket]


def _is_tombstone(body: bytes) -> bool:
    try:
        return _tombstones.decode(body).deleted if body else False
    except DECODE_ERRORS:
        return False


def _aligned(array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    """The array itself, as a rule; a copy when a foreign encoder put a buffer at an odd address."""
    return array if array.flags.aligned else array.copy()
