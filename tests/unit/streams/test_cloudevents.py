"""Envelopes: what the SDK can write is read the same, in all three modes, and bad bytes are named, never a crash."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cloudevents.core.bindings.http import from_http_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent as SdkEvent
from hypothesis import given
from hypothesis import strategies as st

from streams.cloudevents import (
    CloudEvent,
    Rejected,
    read_batch,
    read_binary,
    read_structured,
    rfc3339,
    to_ms,
)
from streams.errors import BadEvent

WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1, max_size=20)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=ZONES)  # noqa: DTZ001
SDK_EVENTS = st.builds(
    lambda name, source, kind, time, user: SdkEvent(
        {
            "id": name,
            "source": f"/{source}",
            "type": kind,
            "time": time,
            "datacontenttype": "application/json",
            "specversion": "1.0",
        },
        {"user": user},
    ),
    WORDS,
    WORDS,
    WORDS,
    TIMES,
    st.text(st.characters(exclude_categories=["Cs"])),
)
GOOD = {
    "specversion": "1.0",
    "id": "1",
    "source": "/apps/shop",
    "type": "meridian.click.v1",
    "time": "2026-11-21T12:00:00Z",
    "data": {"user": "u", "item": "i"},
}


def same(ours: CloudEvent, theirs: SdkEvent) -> None:
    """Both readers understood the same."""
    assert (ours.id, ours.source, ours.type) == (theirs.get_id(), theirs.get_source(), theirs.get_type())
    assert ours.time == theirs.get_time()
    assert json.loads(bytes(ours.data_json())) == theirs.get_data()


@given(SDK_EVENTS)
def test_structured_mode_is_read_as_the_sdk_reads_it(event: SdkEvent) -> None:
    """Whatever the official SDK writes in structured mode means the same to us."""
    message = to_structured_event(event)
    same(read_structured(message.body), from_http_event(message))


@given(SDK_EVENTS)
def test_binary_mode_is_read_as_the_sdk_reads_it(event: SdkEvent) -> None:
    """Percent-encoded headers and the body as data."""
    message = to_binary_event(event)
    same(read_binary(message.headers, message.body), from_http_event(message))


@given(st.lists(SDK_EVENTS, min_size=1, max_size=5))
def test_a_batch_is_its_events(events: list[SdkEvent]) -> None:
    """A batch is read event by event, in order."""
    messages = [to_structured_event(event) for event in events]
    found = read_batch(b"[" + b",".join(message.body for message in messages) + b"]", 5)
    assert len(found) == len(events)
    for ours, message in zip(found, messages, strict=True):
        assert isinstance(ours, CloudEvent)
        same(ours, from_http_event(message))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_a_named_refusal(raw: bytes) -> None:
    """No input makes the reader fail in another way."""
    for read in (read_structured, lambda body: read_batch(body, 10)):
        try:
            read(raw)
        except BadEvent as error:
            assert all((error.field, error.cause, error.remedy))  # noqa: PT017 - it need not be raised


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": None}, "id"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"id": "a\x00"}, "id"),
        ({"id": "a\n"}, "id"),
        ({"id": "x" * 257}, "id"),
        ({"source": None}, "source"),
        ({"source": "x" * 513}, "source"),
        ({"type": None}, "type"),
        ({"time": None}, "time"),
        ({"time": "2026-11-21T12:00:00"}, "time"),
        ({"time": "yesterday"}, "time"),
        ({"time": 1700000000}, "time"),
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": None}, "specversion"),
    ],
)
def test_a_wrong_attribute_is_named(change: dict[str, object], field: str) -> None:
    """The refusal says which attribute, for missing ones and wrong ones alike."""
    event = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(BadEvent) as caught:
        read_structured(json.dumps(event).encode())
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "not JSON"),
        (b"[1,", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"{}", "JSON array"),
        (b"[]", "empty"),
        (b"[" * 50_000, "deeply"),
        (b"[1,2,3]", "more than 2"),
    ],
)
def test_what_is_no_batch_is_refused_whole(body: bytes, cause: str) -> None:
    """Nothing can be told apart in it, so the whole of it is refused, with the reason."""
    with pytest.raises(BadEvent, match=cause):
        read_batch(body, 2)


@pytest.mark.parametrize(
    "bad",
    [
        b'{"id":"bad","specversion":"1.0","source":"s","type":"t","time":"2020-01-01T00:00:00Z","data":{"x":"\\ud800"}}',
        b'{"id":"bad","specversion":"1.0","source":"s\xff","type":"t","time":"2020-01-01T00:00:00Z"}',
        b'{"id":"bad"}',
        b"17",
        b"null",
        b"[]",
    ],
)
def test_one_bad_event_takes_no_other_with_it(bad: bytes) -> None:
    """The neighbours in the batch are read, whatever stands between them."""
    good = json.dumps(GOOD).encode()
    found = read_batch(b"[" + good + b"," + bad + b"," + good + b"]", 3)
    assert [type(event) for event in found] == [CloudEvent, Rejected, CloudEvent]
    refused = found[1]
    assert isinstance(refused, Rejected)
    assert refused.id == ("bad" if bad.startswith(b"{") else "")


def test_base64_data_is_read_and_not_beside_data() -> None:
    """`data_base64` is another way to write data, not a second one."""
    event = {**GOOD, "data_base64": "eyJ1c2VyIjoidSJ9"}
    with pytest.raises(BadEvent, match="data_base64"):
        read_structured(json.dumps(event).encode()).data_json()
    del event["data"]
    assert read_structured(json.dumps(event).encode()).data_json() == b'{"user":"u"}'
    with pytest.raises(BadEvent, match="base64"):
        read_structured(json.dumps({**event, "data_base64": "§"}).encode()).data_json()


def test_only_json_data_is_taken() -> None:
    """XML, for one, is refused by its content type."""
    event = read_structured(json.dumps({**GOOD, "datacontenttype": "application/xml"}).encode())
    with pytest.raises(BadEvent, match="datacontenttype"):
        event.data_json()


def test_binary_headers_must_be_utf8() -> None:
    """A percent-encoded byte that is no UTF-8 is named by its header."""
    with pytest.raises(BadEvent, match="ce-id"):
        read_binary({"ce-specversion": "1.0", "ce-id": "%ff"}, b"{}")


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_times_round_trip_to_the_millisecond(time_ms: int) -> None:
    """Text and back, before and after 1970."""
    assert to_ms(datetime.fromisoformat(rfc3339(time_ms))) == time_ms


def test_times_are_rounded_down() -> None:
    """Also before 1970, so that equal instants are equal numbers everywhere."""
    assert to_ms(datetime(1969, 12, 31, 23, 59, 59, 999_500, UTC)) == -1
    assert to_ms(datetime(1970, 1, 1, 0, 0, 0, 999, UTC)) == 0
