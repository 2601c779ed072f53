"""What a copied record says of itself: the header is the position.

A copy of a log bears the origin's name. Each of its records carries the offset that it has in the origin, and the
leader epoch under which it was written there. As a log has one writer and copies start at zero, a copy's own offset
equals the origin's as a rule; that is used to find a place quickly, and never relied on.

A gap that an operator accepted stands in the copy as a HOLE record: every reader steps over the same range.
"""

import struct
from typing import Final, NamedTuple

from streams.headers import Headers, header

HEADER_ORIGIN: Final = "meridian-origin"
"""Offset in the origin log and leader epoch there: 8 and 4 bytes, little-endian, signed."""
HEADER_HOLE: Final = "meridian-hole"
"""On a record without a value: the first offset after the hole, 8 bytes, little-endian, signed."""

_ORIGIN: Final = struct.Struct("<qi")
_HOLE: Final = struct.Struct("<q")


class Origin(NamedTuple):
    """Where a record stands in the log in which it was first written."""

    offset: int
    leader_epoch: int
    """-1 when the client library did not say."""


def origin_header(origin: Origin) -> tuple[str, bytes]:
    """The header that makes a record a copy."""
    return HEADER_ORIGIN, _ORIGIN.pack(origin.offset, origin.leader_epoch)


def origin_of(headers: Headers) -> Origin | None:
    """Where a copied record comes from; None for a record that was written here. Raises ValueError when malformed."""
    raw = header(headers, HEADER_ORIGIN)
    if raw is None:
        return None
    if len(raw) != _ORIGIN.size:
        raise ValueError(f"{HEADER_ORIGIN} has {len(raw)} bytes instead of {_ORIGIN.size}")
    return Origin(*_ORIGIN.unpack(raw))


def hole_headers(start: int, end: int) -> list[tuple[str, bytes]]:
    """The headers of a record that stands for the offsets `[start, end)` of the origin, which nobody holds."""
    if not 0 <= start < end:
        raise ValueError(f"a hole from {start} to {end} is none")
    return [origin_header(Origin(start, -1)), (HEADER_HOLE, _HOLE.pack(end))]


def hole_end(headers: Headers) -> int | None:
    """The first offset after the hole that a record stands for; None for any other record. Raises ValueError."""
    raw = header(headers, HEADER_HOLE)
    if raw is None:
        return None
    if len(raw) != _HOLE.size:
        raise ValueError(f"{HEADER_HOLE} has {len(raw)} bytes instead of {_HOLE.size}")
    return int(_HOLE.unpack(raw)[0])


class Span(NamedTuple):
    """The offsets `[start, end)` of the origin log that one record stands for."""

    start: int
    end: int
    is_hole: bool = False


def span_of(offset: int, headers: Headers) -> Span:
    """What the record at `offset` of this log stands for.

    Raises ValueError when a header is malformed: what the record is then cannot be told.
    """
    origin = origin_of(headers)
    start = offset if origin is None else origin.offset
    end = hole_end(headers)
    if start < 0 or (end is not None and end <= start):
        raise ValueError(f"a record cannot stand for the offsets from {start} to {end}")
    return Span(start, start + 1) if end is None else Span(start, end, is_hole=True)
