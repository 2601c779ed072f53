"""Frames that were opened before: one record is read by every region, by rebuilt processors and by the collector."""

from __future__ import annotations

from typing import Final

from streams.frame import HEADER_EVENTS, HEADER_VERSION, Columns, Headers, decode_frame, header

_READ_BY_DECODING: Final = (HEADER_VERSION, HEADER_EVENTS)


class OpenedFrames:
    """`decode_frame` for one world: what it says depends on nothing but the value and two headers, so it says it once.

    What it returns is read-only, so that whoever has it cannot change what others have.
    """

    def __init__(self) -> None:
        self._opened: dict[tuple[bytes | None, bytes | None, bytes | None], Columns] = {}

    def __call__(self, value: bytes | None, headers: Headers) -> Columns:
        """See decode_frame; what it raises is raised every time."""
        version, events = (header(headers, name) for name in _READ_BY_DECODING)
        key = value, version, events
        found = self._opened.get(key)
        if found is None:
            found = self._opened[key] = decode_frame(value, headers)
        return found
