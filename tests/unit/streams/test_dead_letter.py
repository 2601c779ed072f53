"""Dead letters carry the reason and the origin, and fit into a record."""

from streams.dead_letter import (
    HEADER_POSITION,
    HEADER_REASON,
    REASON_BYTES_MAX,
    VALUE_BYTES_MAX,
    DeadLetter,
    bury,
    header_pairs,
    letter_of,
)
from streams.position import Position

ORIGIN = Position("east-1.events", 3, 41)


def test_headers_come_as_pairs_from_any_client_library() -> None:
    """Tuples of aiokafka, the mapping of Faust, confluent's list with absent values, none at all."""
    assert header_pairs({"a": b"1"}) == (("a", b"1"),)
    assert header_pairs([("a", b"1"), ("b", None)]) == (("a", b"1"),)
    assert header_pairs(None) == ()


def test_a_letter_is_read_back_as_it_was_written() -> None:
    """Reason, origin, the record's own headers and bytes."""
    letter = DeadLetter(ORIGIN, "not an Arrow stream", b"\x00\x01", (("meridian-frame", b"1"),))
    assert letter_of(tuple(letter.to_headers()), letter.kept_value) == letter


def test_a_letter_fits_into_a_record_whatever_it_holds() -> None:
    """Long values, reasons and headers are cut or left out, and the reason says so."""
    letter = DeadLetter(ORIGIN, "x" * 5_000, b"v" * (VALUE_BYTES_MAX + 1), (("huge", b"h" * 100_000),))
    headers = dict(letter.to_headers())
    assert len(letter.kept_value) == VALUE_BYTES_MAX
    assert "huge" not in headers
    assert headers[HEADER_REASON].startswith(b"x" * REASON_BYTES_MAX)
    assert b"the first" in headers[HEADER_REASON]
    assert HEADER_POSITION in headers


def test_what_is_no_letter_is_passed_over() -> None:
    """Another program may write to the log."""
    assert letter_of((("other", b"1"),), b"") is None
    assert letter_of(((HEADER_POSITION, b"{not json"),), b"") is None


async def test_burying_writes_to_the_incarnations_dead_log_and_waits() -> None:
    """Letters of a partition share a key, so they stay in order."""
    sent: list[tuple[str, bytes]] = []

    class Delivers:
        async def deliver(self, topic: str, value: bytes, *, key: bytes, headers: object) -> None:
            sent.append((topic, key))

    await bury(Delivers(), "east-1", DeadLetter(ORIGIN, "r", b"v"))
    assert sent == [("east-1.dead", (3).to_bytes(8, "little"))]
