"""The contract of a fault: inject it, see that it took, heal it, see that it is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from region_sim.backends.hands import Hands
from services.common.clock import Clock


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a fault strikes."""

    backend: Hands
    clock: Clock
    target: str
    """A site."""
    regions: list[str]


class FaultPlay(Protocol):
    """One fault on one site."""

    region_lost: bool
    """Whether the others lose the whole region, so that a takeover and a receipt are due."""

    async def inject(self) -> str:
        """Break it; returns what was done, for the history. Raises RegionSimError."""

    async def not_injected(self) -> str | None:
        """Why the fault did not take; None when it did."""

    async def heal(self) -> None:
        """Undo it, as far as that is for an operator. Raises RegionSimError."""

    async def not_healed(self) -> str | None:
        """Why the fault itself is still there; None when it is gone. Recovery of the regions is another question."""


async def wait_until_none(clock: Clock, ask: AskAgain, seconds_max: float, interval_seconds: float) -> str | None:
    """Ask until the answer is None (nothing is wrong) or time is over; returns the last answer."""
    deadline = clock.monotonic() + seconds_max
    while True:
        problem = await ask()
        if problem is None or clock.monotonic() >= deadline:
            return problem
        await clock.sleep(interval_seconds)


class AskAgain(Protocol):
    """A question that can be asked again and again."""

    async def __call__(self) -> str | None:
        """Return what is wrong; None when nothing is."""
