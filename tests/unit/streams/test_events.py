"""Events: identity over all that was said, refusals that name the field, and nothing raw in a row."""

import json
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from streams.asks import NO_RANKING
from streams.cloudevents import read_structured
from streams.errors import BadEvent
from streams.events import (
    BODY_BYTES_MAX,
    FUTURE_MS_MAX,
    Content,
    EventReader,
    ItemBody,
    Received,
    Search,
    identity,
)
from streams.frame import EventRow, decode_frame, encode_frame, frame_headers
from streams.hashing import item_hash
from streams.kinds import Kind
from streams.pseudonym import SESSION_BLOCK_MS, Pseudonyms

PSEUDONYMS = Pseudonyms(b"0123456789abcdef0123456789abcdef")
NOW_MS = 1_790_000_000_000
TIME = "2026-01-01T00:00:00Z"
TIME_MS = 1_767_225_600_000
RANKING = "00" * 15 + "7f"
DATA: dict[str, dict[str, Any]] = {
    "search": {"user": "u", "query": "red shoes"},
    "click": {"user": "u", "item": "i", "query": "red shoes", "ranking": RANKING, "position": 3, "session": "s"},
    "cart": {"user": "u", "item": "i"},
    "purchase": {"user": "u", "item": "i", "quantity": 2, "price": 9.5},
    "view": {"user": "u", "item": "i"},
    "item": {"item": "i", "title": "Shoe", "price": 1, "attributes": {"b": ["x"], "a": 1.5}, "stock": 0},
    "impression": {"user": "u", "ranking": RANKING, "items": ["i", "j"]},
    "feedback": {"user": "u", "item": "i", "value": -1},
}


def receive(kind: str, data: object, *, time: str = TIME, now_ms: int = NOW_MS, **envelope: str) -> Received:
    """Read one event as the gateway does."""
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/apps/shop",
        "type": f"meridian.{kind}.v1",
        "time": time,
        "data": data,
        **envelope,
    }
    return EventReader(PSEUDONYMS).read(read_structured(json.dumps(event).encode()), now_ms)


@pytest.mark.parametrize("kind", DATA)
def test_every_kind_becomes_a_row_that_survives_a_frame(kind: str) -> None:
    """What an app may say fits into a frame and comes out the same."""
    row = receive(kind, DATA[kind]).row
    assert row.kind is Kind[kind.upper()]
    assert row.time_ms == TIME_MS
    assert decode_frame(encode_frame([row]), frame_headers(1, PSEUDONYMS.fingerprint)).row(0) == row


def test_a_click_is_laid_out_column_by_column() -> None:
    """The fields that the fold counts by are columns, and the rest is canonical JSON."""
    received = receive("click", {**DATA["click"], "price": 5, "quantity": 2})
    user = PSEUDONYMS.user("u")
    assert received.partition_key == received.row.user == user
    assert received.row == EventRow(
        identity=received.row.identity,
        time_ms=TIME_MS,
        user=user,
        session=PSEUDONYMS.session(user, "s", TIME_MS),
        kind=Kind.CLICK,
        query="red shoes",
        item="i",
        ranking=bytes.fromhex(RANKING),
        position=3,
        body=b'{"price":5.0,"quantity":2}',
    )


def test_an_item_event_names_no_user_and_goes_by_its_item() -> None:
    """Catalogue entries lie in their item's partition; keys of the body are sorted, defaults left out."""
    received = receive("item", DATA["item"])
    assert (received.row.user, received.row.session) == (0, 0)
    assert received.partition_key == item_hash("i")
    assert received.row.body == b'{"attributes":{"a":1.5,"b":["x"]},"price":1.0,"stock":0,"title":"Shoe"}'
    assert msgspec.json.decode(received.row.body, type=ItemBody).stock == 0
    tombstone = receive("item", {"item": "i", "deleted": True}).row
    assert tombstone.body == b'{"deleted":true}'


def test_a_search_request_writes_the_very_event_that_the_app_could_have_posted() -> None:
    """Same columns, same identity: whoever sends it both ways is counted once."""
    posted = receive("search", DATA["search"])
    asked = EventReader(PSEUDONYMS).search(Search(**DATA["search"]), source="/apps/shop", event_id="1", time_ms=TIME_MS)
    assert asked == posted


def test_raw_users_and_sessions_are_nowhere_in_a_row() -> None:
    """Only keyed hashes of them are."""
    data = {**DATA["click"], "user": "alice@example.org", "session": "cookie-4711"}
    frame = encode_frame([receive("click", data).row])
    assert b"alice" not in frame
    assert b"4711" not in frame
    other = Pseudonyms(b"another-key-another-key-another-")
    assert other.user("alice") != PSEUDONYMS.user("alice")
    assert other.fingerprint != PSEUDONYMS.fingerprint


def test_a_session_is_the_half_hour_of_the_events_own_time_unless_named() -> None:
    """Two events of one half hour share it, whenever they are sent; a named one belongs to its user."""
    start = TIME_MS // SESSION_BLOCK_MS * SESSION_BLOCK_MS
    user = PSEUDONYMS.user("u")
    assert PSEUDONYMS.session(user, None, start) == PSEUDONYMS.session(user, "", start + SESSION_BLOCK_MS - 1)
    assert PSEUDONYMS.session(user, None, start) != PSEUDONYMS.session(user, None, start + SESSION_BLOCK_MS)
    assert PSEUDONYMS.session(user, None, -1) != PSEUDONYMS.session(user, None, 0)
    assert PSEUDONYMS.session(user, "1", start) == PSEUDONYMS.session(user, "1", start + SESSION_BLOCK_MS)
    assert PSEUDONYMS.session(user, "1", start) != PSEUDONYMS.session(user + 1, "1", start)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
CONTENTS = st.builds(
    Content,
    kind=st.sampled_from(Kind),
    time_ms=st.integers(-(1 << 63), (1 << 63) - 1),
    user=st.integers(0, (1 << 64) - 1),
    session=st.integers(0, (1 << 64) - 1),
    query=TEXT,
    item=TEXT,
    ranking=st.binary(min_size=16, max_size=16),
    position=st.integers(0, 65_535),
    body=st.binary(max_size=12),
)


def plain_identity(source: str, event_id: str, content: Content) -> bytes:
    """The definition, written a second time: lengths, numbers, then the strings."""
    strings = [source.encode(), event_id.encode(), content.query.encode(), content.item.encode(), content.body]
    raw = b"".join(struct.pack("<I", len(string)) for string in strings)
    raw += bytes([content.kind]) + struct.pack("<qQQ", content.time_ms, content.user, content.session)
    raw += struct.pack("<H", content.position) + content.ranking + b"".join(strings)
    return xxhash.xxh3_128(raw).digest()


@given(TEXT, TEXT, CONTENTS)
def test_identity_is_what_it_is_defined_to_be(source: str, event_id: str, content: Content) -> None:
    """Against a second, slower writing of the definition."""
    assert identity(source, event_id, content) == plain_identity(source, event_id, content)


def test_identity_does_not_change_from_release_to_release() -> None:
    """Logs live for ever: a golden value."""
    assert receive("click", DATA["click"]).row.identity.hex() == "2a23003b88da68e92c9e97d8745df106"


@given(
    st.tuples(TEXT, TEXT, CONTENTS),
    st.tuples(TEXT, TEXT, CONTENTS),
)
def test_different_events_have_different_identities(
    one: tuple[str, str, Content], other: tuple[str, str, Content]
) -> None:
    """Nothing that was said is left out, and no text can move from one field into the next."""
    assert (identity(*one) == identity(*other)) == (one == other)


@given(CONTENTS, TEXT, TEXT, st.integers(0, 12))
def test_text_cannot_move_between_fields(content: Content, left: str, right: str, cut: int) -> None:
    """The same letters, cut elsewhere, are another event."""
    text = left + right
    moved = identity(text[:cut], text[cut:], content)
    assert (moved == identity(left, right, content)) == (text[:cut] == left)
    swap = msgspec.structs.replace
    one, two = swap(content, query=left, item=right), swap(content, query=text[:cut], item=text[cut:])
    assert (identity("s", "1", one) == identity("s", "1", two)) == (one == two)


def test_two_apps_that_both_number_from_one_have_sent_two_events() -> None:
    """The source is part of the identity; so is the content, for an app that uses an id twice."""
    one = receive("click", DATA["click"], source="/apps/a").row.identity
    two = receive("click", DATA["click"], source="/apps/b").row.identity
    three = receive("click", {**DATA["click"], "item": "j"}, source="/apps/a").row.identity
    assert len({one, two, three}) == 3


@pytest.mark.parametrize(
    "spell",
    [
        lambda data: dict(reversed(data.items())),
        lambda data: {**data, "query": data["query"], "price": None, "quantity": None},
        lambda data: {**data, "ranking": data["ranking"].upper()},
    ],
)
def test_another_spelling_of_the_same_fact_is_the_same_event(spell: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Order of keys, null for absent, case of hex digits: none of it is content."""
    data = DATA["click"]
    assert receive("click", spell(data)) == receive("click", data)


def test_numbers_are_canonical() -> None:
    """5 and 5.0 are one price, in the body and in attributes."""
    one = receive("item", {"item": "i", "title": "t", "price": 5, "attributes": {"w": 2}})
    two = receive("item", {"item": "i", "title": "t", "price": 5.0, "attributes": {"w": 2.0}})
    assert one == two


def test_times_in_other_zones_are_the_same_time() -> None:
    """The instant counts, not how it is written."""
    assert receive("view", DATA["view"], time="2026-01-01T05:30:00+05:30") == receive("view", DATA["view"])


def test_time_may_be_past_but_not_ahead() -> None:
    """Five minutes of clock difference are borne; anything later is refused, and nothing is clamped."""
    now_ms = TIME_MS - FUTURE_MS_MAX
    assert receive("view", DATA["view"], now_ms=now_ms).row.time_ms == TIME_MS
    with pytest.raises(BadEvent, match=r"time: is 300 s ahead"):
        receive("view", DATA["view"], now_ms=now_ms - 1)
    assert receive("view", DATA["view"], time="0001-01-01T00:00:00+10:00").row.time_ms < -62_000_000_000_000


@pytest.mark.parametrize(
    ("kind", "change", "field"),
    [
        ("search", {"query": None}, "data.query"),
        ("search", {"query": ""}, "data.query"),
        ("search", {"query": "q" * 513}, "data.query"),
        ("search", {"query": "a\x00b"}, "data.query"),
        ("search", {"user": None}, "data.user"),
        ("search", {"user": 7}, "data.user"),
        ("search", {"user": "u" * 257}, "data.user"),
        ("click", {"item": None}, "data.item"),
        ("click", {"item": ""}, "data.item"),
        ("click", {"item": "i\n"}, "data.item"),
        ("click", {"item": "i" * 257}, "data.item"),
        ("click", {"position": -1}, "data.position"),
        ("click", {"position": 65_536}, "data.position"),
        ("click", {"position": 1.5}, "data.position"),
        ("click", {"ranking": "7f"}, "data.ranking"),
        ("click", {"ranking": "zz" * 16}, "data.ranking"),
        ("purchase", {"quantity": 0}, "data.quantity"),
        ("purchase", {"price": -1}, "data.price"),
        ("purchase", {"quantty": 1}, "data.quantty"),
        ("purchase", {"email": "alice@example.org"}, "data.email"),
        ("item", {"title": None}, "data.title"),
        ("item", {"attributes": {"a": None}}, "data.attributes[...]"),
        ("item", {"attributes": {"a": "x" * BODY_BYTES_MAX}}, "data"),
        ("item", {"stock": 1.5}, "data.stock"),
        ("impression", {"ranking": None}, "data.ranking"),
        ("feedback", {"value": "good"}, "data.value"),
        ("feedback", {"value": 1e9}, "data.value"),
        ("served", {}, "type"),
        ("clack", {}, "type"),
    ],
)
def test_a_wrong_field_is_named_with_cause_and_remedy(kind: str, change: dict[str, object], field: str) -> None:
    """The app learns what to mend; nothing of the event is kept."""
    data = {name: value for name, value in {**DATA.get(kind, {}), **change}.items() if value is not None}
    with pytest.raises(BadEvent) as caught:
        receive(kind, data)
    assert caught.value.field == field
    assert caught.value.cause
    assert caught.value.remedy
    assert "alice" not in str(caught.value)


@pytest.mark.parametrize("data", [None, [], "text", 5])
def test_data_that_is_no_object_is_refused(data: object) -> None:
    """Data is an object with the fields of its kind."""
    with pytest.raises(BadEvent, match="data"):
        receive("click", data)


def test_missing_data_is_said_to_be_missing() -> None:
    """Not: is not JSON."""
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "meridian.click.v1", "time": TIME}
    with pytest.raises(BadEvent, match="data: is required and missing"):
        EventReader(PSEUDONYMS).read(read_structured(json.dumps(event).encode()), NOW_MS)


def test_absent_means_zero_in_the_columns() -> None:
    """A click from nowhere carries no ranking, no query and no place."""
    row = receive("click", {"user": "u", "item": "i"}).row
    assert (row.query, row.ranking, row.position, row.body) == ("", NO_RANKING, 0, b"")
