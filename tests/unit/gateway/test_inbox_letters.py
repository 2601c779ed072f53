"""Dead letters of the inbox: a raw identifier leaves it in no way."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.inbox.letters import letter_of, reason_of
from streams.errors import BadEvent
from streams.events import EventReader
from streams.kafka_binding import read_record
from tests.support.gateway_parts import PSEUDONYMS, event

SECRET = "alice.smith@example.org"
NOW_MS = 1_900_000_000_000
READER = EventReader(PSEUDONYMS)
STRUCTURED = [("content-type", b"application/cloudevents+json")]
PLACES = (
    ["id", "source", "type", "time", "specversion", "datacontenttype", "data_base64", SECRET]
    + ["data", f"data.{SECRET}", f"data.{SECRET}`x", f"data.{SECRET}\n", f"data.x - at `$.{SECRET}"]
    + [f"data.{name}" for name in ("user", "item", "query", "session", "ranking", "position", "price", "attributes")]
)
VALUES = st.sampled_from(
    [SECRET, {SECRET: SECRET}, [SECRET], {SECRET: {SECRET: [SECRET]}}, SECRET * 40, f"\x00{SECRET}", f"{SECRET}\n", 1.5]
)
KINDS = st.sampled_from(["click", "search", "item", "impression", "feedback", SECRET])


def bytes_of_letter(headers: Any, value: bytes | None) -> bytes | None:
    """All that a dead letter holds; None when the event is taken."""
    try:
        READER.read(read_record(headers, value), NOW_MS)
    except BadEvent as error:
        letter = letter_of("east-1", 0, 7, value, reason_of(error))
        return b"\n".join([letter.kept_value, letter.key, *(part for _, part in letter.to_headers())])
    return None


@given(st.dictionaries(st.sampled_from(PLACES), VALUES, min_size=1, max_size=4), KINDS, st.sampled_from([0, 5]))
def test_no_dead_letter_holds_what_an_app_said(changes: dict[str, Any], kind: str, cut: int) -> None:
    """Wherever an identifier stands, as a value or as the name of a field."""
    said = event(1, kind, data={"user": SECRET, "item": "i", "title": SECRET})
    for place, value in changes.items():
        value = deepcopy(value)  # noqa: PLW2901 - examples share it
        where, _, name = place.partition(".")
        if name and isinstance(said["data"], dict):
            said["data"][name] = value
        else:
            said[where] = value
    raw = json.dumps(said).encode()
    found = bytes_of_letter(STRUCTURED, raw[: len(raw) - cut])
    assert found is None or b"alice" not in found.lower(), found


@given(
    st.sampled_from([f"ce_{SECRET}", "ce_id", "ce_type", "ce_time", "ce_specversion", "content-type"]),
    st.sampled_from([b"", b"\xff"]),
)
def test_nor_does_a_header_get_there(name: str, end: bytes) -> None:
    """Binary mode brings names and values of its own."""
    found = bytes_of_letter([("ce_type", b"t"), (name, SECRET.encode() + end)], SECRET.encode())
    assert found is not None
    assert b"alice" not in found.lower(), found


def test_a_reason_names_the_field_that_an_app_can_mend() -> None:
    """Fields of the kinds of event are no secret."""
    assert reason_of(BadEvent("data.user", "is required and missing", "")) == "data.user is required and missing"
    assert reason_of(BadEvent("data.items[3]", "is too long", "")) == "data.items[3] is too long"
    assert reason_of(BadEvent("data.alice", "is not a field of this kind", "")).startswith("a field of it is not")


@pytest.mark.parametrize("name", [f"{SECRET}\n", f"\n{SECRET}`", f"{SECRET}\r\u2028x"])
def test_the_name_of_a_field_is_not_told_whatever_stands_in_it(name: str) -> None:
    """Not even where what the decoder says of it goes over several lines."""
    raw = json.dumps(event(1, "click", data={"user": "u", "item": "i", name: 1})).encode()
    found = bytes_of_letter(STRUCTURED, raw)
    assert found is not None and b"alice" not in found, found
