"""Frames that were opened before are what the shipped decoder says, and what it refuses stays refused."""

from __future__ import annotations

import pytest

from region_sim.memory.frames import OpenedFrames
from streams.errors import FrameCorrupt
from streams.frame import EventRow, decode_frame, encode_frame, frame_headers
from streams.kinds import Kind


def frame(count: int) -> bytes:
    """Some events."""
    return encode_frame([EventRow(bytes([n]) * 16, n, n, n, Kind.CLICK, item=f"item-{n}") for n in range(count)])


def test_a_frame_is_opened_once_whoever_reads_it() -> None:
    """Nobody can change what others read, either."""
    opened, value = OpenedFrames(), frame(3)
    first = opened(value, frame_headers(3, "key"))
    # A copy has the same bytes, and headers that say where it comes from.
    again = opened(bytes(bytearray(value)), [*frame_headers(3, "key"), ("meridian-origin", b"7")])
    assert again is first
    there = decode_frame(value, frame_headers(3, "key"))
    assert [first.row(n) for n in range(3)] == [there.row(n) for n in range(3)]
    with pytest.raises(ValueError, match="read-only"):
        first.time_ms[0] = 1


def test_the_same_bytes_under_other_headers_are_judged_anew() -> None:
    """What was right once excuses no record that promises something else."""
    opened, value = OpenedFrames(), frame(3)
    opened(value, frame_headers(3, "key"))
    for _ in range(2):
        with pytest.raises(FrameCorrupt, match="holds 3 events"):
            opened(value, frame_headers(4, "key"))
        with pytest.raises(FrameCorrupt):
            opened(value, [])
