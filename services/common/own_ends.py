"""How far a region's own log is acknowledged, as its own disk knows it, whatever becomes of the broker's page cache.

Two slots of one file, written in turn and in place: each has a number and a checksum, the newest whole one counts. So a
writing that was torn by a power loss leaves the one before, which is all that anybody was answered on; and once the
file is made, a full disk is no obstacle. (A new file renamed over the old would need room, and twice the writings.)
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

DIRECTORY: Final = "acknowledged"
_HEADER: Final = struct.Struct(">QII")
"""Number of the writing, length and checksum of what follows: JSON, ends by partition."""
_BLOCK_BYTES: Final = 4096
_PARTITION_BYTES_MAX: Final = 32
"""Two numbers with their punctuation, as JSON."""
_decoder: Final = msgspec.json.Decoder(dict[int, int])


class OwnEndsDamaged(OSError):
    """Neither slot is whole: a disk did that, no power loss."""


def path_of(data_dir: Path, log: str) -> Path:
    """Return where a region keeps the ends of one of its logs."""
    return data_dir / DIRECTORY / f"{log}.ends"


def read_own_ends(data_dir: Path, log: str) -> dict[int, int]:
    """Return the acknowledged ends by partition; empty when none were ever kept.

    Raises OSError; OwnEndsDamaged when the file says nothing that can be believed.
    """
    return _newest(path_of(data_dir, log))[1]


class OwnEnds:
    """The file of one log, open for writing. One process writes it. Blocks. Raises OSError."""

    def __init__(self, data_dir: Path, log: str, partitions: int) -> None:
        path = path_of(data_dir, log)
        needed = _HEADER.size + 2 + partitions * _PARTITION_BYTES_MAX
        self._slot_bytes = -(-needed // _BLOCK_BYTES) * _BLOCK_BYTES
        if not path.exists():
            _make(path, 2 * self._slot_bytes)
        self._slot_bytes = path.stat().st_size // 2
        self._file = os.open(path, os.O_RDWR)
        try:
            # A process that was killed may have left a writing that only the page cache has. The next one goes over the
            # slot before it: torn by a power loss, that would leave neither, and what is two writings old.
            os.fsync(self._file)
            self._number = _newest(path)[0]
        except OSError:
            os.close(self._file)
            raise

    def write(self, ends: Mapping[int, int]) -> None:
        """Keep these; they are on the disk when this returns."""
        body = msgspec.json.encode(dict(ends))
        self._number += 1
        slot = _HEADER.pack(self._number, len(body), _checksum(self._number, body)) + body
        if len(slot) > self._slot_bytes:
            raise OSError(f"{len(ends)} partitions do not fit into {self._slot_bytes} bytes")
        os.pwrite(self._file, slot, self._number % 2 * self._slot_bytes)
        os.fdatasync(self._file)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)


def _make(path: Path, size: int) -> None:
    """Make the file with all the room that it will need, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(bytes(size))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    for place in (path.parent, path.parent.parent):  # the directory may be as new as the file
        directory = os.open(place, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _newest(path: Path) -> tuple[int, dict[int, int]]:
    """Return the number of the last whole writing and what it says; 0 and nothing when there was none."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return 0, {}
    middle = len(raw) // 2
    whole = [found for half in (raw[:middle], raw[middle:]) if (found := _slot(half)) is not None]
    if not whole:
        raise OwnEndsDamaged(
            f"{path} is damaged: how far the log was acknowledged is not known. Put it back from a copy, or remove it "
            "to go by what the coordination store and other regions know"
        )
    return max(whole, key=lambda found: found[0])


def _slot(raw: bytes) -> tuple[int, dict[int, int]] | None:
    """Number and ends; 0 and nothing where nothing was written yet; None: torn, or damaged."""
    if len(raw) < _HEADER.size:
        return None
    number, length, checksum = _HEADER.unpack_from(raw)
    body = raw[_HEADER.size : _HEADER.size + length]
    if not number:
        return 0, {}
    return (number, _decoder.decode(body)) if _checksum(number, body) == checksum else None


def _checksum(number: int, body: bytes) -> int:
    return zlib.crc32(body, number & 0xFFFFFFFF)
