"""Until when a holder may act: arithmetic only, so that it can be checked line by line.

A lease gives liveness, never safety. The store counts a lease from when it *received* the last keep-alive, which is
not before the holder *sent* it. A holder that counts from before sending, on a clock that goes on through suspends,
and stops a little earlier than that, has therefore stopped before anybody else can start:

    D = s + T (1 - rho) - sigma        act only while now < D

s: BOOTTIME before sending the last keep-alive that was answered with a time to live; T: the time to live in that
answer; rho: by how much clocks may run at different rates; sigma: what an effect under way may still take.
Counting from the answer was turned down: a process that was stopped between the two would act too long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NEVER: Final = float("-inf")
"""The deadline of who may not act; 0 would lie in the future of no clock but in the past of every one, on most days."""


@dataclass(frozen=True, slots=True)
class FenceTimes:
    """The two allowances of the formula."""

    rate_bound: float
    """rho"""
    quiesce_seconds: float
    """sigma"""


@dataclass(frozen=True, slots=True)
class Reading:
    """Both clocks, read one after the other."""

    unix_ms: int
    boottime: float


def act_until(sent_at: float, ttl_seconds: float, times: FenceTimes) -> float:
    """Return D, on the clock of `sent_at`; NEVER for an answer without a time to live."""
    if ttl_seconds <= 0:
        return NEVER
    return sent_at + ttl_seconds * (1 - times.rate_bound) - times.quiesce_seconds


def clock_jump(before: Reading, after: Reading, times: FenceTimes) -> str | None:
    """Return why the time between two readings cannot be trusted, or None.

    Wall time and boot time run together but for slewing. When they part, one of them was set, or the machine was
    paused in a way that its own clock did not notice, and then a deadline on that clock is worth nothing.
    """
    by_wall = (after.unix_ms - before.unix_ms) / 1000
    by_boot = after.boottime - before.boottime
    allowed = times.quiesce_seconds + times.rate_bound * max(by_boot, 0.0)
    parted = by_wall - by_boot
    if abs(parted) <= allowed:
        return None
    return f"wall time went {parted:+.3f} s away from boot time (at most {allowed:.3f} s): the machine may have paused"
