"""The drill tested something: answers came before the fault, and load reached every region during it.

A drill whose regions were ill before the fault, or whose clients never asked the cut-off side, proves nothing.
"""

from __future__ import annotations

from region_sim.checkers.base import Finding
from region_sim.checkers.recorded import Recorded
from region_sim.history import NO_CALL

CHECK = "the drill tested something"


def check(recorded: Recorded) -> Finding:
    """See the module."""
    steady, began, healed = recorded.phase("steady"), recorded.fault_began, recorded.completed("heal")
    if steady is None or began is None:
        return Finding(check=CHECK, verdict="unknown", sentence="there was no fault under load")
    broken = next((e for e in recorded.entries if e.op in ("load_error", "overload")), None)
    if broken is not None:
        return Finding(
            check=CHECK, verdict="unknown", sentence=f"the load itself failed: {broken.error or broken.note}"
        )
    asked = {e.index for e in recorded.entries if e.op == "search" and e.type == "invoke"}
    before = {index for index in asked if steady.index < index < began.index}
    completed = [e for e in recorded.entries if e.op == "search" and e.call in before and e.index < began.index]
    answered = sum(e.type == "ok" for e in completed)
    share = answered / len(completed) if completed else 0.0
    least = recorded.drill.marks.steady_share_min
    if share < least:
        sentence = f"before the fault only {share:.1%} of {len(completed)} searches were answered, not {least:.1%}"
        return Finding(check=CHECK, verdict="unknown", sentence=sentence)
    if recorded.plan.kind == "partition":
        end = healed.index if healed is not None else len(recorded.entries)
        silent = [region for region in recorded.plan.regions if not _took_events(recorded, region, began.index, end)]
        if silent:
            sentence = f"no event reached {', '.join(silent)} while the network was cut: the fence was not tested"
            return Finding(check=CHECK, verdict="unknown", sentence=sentence)
    sentence = f"{share:.1%} of {len(completed)} searches were answered before the fault"
    return Finding(check=CHECK, verdict="valid", sentence=sentence)


def _took_events(recorded: Recorded, region: str, start: int, end: int) -> bool:
    return any(
        ack.log.startswith(f"{region}-")
        for entry in recorded.entries[start:end]
        if entry.op == "publish" and entry.call != NO_CALL and entry.call > start
        for ack in entry.acks
    )
