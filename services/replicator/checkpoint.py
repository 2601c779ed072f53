"""Where the copies were, kept on disk: so that a start walks seconds of them instead of all.

A checkpoint is a hint that must prove itself: the copy has to show the record that it names. So it needs no promise
from the disk; one that is old only lengthens the walk, one that is damaged or missing makes it a whole one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from services.common.logging import get_logger
from services.replicator.blocks import BlockSums
from services.replicator.positions import CopyState, Last

log = get_logger(__name__)


class PartitionPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of a copied log, or of an own one."""

    partition: int
    last: Last | None
    bounds: list[tuple[int, int]]
    topic_id: str = ""
    """Of the topic at the origin, when the origin was last read."""


class LogPoint(msgspec.Struct, frozen=True):
    """All partitions of one log."""

    log: str
    partitions: list[PartitionPoint]
    last_contact_ms: int = 0
    """When the origin last answered, as this life; the partitions' bounds are no older."""


def state_of(last: Last | None, sums: dict[int, int]) -> CopyState:
    """The state that a walk begins with. Strays after the last accepted record are read again."""
    if last is None:
        return CopyState()
    blocks = BlockSums(running=last.running, whole=last.whole, done=sums)
    return CopyState(next_offset=last.end, copy_end=last.copy_offset + 1, last=last, blocks=blocks)


class Checkpoints:
    """The files under one directory: `LOG.json` is replaced as a whole, `LOG.blocks` grows by a line a block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, name: str) -> dict[int, PartitionPoint]:
        """What is known of a log, by partition; empty when nothing is, or nothing that can be read."""
        return {point.partition: point for point in self._read(name).partitions}

    def load_contact(self, name: str) -> int:
        """Unix ms of the last contact with a log's origin that was kept; 0 when none was."""
        return self._read(name).last_contact_ms

    def _read(self, name: str) -> LogPoint:
        path = self._directory / f"{name}.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=LogPoint)
        except FileNotFoundError:
            return LogPoint(name, [])
        except (OSError, msgspec.DecodeError) as error:
            log.warning("a checkpoint cannot be read, the whole copy is walked instead", path=str(path), why=str(error))
            return LogPoint(name, [])

    def load_blocks(self, name: str, partition: int, before: int) -> dict[int, int]:
        """Checksums of the blocks of one partition below block `before`; what is missing is not compared."""
        try:
            lines = (self._directory / f"{name}.blocks").read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return {}
        found = {}
        for line in lines:
            parts = line.split(" ")
            if len(parts) == 3 and len(parts[2]) == 16 and parts[0] == str(partition) and int(parts[1]) < before:
                found[int(parts[1])] = int(parts[2], 16)
        return found

    def save(
        self,
        name: str,
        points: Iterable[PartitionPoint],
        fresh: Iterable[tuple[int, int, int]],
        last_contact_ms: int = 0,
    ) -> None:
        """Keep the points, and the blocks (partition, number, checksum) that were completed since. Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{partition} {block} {checksum:016x}\n" for partition, block, checksum in fresh)
        if lines:
            with (self._directory / f"{name}.blocks").open("a") as file:
                file.write(lines)
        beside = self._directory / f"{name}.json.new"
        beside.write_bytes(msgspec.json.encode(LogPoint(name, list(points), last_contact_ms)))
        beside.replace(self._directory / f"{name}.json")
