"""What a canary's way says about a region: the judgement, and the words for people. No I/O, no clock.

A canary has reached its goal when it came as far as this region may go: to an answer while it may act, up to the gate
while it may not. So a region that holds the lease and stops its own canaries at the gate is not serving, whatever its
processes say of themselves. What was scored on a lower rung has arrived, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from services.gateway.client import CanaryAnswer

OLD_SECONDS: Final = 30.0
"""A reading that is older is shown as its age. Beyond the pauses between two canaries and between two tellings."""
Reached = Literal["answer", "gate", ""]
Epoch = tuple[int, int]


class CanaryReading(msgspec.Struct, frozen=True, kw_only=True):
    """What the newest canary of a region said, and how many there were since its controller was started."""

    at_ms: int
    """When it was sent."""
    reached: Reached
    """Empty: it was lost, or could not be sent."""
    latency_ms: float | None
    sent: int
    lost: int
    problem: str
    """Why it was lost, or what else is wrong; empty when all is well."""
    unknown: bool = False
    """Whether it could not be sent, so that nothing is known: neither a loss nor a success."""

    def says_the_same(self, other: CanaryReading | None) -> bool:
        """Whether it is no news beside `other`: numbers that run by themselves are none."""
        return other is not None and (self.reached, self.problem) == (other.reached, other.problem)


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one canary."""

    reached: Reached
    lost: bool
    problem: str


def judge(found: CanaryAnswer, acted: Epoch | None, acts: Epoch | None) -> Judged:
    """Hold how far it came against how far it had to come.

    `acted`, `acts`: the epoch under which the region might act when it was sent, and when the answer was there; None
    when it might not. Where they differ a term began or ended under way, and either end is as good.
    """
    if not found.reached:
        return Judged("", lost=True, problem=found.problem or f"it was lost after the step {found.step!r}")
    if found.reached == "gate" and acts is not None and acted == acts:
        return Judged("", lost=True, problem=f"this region is active, and its gate stopped it: {found.stopped_by}")
    if found.reached == "answer" and acted is None and acts is None:
        return Judged("answer", lost=False, problem="its gateway would have shown it, and this region may not act")
    lower = found.rung not in {None, "model"}
    return Judged(found.reached, lost=False, problem=f"scored by {found.rung}: {found.reason}" if lower else "")


def in_short(reading: CanaryReading | None, at_ms: int) -> str:
    """A few words for a column; `at_ms`: now, Unix ms. What is old says nothing of now, whatever it was."""
    if reading is None:
        return "-"
    age_seconds = (at_ms - reading.at_ms) / 1000
    if age_seconds > OLD_SECONDS:
        return f"{age_seconds:.0f} s ago" if age_seconds < 600 else f"{age_seconds / 60:.0f} min ago"
    if not reading.reached:
        return "unknown" if reading.unknown else "LOST"
    return f"{reading.reached} {reading.latency_ms or 0:.0f} ms"


def in_words(reading: CanaryReading) -> str:
    """One line."""
    counts = f"{reading.lost} of {reading.sent} lost"
    goal = "answered" if reading.reached == "answer" else "reached the gate"
    missing = "could not be sent" if reading.unknown else "did not arrive"
    came = f"{goal} in {reading.latency_ms or 0:.0f} ms" if reading.reached else missing
    return f"{came}; {counts}" + (f"; {reading.problem}" if reading.problem else "")
