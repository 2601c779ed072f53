"""The largest epoch seen, below which no answer is shown any more.

An epoch is the number of one term of one region's leadership. A region that was stopped, or cut off, and does not know
yet that another one has taken over may still answer; its answers carry the smaller epoch. The gateways fence such
answers themselves; this is the last fence, in the one place that sees the answers of all regions."""

from __future__ import annotations

Epoch = tuple[int, int]


class EpochFloor:
    """Only ever rises."""

    def __init__(self) -> None:
        self.largest: Epoch | None = None
        """None before the first answer."""
        self.stale_answers = 0
        """Answers that were refused for their epoch."""

    def note(self, epoch: Epoch) -> None:
        """A region acts, or acted, under this epoch."""
        if self.largest is None or epoch > self.largest:
            self.largest = epoch

    def accept(self, epoch: Epoch) -> bool:
        """Whether an answer under this epoch may be shown; it counts from now on."""
        if self.largest is not None and epoch < self.largest:
            self.stale_answers += 1
            return False
        self.note(epoch)
        return True
