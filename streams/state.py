"""What is known from the events that were seen: one unit of tables for each bucket of event time, and the catalogue.

State is a function of the *set* of events inside the horizon. Everything that expires lives in the unit of one bucket,
so forgetting is deleting a unit, and a snapshot writes only the units that changed. The frontier stands inside the
state: whoever holds a state knows exactly which records it has seen. The alternative, a key-value store with
expiry per key, would need a clock to expire by, and clocks differ between regions.
"""

from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from streams.kernels import tables
from streams.kernels.layout import (
    FILL_WIDTH,
    FREE_NODE,
    LANES,
    N_ANSWERS,
    N_CHANGES,
    N_COUNTERS,
    N_FOREIGN,
    N_IDENTITIES,
    N_NODES,
    N_USERS,
    N_ZERO_COUNTERS,
)
from streams.position import Frontier

FOLD_VERSION: Final = 1
"""Changes with anything that would give the same log another digest."""

U64Array = npt.NDArray[np.uint64]
I64Array = npt.NDArray[np.int64]
I32Array = npt.NDArray[np.int32]


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What the fold is a function of, besides the events. Two states compare only under equal parameters."""

    bucket_ms: int = 21_600_000
    """Width of a bucket of event time (6 hours)."""
    horizon_buckets: int = 112
    """How many buckets before the clock's are kept (28 days)."""
    clock_events: int = 1000
    """How many distinct events must stand at or after a bucket before the clock reaches it."""
    history_max: int = 20
    """How many events a user's history keeps in each bucket."""
    position_max: int = 20
    """Clicks further down a ranking count at this position."""

    def __post_init__(self) -> None:
        if not 1000 <= self.bucket_ms < 1 << 28:
            raise ValueError(f"bucket_ms is {self.bucket_ms}; it must be at least 1000 and below {1 << 28}")
        if self.horizon_buckets < 1 or self.clock_events < 1 or self.position_max < 1:
            raise ValueError("horizon_buckets, clock_events and position_max must be at least 1")
        if not 1 <= self.history_max <= 1000:
            raise ValueError(f"history_max is {self.history_max}; it must be in 1..1000")


class PartitionPoint(msgspec.Struct, frozen=True):
    """How far one partition of one log has been taken, and by what its last record can be recognised."""

    next_offset: int
    last_checksum: int
    """Of the record at `next_offset - 1`; see `logs.record_checksum`."""
    last_leader_epoch: int
    """-1 when the client library did not say."""


class CatalogueEntry(msgspec.Struct, frozen=True):
    """The newest that is known of an item."""

    item: str
    time_ms: int
    identity: int
    """64 bits of the event's identity; with the time it decides which of two entries is newer."""
    body: bytes
    """Canonical JSON, as the event brought it."""
    deleted: bool


class Tally(msgspec.Struct):
    """Counts since the log's start. They depend on the order of arrival: metrics, no part of the digest."""

    frames: int = 0
    events: int = 0
    """Distinct events taken, without those of the catalogue."""
    item_events: int = 0
    duplicates: int = 0
    late: int = 0
    """Events before the horizon."""
    dead_frames: int = 0


class Unit:
    """The tables of one bucket; `kernels.fold` says how they work."""

    __slots__ = (
        "answer_entries",
        "answer_slots",
        "entries",
        "fill",
        "identities",
        "lanes",
        "nodes",
        "slots",
        "user_heads",
        "user_keys",
    )

    def __init__(self) -> None:
        self.identities: U64Array = np.zeros(64, np.uint64)
        self.slots: U64Array = np.zeros(64, np.uint64)
        self.entries: U64Array = np.empty((48, 3), np.uint64)
        self.answer_slots: U64Array = np.zeros(16, np.uint64)
        self.answer_entries: U64Array = np.empty((12, 3), np.uint64)
        self.user_keys: U64Array = np.zeros(32, np.uint64)
        self.user_heads: I32Array = np.full(32, -1, np.int32)
        self.nodes: U64Array = np.empty((32, 4), np.uint64)
        self.fill: I64Array = np.zeros(FILL_WIDTH, np.int64)
        self.fill[FREE_NODE] = -1
        self.lanes: U64Array = np.zeros(LANES, np.uint64)

    @property
    def events(self) -> int:
        """Distinct events of this bucket."""
        return int(self.fill[N_IDENTITIES])

    def make_room(self, history_max: int, ahead: int) -> None:
        """Grow whatever could not take `ahead` more events, each of them touching up to `history_max + 2` counters."""
        worst = history_max + 2
        fill = self.fill
        if int(fill[N_IDENTITIES]) + ahead >= len(self.identities) * 2 // 3:
            grown = np.zeros(slots_for(int(fill[N_IDENTITIES]) + ahead), np.uint64)
            tables.regrow_identities(self.identities, grown)
            self.identities = grown
        self._room_for_counters(2 * ahead + worst)
        self.room_for_answers(ahead)
        if int(fill[N_USERS]) + ahead >= len(self.user_keys) * 2 // 3:
            size = slots_for(int(fill[N_USERS]) + ahead)
            keys, heads = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
            tables.regrow_users(self.user_keys, self.user_heads, keys, heads)
            self.user_keys, self.user_heads = keys, heads
        if int(fill[N_NODES]) + ahead > len(self.nodes):
            self.nodes = _longer(self.nodes, int(fill[N_NODES]), ahead)
        fill[N_CHANGES] = fill[N_FOREIGN] = 0

    def room_for_answers(self, ahead: int) -> None:
        """Grow the table of counts by ranking, should it not be able to take `ahead` more."""
        count = int(self.fill[N_ANSWERS])
        if count + ahead >= min(len(self.answer_slots) * 2 // 3, len(self.answer_entries)):
            slots = np.zeros(slots_for(count + ahead), np.uint64)
            tables.regrow_slots(self.answer_slots, slots)
            self.answer_slots = slots
            self.answer_entries = _longer(self.answer_entries, count, ahead)

    def _room_for_counters(self, ahead: int) -> None:
        count = int(self.fill[N_COUNTERS])
        if count + ahead < len(self.entries) and count + ahead < len(self.slots) * 2 // 3:
            return
        live = count - int(self.fill[N_ZERO_COUNTERS])
        if live * 4 < count * 3:
            # A quarter counts zero (retracted pairs): leave those behind instead of growing around them.
            slots = np.zeros(slots_for(live + ahead), np.uint64)
            entries = np.empty(((live + ahead) * 5 // 4 + 16, 3), np.uint64)
            self.fill[N_COUNTERS] = tables.refill_counters(self.entries, count, entries, slots)
            self.fill[N_ZERO_COUNTERS] = 0
            self.slots, self.entries = slots, entries
            return
        if count + ahead >= len(self.entries):
            self.entries = _longer(self.entries, count, ahead)
        if count + ahead >= len(self.slots) * 2 // 3:
            slots = np.zeros(slots_for(count + ahead), np.uint64)
            tables.regrow_slots(self.slots, slots)
            self.slots = slots

    def rescan(self, bucket: int, bucket_ms: int) -> U64Array:
        """The digest lanes, recomputed from everything the unit holds."""
        lanes = np.zeros(LANES, np.uint64)
        tables.rescan(
            bucket,
            bucket_ms,
            self.identities,
            self.entries,
            int(self.fill[N_COUNTERS]),
            self.answer_entries,
            int(self.fill[N_ANSWERS]),
            self.user_keys,
            self.user_heads,
            self.nodes,
            lanes,
        )
        return lanes

    def nbytes(self) -> int:
        """Memory of the tables."""
        arrays = (getattr(self, name) for name in self.__slots__)
        return sum(int(array.nbytes) for array in arrays)


def slots_for(count: int) -> int:
    """A power of two of slots that `count` fill by at most two thirds, with room to double."""
    size = 64
    while size * 2 // 3 <= count + 1:
        size *= 2
    return size


def _longer(array: U64Array, used: int, ahead: int) -> U64Array:
    grown = np.empty((max(used + ahead + 1, len(array) * 3 // 2), array.shape[1]), np.uint64)
    grown[:used] = array[:used]
    return grown


@dataclass(slots=True)
class State:
    """Everything that the fold knows. Only `streams.fold` changes it."""

    parameters: Parameters = field(default_factory=Parameters)
    units: dict[int, Unit] = field(default_factory=dict)
    """By bucket number: `time_ms // bucket_ms`."""
    clock_bucket: int | None = None
    """The newest bucket such that it and later ones hold `clock_events` distinct events; None before that."""
    catalogue: dict[int, CatalogueEntry] = field(default_factory=dict)
    """By item hash; exempt from the horizon."""
    catalogue_lanes: tuple[int, int] = (0, 0)
    points: dict[tuple[str, int], PartitionPoint] = field(default_factory=dict)
    """By (log, partition)."""
    tally: Tally = field(default_factory=Tally)

    @property
    def frontier(self) -> Frontier:
        """The next offset of every log and partition."""
        return Frontier({key: point.next_offset for key, point in self.points.items()})

    @property
    def cut_bucket(self) -> int | None:
        """The oldest bucket that still counts; None while there is no clock."""
        return None if self.clock_bucket is None else self.clock_bucket - self.parameters.horizon_buckets

    def next_offset(self, log: str, partition: int) -> int:
        """The next offset that is wanted from a partition."""
        point = self.points.get((log, partition))
        return 0 if point is None else point.next_offset

    def retained_events(self) -> int:
        """Distinct events inside the horizon, without those of the catalogue."""
        return sum(unit.events for unit in self.units.values())

    def nbytes(self) -> int:
        """Memory of all units; the catalogue is not counted."""
        return sum(unit.nbytes() for unit in self.units.values())
