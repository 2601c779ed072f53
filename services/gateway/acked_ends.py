"""How far each partition was acknowledged: the promise against which the log is checked.

Kafka acknowledges from the page cache. After a power loss a log can end before what was acknowledged, under the same
cluster id, and new records then take offsets that were given away already: nobody who only looks at offsets would
ever notice. But offsets that one writer is given grow. So a delivery report at or below an offset that was
acknowledged earlier proves that the log was cut, as does a log that ends before a recorded end. The ends are recorded
outside the log: on the region's own disk before anybody is answered (`ends_keeper`), and in the coordination store, at
most every so often, for those who go on when the region is gone.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from services.coordination.region_record import cut_partitions


@dataclass(frozen=True, slots=True)
class Cut:
    """A log ends, or continued, before what was acknowledged from it."""

    log: str
    partition: int
    acknowledged_end: int
    found: int
    """The log's end, or the offset that a new record was given."""
    leader_epoch: int = -1
    """Under which it is written since; -1: not known."""

    def __str__(self) -> str:
        lost = self.acknowledged_end - self.found
        return (
            f"{self.log}/{self.partition} was acknowledged up to offset {self.acknowledged_end}, but stands at "
            f"{self.found}: at least {lost} acknowledged record(s) are gone"
        )


WHAT_TO_DO = (
    "The log was cut (power loss, restored or deleted files?). Nothing more is accepted, so that nothing is built on "
    "the gap. Put back the missing segment files of this log from a copy and start again; if there is none, keep the "
    "data directory for the receipt and start the region's next incarnation with an empty one."
)


class AckedEnds:
    """Next offset after the last acknowledged record, by partition; never goes down."""

    def __init__(self, log: str, recorded: Mapping[int, int]) -> None:
        self._log = log
        self._ends = dict(recorded)
        self._unknown: dict[int, int] = {}
        """Records since the last acknowledgement of which nobody knows whether they were written."""
        self._cuts: dict[int, Cut] = {}
        """By partition, once one is proven: whatever comes after lies behind it, however far it reaches."""
        self.changed = asyncio.Event()
        """Set while there is something that `take_changes` would return."""

    def acknowledge(self, partition: int, offset: int) -> Cut | None:
        """Take note of a delivery report; returns the cut that it proves. A cut is not taken note of."""
        end = self._ends.get(partition, 0)
        if offset < end and partition not in self._cuts:
            # Records of unknown outcome may lie between the cut and this one: what is genuine ends below them.
            self._cuts[partition] = Cut(self._log, partition, end, max(0, offset - self._unknown.get(partition, 0)))
        if partition in self._cuts:
            return self._cuts[partition]
        self._ends[partition] = offset + 1
        self._unknown.pop(partition, None)
        self.changed.set()
        return None

    def reach(self, found: Mapping[int, int]) -> None:
        """Take note of where the log ends at the start: an earlier process may have acknowledged all of it."""
        for partition, end in found.items():
            if end > self._ends.get(partition, 0):
                self._ends[partition] = end
                self.changed.set()

    def unknown(self, partition: int) -> None:
        """A record was sent, and nobody knows whether it was written."""
        self._unknown[partition] = self._unknown.get(partition, 0) + 1

    def compare(self, found: Mapping[int, int]) -> list[Cut]:
        """Hold the log's ends, by partition, against what was acknowledged."""
        return [Cut(self._log, p, end, stands) for p, end, stands in cut_partitions(self._ends, found)]

    def genuine(self, found: Mapping[int, int]) -> list[Cut]:
        """As `compare`, for a log that is known to be cut: records of unknown outcome may have filled the gap up."""
        found = {p: max(0, stands - self._unknown.get(p, 0)) for p, stands in found.items()}
        return self.compare(found)

    def all(self) -> dict[int, int]:
        """The ends as they are now."""
        return dict(self._ends)

    def take_changes(self) -> dict[int, int] | None:
        """All ends if any changed since the last call, else None."""
        if not self.changed.is_set():
            return None
        self.changed.clear()
        return dict(self._ends)

    def give_back(self) -> None:
        """What `take_changes` returned could not be recorded: return it again."""
        self.changed.set()
