"""The frame codec: what goes in comes out, and damage is told apart from a newer version."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import FrameCorrupt, UnknownFrameVersion
from streams.frame import (
    EVENTS_MAX,
    HEADER_EVENTS,
    HEADER_VERSION,
    SCHEMA,
    EventRow,
    decode_frame,
    encode_frame,
    frame_headers,
    header,
)
from streams.kinds import Kind

U64 = st.integers(0, 2**64 - 1)
ROWS = st.lists(
    st.builds(
        EventRow,
        identity=st.binary(min_size=16, max_size=16),
        time_ms=st.integers(-(2**62), 2**62),
        user=U64,
        session=U64,
        kind=st.sampled_from(Kind),
        query=st.text(max_size=8),
        item=st.sampled_from(["", "a", "b", "日本"]),
        ranking=st.binary(min_size=16, max_size=16),
        position=st.integers(0, 2**16 - 1),
        body=st.binary(max_size=12),
    ),
    max_size=12,
)
ROW = EventRow(identity=bytes(16), time_ms=1, user=2, session=3, kind=Kind.CLICK, query="q", item="i")


def _frame(rows: list[EventRow]) -> tuple[bytes, list[tuple[str, bytes]]]:
    return encode_frame(rows), frame_headers(len(rows), "0123456789abcdef")


@given(ROWS)
def test_every_event_comes_back_as_it_went_in(rows: list[EventRow]) -> None:
    """Every row of a decoded frame equals the row that was encoded, also for a frame with no events."""
    columns = decode_frame(*_frame(rows))
    assert [columns.row(j) for j in range(columns.count)] == rows


@given(
    ROWS.filter(bool), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0)
)
def test_damaged_bytes_are_corrupt_or_still_readable(
    rows: list[EventRow], changes: list[tuple[int, int]], cut: int
) -> None:
    """Whatever happens to the bytes, decoding either refuses them or gives rows that can be read to the end."""
    value, headers = _frame(rows)
    damaged = bytearray(value)
    for at, byte in changes:
        damaged[at % len(damaged)] = byte
    for candidate in (bytes(damaged), value[: cut % len(value)]):
        try:
            columns = decode_frame(candidate, headers)
        except FrameCorrupt:
            continue
        for j in range(columns.count):
            assert 0 <= int(columns.query.index[j]) < len(columns.query.offsets) - 1
            assert int(columns.kind[j]) < len(Kind)


def test_an_unknown_version_stops_the_reader_instead_of_being_called_corrupt() -> None:
    """A frame of version 2 must not go to the dead log: a newer gateway wrote it."""
    with pytest.raises(UnknownFrameVersion, match="upgrade this reader"):
        decode_frame(b"anything", [(HEADER_VERSION, b"2")])


@pytest.mark.parametrize(
    ("value", "headers", "says"),
    [
        (b"x", [], "no meridian-frame header"),
        (b"x", [(HEADER_VERSION, b"one")], "not a number"),
        (None, [(HEADER_VERSION, b"1")], "no value"),
        (b"not arrow at all", [(HEADER_VERSION, b"1")], "not an Arrow stream"),
        (encode_frame([ROW]), [(HEADER_VERSION, b"1"), (HEADER_EVENTS, b"2")], "holds 1 events"),
    ],
)
def test_malformed_records_say_what_is_wrong(value: bytes | None, headers: list[tuple[str, bytes]], says: str) -> None:
    """Each way of being malformed has its own sentence, because it ends up in the dead log."""
    with pytest.raises(FrameCorrupt, match=says):
        decode_frame(value, headers)


def test_other_schemas_several_batches_and_nulls_are_corrupt() -> None:
    """Only exactly one batch of exactly our schema is a frame."""
    headers = frame_headers(1, "k")
    other = pa.schema([pa.field("id", pa.int64())])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, other) as writer:
        writer.write_batch(pa.record_batch([pa.array([1])], schema=other))
    with pytest.raises(FrameCorrupt, match="schema"):
        decode_frame(bytes(sink.getvalue()), headers)

    with pa.ipc.open_stream(encode_frame([ROW])) as reader:
        batch = reader.read_next_batch()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_batch(batch)
        writer.write_batch(batch)
    with pytest.raises(FrameCorrupt, match="exactly one batch"):
        decode_frame(bytes(sink.getvalue()), headers)

    columns = [*batch.columns[:2], pa.array([None], pa.uint64()), *batch.columns[3:]]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
    with pytest.raises(FrameCorrupt, match="null"):
        decode_frame(bytes(sink.getvalue()), headers)


def test_an_unknown_kind_is_corrupt() -> None:
    """A kind that version 1 does not have cannot be folded, and a new kind would have come with a new version."""
    with pa.ipc.open_stream(encode_frame([ROW])) as reader:
        batch = reader.read_next_batch()
    columns = [*batch.columns[:4], pa.array([len(Kind)], pa.uint8()), *batch.columns[5:]]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
    with pytest.raises(FrameCorrupt, match="kind 9 does not exist"):
        decode_frame(bytes(sink.getvalue()), frame_headers(1, "k"))


def test_too_many_events_are_refused_before_anything_is_written() -> None:
    """Dictionary indices are 16 bits wide: one event too many is an error, not a wrong string."""
    with pytest.raises(ValueError, match="close it at"):
        encode_frame([ROW] * (EVENTS_MAX + 1))


def test_headers_are_found_whichever_client_delivered_them() -> None:
    """confluent-kafka delivers pairs, Faust a mapping, and a record without headers None."""
    assert header([("a", b"1")], "a") == b"1"
    assert header({"a": b"1"}, "a") == b"1"
    assert header(None, "a") is None
