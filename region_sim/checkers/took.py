"""Every fault of the drill was injected and was seen to take; what was not broken proves nothing.

A fault that this world cannot do to itself is refused with a reason: the verdict is unknown, never valid.
"""

from __future__ import annotations

from region_sim.checkers.base import Finding, VerdictWord
from region_sim.checkers.recorded import Recorded

CHECK = "every fault took"


def check(recorded: Recorded) -> Finding:
    """See the module."""
    refused = next((hit for hit in recorded.faults if hit.is_refused), None)
    if refused is not None and refused.done is not None:
        return _finding("unknown", f"{refused.label}: {refused.done.error}")
    for hit in recorded.faults:
        if hit.seen is None:
            why = "nobody says what became of it" if hit.done is None else hit.done.error or "it could not be verified"
            return _finding("unknown", f"{hit.label} did not take: {why}")
    wanted = len(recorded.drill.faults)
    if len(recorded.faults) < wanted:
        return _finding("unknown", f"of {wanted} faults only {len(recorded.faults)} were begun")
    return _finding("valid", f"{wanted} injected and verified: {', '.join(hit.label for hit in recorded.hits)}")


def _finding(verdict: VerdictWord, sentence: str) -> Finding:
    return Finding(check=CHECK, verdict=verdict, sentence=sentence)
