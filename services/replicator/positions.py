"""Where a copy is: what its own records say by their headers, and nothing else.

The state of a copied partition is the reader rule applied to the copy's records in their order. It can therefore be
found again at any time, after any crash, by walking the copy; a checkpoint only says where the walk may begin, and the
record there must still be the one that the checkpoint knows. Deliveries feed the same rule, one record at a time.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from services.replicator.blocks import BlockSums
from streams.position import Verdict

Place = tuple[str, int]
"""(log, partition)."""


class Last(NamedTuple):
    """The last record of the contiguous prefix: what a source must show before anything after it is taken."""

    start: int
    """Its offset in the origin log."""
    end: int
    """The first offset after what it stands for; larger than `start + 1` for a hole."""
    checksum: int
    leader_epoch: int
    """At the origin, when it was written there; -1 when unknown."""
    is_hole: bool
    copy_offset: int
    """Where it stands in the copy."""
    running: int = 0
    whole: bool = False
    """Checksum of the block under way after it: with these, a checkpoint is one value that cannot be torn."""


@dataclass(slots=True)
class CopyState:
    """One partition of a copy, as far as it was read or written."""

    next_offset: int = 0
    """Everything of the origin below this is in the copy, contiguous."""
    copy_end: int = 0
    """The offset in the copy after the last record that was read or delivered."""
    last: Last | None = None
    strays: int = 0
    """Records that readers drop: doubled, or out of order."""
    blocks: BlockSums = field(default_factory=BlockSums)

    def read(
        self, copy_offset: int, start: int, end: int, checksum: int, leader_epoch: int, *, is_hole: bool = False
    ) -> Verdict:
        """Apply the reader rule to the record at `copy_offset`, which stands for `[start, end)` of the origin."""
        self.copy_end = copy_offset + 1
        if end <= self.next_offset:
            self.strays += 1
            return Verdict.DUPLICATE
        if start > self.next_offset:
            self.strays += 1
            return Verdict.GAP
        if is_hole:
            self.blocks.skip()
        else:
            self.blocks.take(start, checksum)
        self.next_offset = end
        blocks = self.blocks
        self.last = Last(start, end, checksum, leader_epoch, is_hole, copy_offset, blocks.running, blocks.whole)
        return Verdict.ACCEPTED

    @property
    def walk_from(self) -> int:
        """Where in the copy a walk begins: at the last accepted record, which must be shown again."""
        return self.last.copy_offset if self.last else 0


def shows(last: Last, start: int, checksum: int) -> bool:
    """Whether a record that stands at `start` of the origin is the last one that was taken."""
    return start == last.start and checksum == last.checksum


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far the origin was seen to reach, by leader epoch: the proof of a cut that was written over.

    While the leader of a partition had epoch `e`, it showed an end `E`: every record below `E` was written under `e` or
    before. A record below `E` with a larger epoch took the place of one that is gone.
    """

    seen: tuple[tuple[int, int], ...] = ()
    """(leader epoch, end), by rising epoch; of each epoch the largest end."""

    @property
    def end(self) -> int:
        """The largest end ever seen."""
        if len(self.seen) == 1:
            return self.seen[0][1]
        return max((end for _, end in self.seen), default=0)

    @property
    def leader_epoch(self) -> int:
        """The newest epoch under which an end was seen; -1 before the first."""
        return self.seen[-1][0] if self.seen else -1

    def saw(self, leader_epoch: int, end: int) -> "Bounds":
        """Add what the origin showed."""
        if self.seen and self.seen[-1][0] >= leader_epoch:
            if self.seen[-1][1] >= end:
                return self
            return replace(self, seen=(*self.seen[:-1], (self.seen[-1][0], end)))
        return replace(self, seen=(*self.seen, (leader_epoch, end)))

    def pruned(self, held: int) -> "Bounds":
        """Forget what can judge no record any more: all records below it are held. The largest end stays."""
        if len(self.seen) < 2 or self.seen[0][1] > held:
            return self
        kept = tuple(entry for entry in self.seen[:-1] if entry[1] > held)
        largest = max(self.seen, key=lambda entry: entry[1])
        newest = self.seen[-1]
        return replace(self, seen=(*kept, newest) if largest[1] <= newest[1] or largest in kept else self.seen)

    def replaced_below(self, offset: int, leader_epoch: int) -> int | None:
        """The end that the log had before it was cut, when the record at `offset` proves that; else None."""
        for epoch, end in self.seen:
            if -1 < epoch < leader_epoch and offset < end:
                return end
        return None
