"""What a snapshot's files hold: one file of Arrow streams for each bucket, and one for the catalogue.

A file's name carries the digest lanes of its content, so the same content always has the same name: which units have
to be written again is a question of names, and no dirty flag can be forgotten. Only what counts is written (no empty
slots); tables are filled again when a snapshot is opened, and every lane is recomputed from what was read.
"""

import io
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from streams.digest import add_lanes, catalogue_lanes
from streams.hashing import item_hash
from streams.kernels import tables
from streams.kernels.layout import FREE_NODE, N_ANSWERS, N_COUNTERS, N_IDENTITIES, N_NODES
from streams.state import FOLD_VERSION, CatalogueEntry, State, Unit, slots_for

U64Array = npt.NDArray[np.uint64]

_COUNT_MASK: Final = np.uint64((1 << 56) - 1)
_TAG_SHIFT: Final = np.uint64(56)
_IDENTITIES: Final = pa.schema([("identity", pa.uint64())])
_COUNTERS: Final = pa.schema([("tag", pa.uint8()), ("a", pa.uint64()), ("b", pa.uint64()), ("count", pa.uint64())])
_HISTORY: Final = pa.schema(
    [
        ("user", pa.uint64()),
        ("identity", pa.uint64()),
        ("item", pa.uint64()),
        ("session", pa.uint64()),
        ("since_ms", pa.uint32()),
        ("kind", pa.uint8()),
    ]
)
_CATALOGUE: Final = pa.schema(
    [
        ("item", pa.utf8()),
        ("time_ms", pa.int64()),
        ("identity", pa.uint64()),
        ("body", pa.binary()),
        ("deleted", pa.bool_()),
    ]
)


class FrozenUnit(msgspec.Struct, frozen=True):
    """Copies of what a unit holds, for a writer in another thread."""

    name: str
    identities: U64Array
    entries: U64Array
    answers: U64Array
    user_keys: U64Array
    user_heads: npt.NDArray[np.int32]
    nodes: U64Array
    history_count: int


def unit_name(bucket: int, unit: Unit) -> str:
    """The file of a unit with exactly this content."""
    content = np.array([FOLD_VERSION], np.uint64).tobytes() + unit.lanes.tobytes()
    return f"unit-{bucket}-{xxhash.xxh3_128_hexdigest(content)}.arrow"


def catalogue_name(state: State) -> str:
    """The file of a catalogue with exactly this content."""
    return f"catalogue-{state.catalogue_lanes[0]:016x}{state.catalogue_lanes[1]:016x}.arrow"


def freeze_unit(name: str, unit: Unit) -> FrozenUnit:
    """Copy a unit's tables as they stand."""
    nodes = int(unit.fill[N_NODES])
    return FrozenUnit(
        name=name,
        identities=unit.identities.copy(),
        entries=unit.entries[: unit.fill[N_COUNTERS]].copy(),
        answers=unit.answer_entries[: unit.fill[N_ANSWERS]].copy(),
        user_keys=unit.user_keys.copy(),
        user_heads=unit.user_heads.copy(),
        nodes=unit.nodes[:nodes].copy(),
        history_count=nodes,
    )


def encode_unit(unit: FrozenUnit) -> bytes:
    """The bytes of a unit's file: four Arrow streams, one behind the other."""
    rows = np.empty((unit.history_count, 5), np.uint64)
    rows = rows[: tables.list_history(unit.user_keys, unit.user_heads, unit.nodes, rows)]
    packed = rows[:, 4]
    sink = io.BytesIO()
    _write(sink, _IDENTITIES, [unit.identities[unit.identities != 0]])
    for entries in (unit.entries, unit.answers):
        live = entries[(entries[:, 2] & _COUNT_MASK) != 0]
        meta = live[:, 2]
        _write(sink, _COUNTERS, [(meta >> _TAG_SHIFT).astype(np.uint8), live[:, 0], live[:, 1], meta & _COUNT_MASK])
    since = (packed >> np.uint64(4)).astype(np.uint32)
    kinds = (packed & np.uint64(15)).astype(np.uint8)
    _write(sink, _HISTORY, [rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3], since, kinds])
    return sink.getvalue()


def decode_unit(raw: bytes, bucket: int, bucket_ms: int) -> Unit:
    """Fill a unit from its file. Raises pa.ArrowException or ValueError for anything else than such a file."""
    source = pa.BufferReader(raw)
    unit = Unit()
    (identities,) = _read(source, _IDENTITIES)
    unit.identities = np.zeros(slots_for(len(identities)), np.uint64)
    tables.regrow_identities(identities, unit.identities)
    unit.fill[N_IDENTITIES] = len(identities)
    unit.entries, unit.slots = _counter_table(_read(source, _COUNTERS))
    unit.fill[N_COUNTERS] = len(unit.entries)
    unit.answer_entries, unit.answer_slots = _counter_table(_read(source, _COUNTERS))
    unit.fill[N_ANSWERS] = len(unit.answer_entries)
    user, identity, item, session, since, kinds = _read(source, _HISTORY)
    packed = (since.astype(np.uint64) << np.uint64(4)) | kinds
    rows = np.ascontiguousarray(np.column_stack([user, identity, item, session, packed]))
    size = slots_for(len(np.unique(user)))
    unit.user_keys, unit.user_heads = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
    unit.nodes = np.empty((len(rows), 4), np.uint64)
    unit.fill[FREE_NODE] = -1
    tables.refill_history(rows, len(rows), unit.user_keys, unit.user_heads, unit.nodes, unit.fill)
    unit.lanes = unit.rescan(bucket, bucket_ms)
    return unit


def encode_catalogue(catalogue: Mapping[int, CatalogueEntry]) -> bytes:
    """The bytes of the catalogue's file: one Arrow stream."""
    entries = list(catalogue.values())
    sink = io.BytesIO()
    columns = [
        [entry.item for entry in entries],
        [entry.time_ms for entry in entries],
        [entry.identity for entry in entries],
        [entry.body for entry in entries],
        [entry.deleted for entry in entries],
    ]
    _write(sink, _CATALOGUE, columns)
    return sink.getvalue()


def decode_catalogue(raw: bytes, state: State) -> None:
    """Fill a state's catalogue from its file. Raises pa.ArrowException or ValueError like `decode_unit`."""
    batch = _read_batch(pa.BufferReader(raw), _CATALOGUE)
    for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
        entry = CatalogueEntry(*row)
        item = item_hash(entry.item)
        state.catalogue[item] = entry
        state.catalogue_lanes = add_lanes(state.catalogue_lanes, catalogue_lanes(item, entry), 1)


def _counter_table(columns: list[npt.NDArray[Any]]) -> tuple[U64Array, U64Array]:
    tag, a, b, count = columns
    meta = (tag.astype(np.uint64) << _TAG_SHIFT) | count
    rows = np.ascontiguousarray(np.column_stack([a, b, meta]))
    entries, slots = np.empty_like(rows), np.zeros(slots_for(len(rows)), np.uint64)
    tables.refill_counters(rows, len(rows), entries, slots)
    return entries, slots


def _write(sink: io.BytesIO, schema: pa.Schema, columns: Iterable[object]) -> None:
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))


def _read_batch(source: pa.NativeFile, schema: pa.Schema) -> pa.RecordBatch:
    reader = pa.ipc.open_stream(source)
    if not reader.schema.equals(schema):
        raise ValueError("the file holds other columns")
    batch = reader.read_next_batch()
    try:
        reader.read_next_batch()
    except StopIteration:
        return batch
    raise ValueError("the file holds more than one batch")


def _read(source: pa.NativeFile, schema: pa.Schema) -> list[npt.NDArray[Any]]:
    return [column.to_numpy().copy() for column in _read_batch(source, schema).columns]
