"""How far is the inbox moved? The pure core of the worker: no clock, no I/O.

What is read in one go from one partition is a run. Its events spread over frames of many partitions, which are
acknowledged in any order. A run is settled when each of its records has an outcome, and the position moves over settled
runs in the order in which they were read, never past one that waits. So whoever goes on at the position again reads
every record that has no outcome, and perhaps some that have one: those are the same events, and count once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

Place = tuple[int, int]
"""Partition and offset of a frame in the events log."""
NOT_MOVED: Final[Place] = (-1, -1)


class Run:
    """Records of one partition, read in one go. `offsets` grow, and may have holes: of transactions."""

    __slots__ = (
        "end",
        "epoch",
        "frames",
        "indexes",
        "left",
        "offsets",
        "oldest_ms",
        "partition",
        "refused",
        "said",
        "size_bytes",
        "told",
    )

    def __init__(
        self, partition: int, offsets: Sequence[int], oldest_ms: int, size_bytes: int = 0, epoch: int = -1
    ) -> None:
        self.partition = partition
        self.size_bytes = size_bytes
        self.epoch = epoch
        """The leader epoch under which the last of them was written; -1: not known."""
        self.offsets = offsets
        self.end = offsets[-1] + 1
        self.oldest_ms = oldest_ms
        self.left = len(offsets)
        self.frames: list[Place] = [NOT_MOVED] * len(offsets)
        self.indexes = [0] * len(offsets)
        self.refused: dict[int, str] = {}
        """By offset: why a record went to the dead log."""
        self.told = False
        """Whether its receipt is under way."""
        self.said = False
        """Whether that is delivered."""

    def moved(self, slot: int, frame: Place, index: int) -> None:
        """One record is in an acknowledged frame."""
        self.frames[slot] = frame
        self.indexes[slot] = index
        self.left -= 1

    def buried(self, slot: int, reason: str) -> None:
        """One record is in the dead log."""
        self.refused[self.offsets[slot]] = reason
        self.left -= 1


class Runs:
    """All that is under way, by partition of the inbox."""

    def __init__(self) -> None:
        self._runs: dict[int, deque[Run]] = {}
        self.positions: dict[int, int] = {}
        """By partition: the next offset to be moved."""
        self.epochs: dict[int, int] = {}
        """By partition: the leader epoch of the record before that."""
        self.waiting = 0
        """Records in runs that did not leave yet."""
        self.waiting_bytes = 0

    def begin(self, partition: int, position: int, epoch: int = -1) -> None:
        """Go on here. What was under way in this partition is forgotten: it is read again."""
        for run in self._runs.get(partition, ()):
            self._left(run)
        self._runs[partition] = deque()
        self.positions[partition] = position
        self.epochs[partition] = epoch

    def take(self, run: Run) -> None:
        """A run was read."""
        self._runs[run.partition].append(run)
        self.waiting += len(run.offsets)
        self.waiting_bytes += run.size_bytes

    def reach(self, partition: int, offset: int) -> None:
        """Below `offset` nothing else comes: behind what was taken are marks of transactions, or what they aborted.

        Without this, an inbox that a transaction was written to last would never count as moved.
        """
        runs = self._runs[partition]
        # A mark may be of a later epoch than the record before it, and the library does not say of which.
        if runs and offset > runs[-1].end:
            runs[-1].end, runs[-1].epoch = offset, -1
        elif not runs and offset > self.positions[partition]:
            self.positions[partition], self.epochs[partition] = offset, -1

    def settled(self) -> Iterator[Run]:
        """Runs, oldest first in each partition, that have every outcome and wait to be told."""
        for runs in self._runs.values():
            for run in runs:
                if run.left:
                    break
                if not run.told:
                    yield run

    def advance(self) -> bool:
        """Move the positions over what was settled and told; whether one moved."""
        moved = False
        for partition, runs in self._runs.items():
            while runs and runs[0].said:
                run = runs.popleft()
                self._left(run)
                self.positions[partition], self.epochs[partition] = run.end, run.epoch
                moved = True
        return moved

    def oldest_ms(self) -> int:
        """When the oldest record under way was appended; 0: none is."""
        return min((runs[0].oldest_ms for runs in self._runs.values() if runs), default=0)

    def _left(self, run: Run) -> None:
        self.waiting -= len(run.offsets)
        self.waiting_bytes -= run.size_bytes
