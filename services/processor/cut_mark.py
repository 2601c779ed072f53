"""Remembering that a log was cut, so that a restart does not forget it.

A state that was rebuilt from a log that was cut and written again looks whole. Whoever noticed the cut therefore leaves
a mark beside the snapshots, and no processor starts over it until an operator has dealt with it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from streams.errors import LogTruncated

NAME = "LOG_WAS_CUT.json"


class CutMark(msgspec.Struct, frozen=True):
    """What was noticed."""

    reason: str
    noticed_ms: int


def leave_mark(directory: Path, reason: str, noticed_ms: int) -> None:
    """Write the mark. The first one stays: it is nearest to the cause."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / NAME
    if not path.exists():
        path.write_bytes(msgspec.json.encode(CutMark(reason, noticed_ms)))


def refuse_marked(directory: Path) -> None:
    """Raise LogTruncated when a mark lies in `directory`."""
    path = directory / NAME
    if not path.exists():
        return
    try:
        reason = msgspec.json.decode(path.read_bytes(), type=CutMark).reason
    except msgspec.DecodeError:
        reason = "a log was cut (the mark itself cannot be read)"
    raise LogTruncated(f"{reason} This was noticed before; after dealing with it, remove {path}.")
