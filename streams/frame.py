"""Many events in one Kafka record: a frame, as an Arrow IPC stream with a single batch.

Faust costs 115-240 microseconds a *record*, whatever is inside it; a frame of a few hundred events spreads that
over all of them. Arrow rather than a codec of our own, because any Arrow reader can open the log, columns decode
without being copied, and repeated strings are stored once a frame.

Decoding checks everything that the fold's kernels rely on (they run without bounds checks): the exact schema, no
nulls, dictionary indices in range, known kinds, one batch, the promised count. What fails such a check is malformed
as a pure function of its bytes (`FrameCorrupt`: dead log). A version that this reader does not know is another matter:
the reader must stop (`UnknownFrameVersion`), because a rolling upgrade must not lose events from the state.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streams.asks import NO_RANKING, RANKING_ID_BYTES, Ask, encode_asks
from streams.errors import FrameCorrupt, UnknownFrameVersion
from streams.headers import Headers as Headers  # noqa: PLC0414 - readers of frames find it here
from streams.headers import header as header  # noqa: PLC0414 - as above
from streams.kinds import KIND_COUNT, Kind

FRAME_VERSION: Final = 1
EVENTS_MAX: Final = 32_000
"""Dictionary indices are int16, so a frame may not hold more distinct strings than that."""

HEADER_VERSION: Final = "meridian-frame"
HEADER_EVENTS: Final = "meridian-events"
HEADER_KEY: Final = "meridian-key"
HEADER_ASKS: Final = "meridian-asks"
HEADER_TRACE: Final = "traceparent"
"""The W3C trace context of the span that wrote the frame, under its usual name in Kafka. Nothing depends on it."""

_STRINGS = pa.dictionary(pa.int16(), pa.utf8())
SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("time", pa.int64(), nullable=False),
        pa.field("user", pa.uint64(), nullable=False),
        pa.field("session", pa.uint64(), nullable=False),
        pa.field("kind", pa.uint8(), nullable=False),
        pa.field("query", _STRINGS, nullable=False),
        pa.field("item", _STRINGS, nullable=False),
        pa.field("ranking", pa.binary(RANKING_ID_BYTES), nullable=False),
        pa.field("position", pa.uint16(), nullable=False),
        pa.field("body", pa.binary(), nullable=False),
    ]
)

U64 = npt.NDArray[np.uint64]


class EventRow(msgspec.Struct, frozen=True):
    """One event as it stands in a frame; the meaning of the columns is in `docs/concepts/events.md`."""

    identity: bytes
    """16 bytes, a hash of the event's content with source, id and time."""
    time_ms: int
    """When it happened, as its sender says: ms since the epoch, UTC."""
    user: int
    """Pseudonym, uint64; 0 for item events."""
    session: int
    kind: Kind
    query: str = ""
    item: str = ""
    ranking: bytes = NO_RANKING
    position: int = 0
    """1-based place in the ranking that was clicked; 0 when unknown."""
    body: bytes = b""
    """Canonical JSON of everything else; empty when there is nothing else."""


@dataclass(frozen=True, slots=True)
class Strings:
    """A dictionary-encoded column: `index[j]` names the string in `raw[offsets[i]:offsets[i + 1]]`."""

    offsets: npt.NDArray[np.int32]
    """Shape (d + 1,), already sliced, so that entry i is `raw[offsets[i]:offsets[i + 1]]`."""
    raw: npt.NDArray[np.uint8]
    index: npt.NDArray[np.int16]
    """Shape (n,), each in [0, d)."""

    def text(self, row: int) -> str:
        """The string of one row."""
        i = int(self.index[row])
        return bytes(self.raw[self.offsets[i] : self.offsets[i + 1]]).decode()


@dataclass(frozen=True, slots=True)
class Columns:
    """A decoded frame of n events: read-only views into the record's bytes, nothing copied."""

    count: int
    ids: U64
    """Shape (n, 2): the identity as two little-endian halves."""
    time_ms: npt.NDArray[np.int64]
    user: U64
    session: U64
    kind: npt.NDArray[np.uint8]
    query: Strings
    item: Strings
    ranking: npt.NDArray[np.uint8]
    """Shape (n, 16)."""
    position: npt.NDArray[np.uint16]
    body_offsets: npt.NDArray[np.int32]
    """Shape (n + 1,)."""
    body_raw: npt.NDArray[np.uint8]

    def identity(self, row: int) -> bytes:
        """The 16 identity bytes of one row."""
        return bytes(self.ids[row].tobytes())

    def body(self, row: int) -> bytes:
        """The body of one row, empty when it has none."""
        return bytes(self.body_raw[self.body_offsets[row] : self.body_offsets[row + 1]])

    def row(self, row: int) -> EventRow:
        """One event in full; for reports and tests, not for hot paths."""
        return EventRow(
            identity=self.identity(row),
            time_ms=int(self.time_ms[row]),
            user=int(self.user[row]),
            session=int(self.session[row]),
            kind=Kind(int(self.kind[row])),
            query=self.query.text(row),
            item=self.item.text(row),
            ranking=self.ranking[row].tobytes(),
            position=int(self.position[row]),
            body=self.body(row),
        )


def encode_frame(rows: Sequence[EventRow]) -> bytes:
    """Pack events, in their order, into the value of one Kafka record.

    Raises ValueError for more than EVENTS_MAX events: close the frame earlier.
    """
    if len(rows) > EVENTS_MAX:
        raise ValueError(f"{len(rows)} events in one frame; close it at {EVENTS_MAX} at the latest")
    batch = pa.record_batch(
        [
            pa.array([r.identity for r in rows], pa.binary(16)),
            pa.array([r.time_ms for r in rows], pa.int64()),
            pa.array([r.user for r in rows], pa.uint64()),
            pa.array([r.session for r in rows], pa.uint64()),
            pa.array([int(r.kind) for r in rows], pa.uint8()),
            _dictionary([r.query for r in rows]),
            _dictionary([r.item for r in rows]),
            pa.array([r.ranking for r in rows], pa.binary(RANKING_ID_BYTES)),
            pa.array([r.position for r in rows], pa.uint16()),
            pa.array([r.body for r in rows], pa.binary()),
        ],
        schema=SCHEMA,
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _dictionary(strings: list[str]) -> pa.DictionaryArray:
    seen: dict[str, int] = {}
    index = [seen.setdefault(s, len(seen)) for s in strings]
    return pa.DictionaryArray.from_arrays(pa.array(index, pa.int16()), pa.array(list(seen), pa.utf8()))


def frame_headers(
    count: int, key_fingerprint: str, asks: Sequence[Ask] = (), trace: str = ""
) -> list[tuple[str, bytes]]:
    """The Kafka headers of a frame with `count` events."""
    headers = [
        (HEADER_VERSION, str(FRAME_VERSION).encode()),
        (HEADER_EVENTS, str(count).encode()),
        (HEADER_KEY, key_fingerprint.encode()),
    ]
    if asks:
        headers.append((HEADER_ASKS, encode_asks(list(asks))))
    if trace:
        headers.append((HEADER_TRACE, trace.encode()))
    return headers


Decode = Callable[[bytes | None, Headers], Columns]
"""`decode_frame`, or something that returns the same."""


def decode_frame(value: bytes | None, headers: Headers) -> Columns:
    """Open a record of an events log.

    Raises FrameCorrupt for what is malformed as a pure function of its bytes, UnknownFrameVersion for a frame of a
    version other than 1 (the reader must stop).
    """
    _check_version(headers)
    if not value:
        raise FrameCorrupt("the record has no value; a frame is an Arrow IPC stream")
    try:
        batch = _only_batch(value)
        batch.validate(full=True)
        columns = _view(batch)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FrameCorrupt(f"not an Arrow stream of frame version {FRAME_VERSION}: {_first_line(error)}") from error
    promised = header(headers, HEADER_EVENTS)
    if promised is not None and promised != str(columns.count).encode():
        raise FrameCorrupt(f"the header {HEADER_EVENTS} says {promised!r}, the frame holds {columns.count} events")
    return columns


def _check_version(headers: Headers) -> None:
    version = header(headers, HEADER_VERSION)
    if version is None:
        raise FrameCorrupt(f"the record has no {HEADER_VERSION} header; it was not written by a gateway")
    if version != b"1":
        if not version.isdigit():
            raise FrameCorrupt(f"the header {HEADER_VERSION} is {version[:32]!r}, not a number")
        raise UnknownFrameVersion(
            f"frame version {version.decode()} is not known to this release, which reads version {FRAME_VERSION}. "
            "A newer gateway wrote it: upgrade this reader, then start it again; nothing was skipped."
        )


def _only_batch(value: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(value) as reader:
        if not reader.schema.equals(SCHEMA):
            raise FrameCorrupt(f"the schema is not that of frame version {FRAME_VERSION}")
        batches = list(itertools.islice(reader, 2))
    if len(batches) != 1:
        raise FrameCorrupt("the stream does not hold exactly one batch")
    return batches[0]


def _view(batch: pa.RecordBatch) -> Columns:
    n = batch.num_rows
    columns = batch.columns
    if any(column.null_count for column in columns):
        raise FrameCorrupt("a column holds nulls")
    kind = _fixed(columns[4], np.dtype(np.uint8), n)
    if n and int(kind.max()) >= KIND_COUNT:
        raise FrameCorrupt(f"kind {int(kind.max())} does not exist in frame version {FRAME_VERSION}")
    body_offsets, body_raw = _variable(columns[9])
    return Columns(
        count=n,
        ids=_fixed(columns[0], np.dtype(np.uint64), 2 * n).reshape(n, 2),
        time_ms=_fixed(columns[1], np.dtype(np.int64), n),
        user=_fixed(columns[2], np.dtype(np.uint64), n),
        session=_fixed(columns[3], np.dtype(np.uint64), n),
        kind=kind,
        query=_strings(columns[5], n),
        item=_strings(columns[6], n),
        ranking=_fixed(columns[7], np.dtype(np.uint8), RANKING_ID_BYTES * n).reshape(n, RANKING_ID_BYTES),
        position=_fixed(columns[8], np.dtype(np.uint16), n),
        body_offsets=body_offsets,
        body_raw=body_raw,
    )


def _fixed(array: pa.Array, dtype: np.dtype, count: int) -> npt.NDArray:  # type: ignore[type-arg]
    """A view of `count` fixed-width values. A batch straight from a stream has no offset; anything else is corrupt."""
    if array.offset:
        raise FrameCorrupt("a column does not start at its buffer's start")
    if count == 0:
        return np.empty(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype, count)


def _variable(array: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    _, offsets, raw = array.buffers()
    if len(array) == 0:
        return np.zeros(1, np.int32), np.zeros(0, np.uint8)
    view = np.frombuffer(offsets, np.int32, len(array) + 1, array.offset * 4)
    return view, np.frombuffer(raw, np.uint8) if raw is not None and raw.size else np.zeros(0, np.uint8)


def _strings(array: pa.DictionaryArray, count: int) -> Strings:
    if array.dictionary.null_count:
        raise FrameCorrupt("a dictionary holds nulls")
    offsets, raw = _variable(array.dictionary)
    return Strings(offsets=offsets, raw=raw, index=_fixed(array.indices, np.dtype(np.int16), count))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
