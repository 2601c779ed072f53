"""Remembering that a log was cut, so that a restart does not forget it.

A state that was rebuilt from a log that was cut and written again looks whole. Whoever noticed the cut therefore leaves
a mark beside the snapshots, and no processor starts over it until it was dealt with: by an operator, or by the region's
next life. With the mark stands what the reader knew of each partition, so that a later start can still tell where the
genuine part ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from streams.errors import LogTruncated
from streams.truncation import Mark, Place

NAME = "LOG_WAS_CUT.json"


class CutMark(msgspec.Struct, frozen=True):
    """What was noticed."""

    reason: str
    noticed_ms: int
    marks: list[tuple[str, int, int, int, int]] = []
    """Rows `[log, partition, next offset, checksum of the last record, its leader epoch]`."""

    @property
    def known(self) -> dict[Place, Mark]:
        """The rows as marks."""
        return {(log, partition): Mark(*rest) for log, partition, *rest in self.marks}


def leave_mark(directory: Path, reason: str, noticed_ms: int, marks: Mapping[Place, Mark] | None = None) -> None:
    """Write the mark. The first one stays: it is nearest to the cause."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / NAME
    if not path.exists():
        rows = [(*place, m.next_offset, m.checksum, m.leader_epoch) for place, m in sorted((marks or {}).items())]
        path.write_bytes(msgspec.json.encode(CutMark(reason, noticed_ms, rows)))


def read_mark(directory: Path) -> CutMark | None:
    """The mark in `directory`; None when there is none."""
    path = directory / NAME
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=CutMark)
    except msgspec.DecodeError:
        return CutMark("a log was cut (the mark itself cannot be read)", 0)


def refuse_marked(directory: Path) -> None:
    """Raise LogTruncated when a mark lies in `directory`."""
    mark = read_mark(directory)
    if mark is not None:
        path = directory / NAME
        raise LogTruncated(f"{mark.reason} This was noticed before; after dealing with it, remove {path}.")
