"""One number that two regions agree on exactly when they hold the same state.

Every table of every bucket has two 64-bit lanes: sums, mod 2**64, of hashes of its entries. The fold keeps them as it
goes, so a digest costs microseconds; `audit` computes them again from the tables, which is the check of the
incremental ones. Because lanes are kept apart by bucket and table, two digests that differ can say where.

The digest covers the state, not the frontier: two regions compare it *at* a frontier.
"""

from typing import Final

import msgspec
import numpy as np
import xxhash

from streams.kernels.layout import L_ANSWERS, L_COUNTERS, L_HISTORY, L_IDENTITIES
from streams.state import FOLD_VERSION, CatalogueEntry, Parameters, State, Unit

_U64: Final = (1 << 64) - 1
TABLES: Final[tuple[tuple[str, int], ...]] = (
    ("identities", L_IDENTITIES),
    ("counters", L_COUNTERS),
    ("answers", L_ANSWERS),
    ("history", L_HISTORY),
)
"""The tables of a unit, and where their two lanes stand."""
CATALOGUE: Final = "catalogue"


class TableDigest(msgspec.Struct, frozen=True, order=True):
    """The two lanes of one table; `bucket` is None for the catalogue."""

    table: str
    bucket: int | None
    lanes: tuple[int, int]


class Digest(msgspec.Struct, frozen=True):
    """What a state holds, in a form that can be compared, printed and sent."""

    fold_version: int
    parameters: Parameters
    clock_bucket: int | None
    tables: tuple[TableDigest, ...]
    """In the order of bucket and table, the catalogue first; empty tables are left out."""

    def hex(self) -> str:
        """The digest as 32 hexadecimal digits."""
        return xxhash.xxh3_128_hexdigest(msgspec.msgpack.encode(self))

    def explain(self, other: "Digest") -> str | None:
        """Where two digests differ: the first bucket and table, and how many more; None when they are equal."""
        if self.fold_version != other.fold_version:
            return f"fold version {self.fold_version} against {other.fold_version}: upgrade the older side"
        if self.parameters != other.parameters:
            return f"parameters {self.parameters} against {other.parameters}: both sides need the same"
        mine = {(t.bucket, t.table): t.lanes for t in self.tables}
        theirs = {(t.bucket, t.table): t.lanes for t in other.tables}
        differing = [where for where in mine.keys() | theirs.keys() if mine.get(where) != theirs.get(where)]
        if not differing:
            if self.clock_bucket != other.clock_bucket:
                return f"clock at bucket {self.clock_bucket} against {other.clock_bucket}"
            return None
        bucket, table = min(differing, key=lambda where: (where[0] is not None, where[0] or 0, where[1]))
        place = table if bucket is None else f"bucket {bucket}, table {table}"
        missing = " (empty on one side)" if (bucket, table) not in mine or (bucket, table) not in theirs else ""
        return f"{place} differs{missing}; {len(differing)} of {len(mine.keys() | theirs.keys())} tables differ in all"


def digest(state: State) -> Digest:
    """The digest of a state, from its incremental lanes."""
    tables = [TableDigest(CATALOGUE, None, state.catalogue_lanes)] if any(state.catalogue_lanes) else []
    for bucket in sorted(state.units):
        tables.extend(unit_digest(bucket, state.units[bucket]))
    return Digest(FOLD_VERSION, state.parameters, state.clock_bucket, tuple(tables))


def unit_digest(bucket: int, unit: Unit) -> list[TableDigest]:
    """The lanes of one unit, without empty tables."""
    lanes = unit.lanes.tolist()
    return [
        TableDigest(table, bucket, (lanes[at], lanes[at + 1]))
        for table, at in TABLES
        if lanes[at] != 0 or lanes[at + 1] != 0
    ]


def audit(state: State) -> str | None:
    """Recompute every lane from the tables; say what differs from the incremental ones, or None."""
    for bucket in sorted(state.units):
        unit = state.units[bucket]
        again = unit.rescan(bucket, state.parameters.bucket_ms)
        for table, at in TABLES:
            if (again[at : at + 2] != unit.lanes[at : at + 2]).any():
                kept = unit.lanes[at : at + 2].tolist()
                return f"bucket {bucket}, table {table}: kept {kept}, recomputed {again[at : at + 2].tolist()}"
    total = (0, 0)
    for key, entry in state.catalogue.items():
        total = add_lanes(total, catalogue_lanes(key, entry), 1)
    if total != state.catalogue_lanes:
        return f"catalogue: kept {list(state.catalogue_lanes)}, recomputed {list(total)}"
    return None


def catalogue_lanes(item: int, entry: CatalogueEntry) -> tuple[int, int]:
    """The two lanes of one catalogue entry; `item` is the item's hash."""
    row = np.array([item, entry.time_ms & _U64, entry.identity], np.uint64).tobytes() + entry.body
    whole = xxhash.xxh3_128_intdigest(row)
    return whole & _U64, whole >> 64


def add_lanes(total: tuple[int, int], lanes: tuple[int, int], times: int) -> tuple[int, int]:
    """Add lanes to (or with `times` = -1 take them from) a sum mod 2**64."""
    return (total[0] + times * lanes[0]) & _U64, (total[1] + times * lanes[1]) & _U64
