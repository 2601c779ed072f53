"""Checksums over blocks of a thousand records, the same in every region that holds them.

Each block has its own rolling checksum, over the record checksums in the order of origin offsets. So a record that is
lost, doubled, moved or changed shows as one block that differs, and the block's number says where to look. A chain over
the whole log, the alternative, would differ from there on for ever, and an accepted hole would end all comparing.
"""

import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import xxhash

BLOCK_RECORDS: Final = 1000

_STEP: Final = struct.Struct("<QQ")


@dataclass(slots=True)
class BlockSums:
    """The blocks of one partition. Feed it every record once, in order; it has no other memory than what is here."""

    running: int = 0
    """Checksum of the block under way."""
    whole: bool = False
    """Whether the block under way was seen from its first record, without a hole."""
    done: dict[int, int] = field(default_factory=dict)
    """Checksums of complete blocks by number; one with a hole in it is not among them."""
    fresh: deque[int] = field(default_factory=deque)
    """Numbers of blocks that were completed since somebody last took them from here."""

    def take(self, offset: int, checksum: int) -> None:
        """Add the record at `offset`."""
        place = offset % BLOCK_RECORDS
        if place == 0:
            self.running, self.whole = offset, True
        self.running = xxhash.xxh3_64_intdigest(_STEP.pack(self.running, checksum))
        if place == BLOCK_RECORDS - 1 and self.whole:
            block = offset // BLOCK_RECORDS
            self.done[block] = self.running
            self.fresh.append(block)

    def skip(self) -> None:
        """A hole comes next: the block under way will not be comparable."""
        self.whole = False


@dataclass(frozen=True, slots=True)
class Difference:
    """A block that two regions hold with different content."""

    log: str
    partition: int
    block: int
    ours: int
    theirs: int

    def __str__(self) -> str:
        first = self.block * BLOCK_RECORDS
        return (
            f"{self.log}/{self.partition}: the records {first} to {first + BLOCK_RECORDS - 1} differ "
            f"(checksum {self.ours:016x} here, {self.theirs:016x} there)"
        )


def differences(log: str, partition: int, ours: Mapping[int, int], theirs: Mapping[int, int]) -> list[Difference]:
    """Every block that both hold and that is not the same."""
    return [
        Difference(log, partition, block, ours[block], checksum)
        for block, checksum in sorted(theirs.items())
        if ours.get(block, checksum) != checksum
    ]
