"""Where a segment of a Kafka log can be cut: after a whole batch of records, as a file system leaves it at best."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_HEADER = struct.Struct(">qiibIhi")
"""Base offset, length, leader epoch, magic, checksum, attributes, last offset's distance: how a batch begins."""
_BYTES_BEFORE_LENGTH_COUNTS = 12


@dataclass(frozen=True, slots=True)
class SegmentCut:
    """What is taken from the end of one partition's newest segment."""

    path: Path
    size: int
    """Bytes that stay."""
    found: int
    """Offset at which the log will end."""
    was: int
    """Offset at which it ended."""

    @property
    def records(self) -> int:
        """How many are taken."""
        return self.was - self.found

    @property
    def partition(self) -> str:
        """The directory's name: log and partition."""
        return self.path.parent.name


def newest_segment(partition: Path) -> Path | None:
    """The segment that a partition's directory ends with; None when there is none."""
    return max(partition.glob("*.log"), key=lambda path: path.name, default=None)


def plan_cut(segment: Path, records: int) -> SegmentCut | None:
    """How to take at least so many records from the end, or all there are; None for an empty segment. Blocks."""
    data = segment.read_bytes()
    begins: list[tuple[int, int]] = []
    at, end = 0, int(segment.stem)
    while at + _HEADER.size <= len(data):
        base, length, _, _, _, _, distance = _HEADER.unpack_from(data, at)
        if length <= 0 or at + _BYTES_BEFORE_LENGTH_COUNTS + length > len(data):
            break  # a batch that was not written whole: the broker drops it by itself
        begins.append((at, base))
        end = base + distance + 1
        at += _BYTES_BEFORE_LENGTH_COUNTS + length
    if not begins:
        return None
    size, found = next((begin for begin in reversed(begins) if end - begin[1] >= records), begins[0])
    return SegmentCut(segment, size, found, end)


def carry_out(cut: SegmentCut) -> None:
    """Take it away. The broker that wrote the segment must not run. Blocks. Raises OSError.

    A new file takes the segment's place: what a broker has sent from a file and nobody has received yet are the file's
    own pages in memory, and cutting it in place would put zeros into what a copier receives. Power loss does not.
    """
    beside = cut.path.with_suffix(".cut")
    beside.write_bytes(cut.path.read_bytes()[: cut.size])
    beside.replace(cut.path)
