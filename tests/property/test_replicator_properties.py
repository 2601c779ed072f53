"""Whatever happens to a copier and in whatever order: readers of the copy take the origin's records, once, in order."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from services.replicator.positions import Last
from tests.support.copied_world import Copier, CopyLog, OriginLog

CRASHES = ["append", "step", "carry", "deliver", "crash", "crash after writing", "refuse"]


class World:
    """A random history of one copier; the invariant is checked after each step."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.origin, self.copy = OriginLog(), CopyLog()
        self.copier = Copier(self.origin, self.copy)
        self.other: Copier | None = None
        self.kept: Last | None = None
        self.steps: dict[str, Callable[[], object]] = {
            "append": lambda: self.origin.append(self.some(5)),
            "step": self.step,
            "carry": lambda: self.copier.carry(self.some(4)),
            "deliver": lambda: self.copier.deliver(self.some(3)),
            "crash": self.crash,
            "crash after writing": lambda: self.crash(written=self.some(3)),
            "refuse": self.refuse,
            "second": self.second,
            "lose copy": self.lose_copy,
            "cut": lambda: self.origin.cut(self.some(7)),
        }

    def run(self, steps: int, events: list[str]) -> None:
        """Do `steps` of `events`."""
        for _ in range(steps):
            self.copier.poll()
            self.steps[self.chance.choice(events)]()
            self.check()

    def some(self, count: int) -> int:
        """From 1 to `count`."""
        return self.chance.randint(1, count)

    def step(self) -> None:
        """One decision of the copier that runs now."""
        self.copier.step()

    def crash(self, written: int = 0) -> None:
        """End at once; some of what was sent may have been written. The next start finds an old checkpoint, or none."""
        self.copier.deliver(written, is_reported=False)
        self.kept = self.chance.choice([self.kept, self.copier.checkpoint(), None])
        again = Copier(self.origin, self.copy, self.kept, self.copier.now)
        again.control.bounds = self.copier.control.bounds
        self.copier = again

    def refuse(self) -> None:
        """The own broker takes some of what was sent, and then is away for too long."""
        self.copier.deliver(self.some(3) - 1)
        self.copier.refuse()

    def second(self) -> None:
        """Another copier does some work."""
        other = self.other = self.other or Copier(self.origin, self.copy, now=self.copier.now)
        other.poll()
        for _ in range(4):
            other.step()
        other.carry(self.some(4))
        other.deliver(self.some(4))

    def lose_copy(self) -> None:
        """The copy loses its end."""
        del self.copy.records[self.chance.randrange(len(self.copy.records) + 1) :]

    def check(self) -> None:
        """What readers take is what was acknowledged first."""
        taken = self.copy.prefix()
        assert taken == self.origin.first_values[: len(taken)]

    def check_complete(self) -> None:
        """Left alone, the copier brings everything."""
        self.copier.settle()
        assert self.copy.prefix() == [record.value for record in self.origin.records]
        assert self.copier.control.held == len(self.origin.records)


SEEDS = st.integers(0, 2**32)
STEPS = st.integers(10, 150)


@settings(max_examples=200, deadline=None)
@given(SEEDS, STEPS)
def test_crashes_and_a_second_copier_lose_and_double_nothing(seed: int, steps: int) -> None:
    """Ends at every step, lost reports, stale checkpoints, somebody else who writes."""
    world = World(seed)
    world.run(steps, [*CRASHES, "second"])
    world.check_complete()


@settings(max_examples=200, deadline=None)
@given(SEEDS, STEPS)
def test_a_copy_that_loses_its_end_is_filled_again(seed: int, steps: int) -> None:
    """At any moment, also while records are on their way."""
    world = World(seed)
    world.run(steps, [*CRASHES, "lose copy"])
    world.check_complete()


@settings(max_examples=200, deadline=None)
@given(SEEDS, STEPS)
def test_what_was_written_over_a_cut_is_never_taken(seed: int, steps: int) -> None:
    """The origin is cut again and again and written over: the copy gives what was acknowledged first, or stops."""
    world = World(seed)
    world.run(steps, [*CRASHES, "cut", "append"])
    world.copier.settle()
    world.check()
    first, now = world.origin.first_values, [record.value for record in world.origin.records]
    if first == now:
        assert world.copier.control.held == len(first)
    else:
        assert world.copier.control.is_stopped
