"""CloudEvents in Kafka records, held against the official SDK."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings.kafka import from_binary, from_structured, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as SdkEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.cloudevents import CloudEvent
from streams.errors import BadEvent
from streams.kafka_binding import read_record

STRUCTURED = {"content-type": b"application/cloudevents+json"}
BINARY = {
    "ce_specversion": b"1.0",
    "ce_id": b"1",
    "ce_source": b"/apps/shop",
    "ce_type": b"meridian.click.v1",
    "ce_time": b"2026-01-01T00:00:00Z",
    "content-type": b"application/json",
}
# The SDK takes text apart that is no URI reference; what it and we agree on is printable.
TEXT = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters='\x7f"'), min_size=1, max_size=40
)
DATA = st.dictionaries(TEXT, st.one_of(TEXT, st.integers(-(2**53), 2**53), st.booleans()), max_size=4)
TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds have none


@st.composite
def events(draw: Any) -> SdkEvent:
    """Events as an app makes them with the SDK, some with an extension."""
    attributes: dict[str, Any] = {
        "id": draw(TEXT),
        "source": draw(TEXT),
        "type": draw(TEXT),
        "time": draw(TIMES),
        "specversion": "1.0",
        "datacontenttype": draw(st.sampled_from(["application/json", "application/json; charset=utf-8"])),
    }
    if draw(st.booleans()):
        attributes["traceparent"] = draw(TEXT)
    return SdkEvent(attributes, draw(DATA))


@settings(max_examples=40, deadline=None)
@given(events())
def test_what_the_sdk_writes_is_read_as_it_was_said(said: SdkEvent) -> None:
    """Both modes, and the same event from both."""
    for message, again in (
        (to_binary(said, JSONFormat()), from_binary),
        (to_structured(said, JSONFormat()), from_structured),
    ):
        ours = read_record(list(message.headers.items()), message.value)
        theirs = again(message, JSONFormat(), SdkEvent)
        assert (ours.id, ours.source, ours.type) == (theirs.get_id(), theirs.get_source(), theirs.get_type())
        assert ours.time == theirs.get_time() == said.get_time()
        assert msgspec.json.decode(ours.data_json()) == theirs.get_data() == said.get_data()


@given(st.dictionaries(st.sampled_from([*BINARY, "ce_", "CE_ID", "ce_data", "x"]), st.binary(max_size=20)), st.binary())
def test_any_bytes_are_an_event_or_refused(headers: dict[str, bytes], value: bytes) -> None:
    """Nothing else comes out: a record that raised anything else would stop whoever reads."""
    with contextlib.suppress(BadEvent):
        assert isinstance(read_record(list(headers.items()), value), CloudEvent)


def without(name: str) -> list[tuple[str, bytes | None]]:
    """The headers of a binary event, but for one."""
    return [pair for pair in BINARY.items() if pair[0] != name]


@pytest.mark.parametrize(
    ("headers", "value", "field"),
    [
        ([*BINARY.items()], None, "data"),
        ([*STRUCTURED.items()], None, "event"),
        ([], b"{}", "content-type"),
        (None, b"{}", "content-type"),
        ([("content-type", b"application/json")], b"{}", "content-type"),
        ([("content-type", b"application/cloudevents-batch+json")], b"[]", "content-type"),
        ([("content-type", b"application/cloudevents+avro")], b"", "content-type"),
        ([*BINARY.items(), ("ce_id", b"2")], b"{}", "ce_id"),
        ([*BINARY.items(), ("ce_data", b"2")], b"{}", "ce_data"),
        ([*without("ce_id"), ("ce_id", None)], b"{}", "ce_id"),
        ([*without("ce_id"), ("ce_id", b"\xff")], b"{}", "ce_id"),
        (without("ce_id"), b"{}", "id"),
        (without("ce_specversion"), b"{}", "specversion"),
        ([*without("ce_specversion"), ("ce_specversion", b"2.0")], b"{}", "specversion"),
        ([*without("ce_time"), ("ce_time", b"2026-01-01T00:00:00")], b"{}", "time"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(headers: Any, value: bytes | None, field: str) -> None:
    """A version or a media type that is unknown here may be an event all the same: it is never skipped."""
    with pytest.raises(BadEvent) as refused:
        read_record(headers, value)
    assert refused.value.field == field


def test_header_names_may_be_written_in_any_case_and_values_are_plain_utf8() -> None:
    """As the SDK takes them; percent signs are HTTP's, and stand for themselves here."""
    headers = [(name.upper(), value) for name, value in without("ce_id")] + [("CE_Id", "a%20ü".encode())]
    assert read_record(headers, b"{}").id == "a%20ü"
