"""A clock that stands still, and rights that a test gives and takes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from services.controller.client import NO_EPOCH, Epoch, Leader, Term

DENIED = Term(active=False, epoch=NO_EPOCH, deadline=0.0, reason="west holds the lease")


class StoppedClock:
    """Moves when a test says so; all kinds of time together."""

    def __init__(self, unix_ms: int = 1_800_000_000_000, boottime: float = 1_000.0) -> None:
        self._unix_ms = unix_ms
        self._boottime = boottime

    def unix_ms(self) -> int:
        """See Clock."""
        return self._unix_ms

    def monotonic(self) -> float:
        """See Clock."""
        return self._boottime

    def boottime(self) -> float:
        """See Clock."""
        return self._boottime

    async def sleep(self, seconds: float) -> None:
        """See Clock."""
        self.advance(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._boottime += seconds
        self._unix_ms += round(seconds * 1000)


@dataclass
class GivenRights:
    """`services.gateway.routing.Rights` as a test says."""

    held: Term = DENIED
    leader: Leader | None = None
    largest_epoch: Epoch = NO_EPOCH
    age: float | None = 0.1

    def term(self) -> Term:
        """See Rights."""
        return self.held

    def view_age_seconds(self) -> float | None:
        """See Rights."""
        return self.age

    def give(self, epoch: Epoch, *, deadline: float = float("inf"), serving: bool = True) -> None:
        """Make the own region active."""
        self.held = Term(active=True, epoch=epoch, deadline=deadline, reason="")
        self.largest_epoch = max(self.largest_epoch, epoch)
        self.leader = Leader(region="east", epoch=epoch, gateway_url="http://east:8080", serving=serving)

    def take(self, leader: Leader | None = None, reason: str = "west holds the lease") -> None:
        """Make it passive."""
        self.held = replace(DENIED, reason=reason)
        self.leader = leader
