"""Standing still at a frontier for a moment, partition by partition, so that a digest there can be compared.

Two regions read the same logs in different orders, and hardly ever stand at the same frontier by themselves. So whoever
wants to compare names one: each partition then stops exactly there, while the others go on until they are there too.
What comes meanwhile is kept, in order, and taken as soon as the hold ends. A hold is bounded in time by whoever asks
for it, and in size here: one that keeps back too much is given up.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Generic, TypeVar

from streams.position import Frontier
from streams.truncation import Place

KEPT_MAX: Final = 20_000
"""Records that may be kept back; more are a hold that lasts too long."""

_Record = TypeVar("_Record")


class Hold(Generic[_Record]):
    """What one hold keeps back. `target` says where each partition stops; one that it leaves out stops at 0."""

    def __init__(self, target: Mapping[Place, int], kept_max: int = KEPT_MAX) -> None:
        self._target = dict(target)
        self._kept_max = kept_max
        self.kept: list[_Record] = []
        self.settled = asyncio.Event()
        """The target is reached, or cannot be reached any more."""
        self.given_up = False

    def move(self, target: Mapping[Place, int]) -> None:
        """From now on every partition stops at `target`."""
        self._target = dict(target)
        self.settled.clear()

    def keeps_back(self, place: Place, end: int) -> bool:
        """Whether taking a record up to `end` would move its partition past the target."""
        return not self.given_up and end > self._target.get(place, 0)

    def keep(self, record: _Record) -> None:
        """Take `record` later."""
        self.kept.append(record)
        if len(self.kept) >= self._kept_max:
            self.given_up = True
            self.settled.set()

    def moved(self, now: Frontier) -> None:
        """The frontier is at `now`: see whether this is it."""
        if self.reached(now) or self.passed(now):
            self.settled.set()

    def reached(self, now: Frontier) -> bool:
        """Whether every partition stands exactly where it was asked to."""
        return all(now[place] == self._target.get(place, 0) for place in {*self._target, *now})

    def passed(self, now: Frontier) -> bool:
        """Whether some partition is further than it was asked to be."""
        return any(next_offset > self._target.get(place, 0) for place, next_offset in now.items())
