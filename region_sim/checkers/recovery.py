"""How long nobody was answered, how the takeover's time was spent, and whether all came back."""

from __future__ import annotations

from itertools import pairwise

from region_sim.checkers.base import Figures, Finding
from region_sim.checkers.loss import receipts_of_fault
from region_sim.checkers.recorded import Answer, Recorded
from region_sim.evidence import FaultSeen
from region_sim.history import Entry

CHECK = "answers and regions come back"


def check(recorded: Recorded) -> Finding:
    """See the module. The times themselves are judged by the drill's marks."""
    fault, began = recorded.fault_seen, recorded.fault_began
    if fault is None or began is None:
        return Finding(check=CHECK, verdict="unknown", sentence="no fault was injected, or it could not be verified")
    first = first_from_elsewhere(recorded, fault, began)
    figures = _figures(recorded, began, first)
    if fault.was_active and (fault.region_lost or fault.kind == "switchover") and first is None:
        sentence = f"no region took over from {fault.target}"
        return Finding(check=CHECK, verdict="invalid", sentence=sentence, figures=figures)
    for op in ("heal", "settle"):
        done = recorded.completed(op)
        if done is None or done.type != "ok":
            reason = "it was not reached" if done is None else done.error
            sentence = f"{op} failed: {reason}"
            return Finding(check=CHECK, verdict="invalid", sentence=sentence, figures=figures)
    sentence = f"all regions came back; {figures.gap_seconds} s without answers"
    if figures.rto_seconds is not None:
        sentence += f"; another region answered after {figures.rto_seconds} s"
    return Finding(check=CHECK, verdict="valid", sentence=sentence, figures=figures)


def first_from_elsewhere(recorded: Recorded, fault: FaultSeen, began: Entry) -> Answer | None:
    """The first ranking, of whatever client, from a region other than the one that was hit."""
    if not fault.was_active:
        return None
    return next((a for a in recorded.answers if a.index > began.index and a.region != fault.target), None)


def _figures(recorded: Recorded, began: Entry, first: Answer | None) -> Figures:
    heal_began = next((e for e in recorded.entries if e.op == "heal" and e.type == "invoke"), None)
    heal = recorded.completed("heal")
    searches = [e for e in recorded.entries if e.op == "search" and e.type != "invoke"]
    answered = sum(e.type == "ok" for e in searches)
    steps = _steps(recorded, began, first)
    return Figures(
        rto_seconds=None if first is None else round(first.monotonic_seconds - began.monotonic_seconds, 3),
        lease_seconds=steps[0],
        acquire_seconds=steps[1],
        promotion_seconds=steps[2],
        first_answer_seconds=steps[3],
        gap_seconds=gap_seconds(recorded, began),
        heal_seconds=None
        if heal is None or heal_began is None
        else round(heal.monotonic_seconds - heal_began.monotonic_seconds, 3),
        searches_ok=answered,
        searches_failed=len(searches) - answered,
    )


def gap_seconds(recorded: Recorded, began: Entry) -> float | None:
    """The longest time between two accepted answers, from the last one before the fault to the end of the load."""
    before = [a.monotonic_seconds for a in recorded.answers if a.index < began.index][-1:]
    times = [*before, *(a.monotonic_seconds for a in recorded.answers if a.index > began.index)]
    stop = recorded.phase("load stops")
    if stop is not None:
        times = [*(at for at in times if at <= stop.monotonic_seconds), stop.monotonic_seconds]
    if len(times) < 2:
        return None
    return round(max(later - earlier for earlier, later in pairwise(times)), 3)


def _steps(
    recorded: Recorded, began: Entry, first: Answer | None
) -> tuple[float | None, float | None, float | None, float | None]:
    """Lease, acquisition, promotion, first answer: by the receipt's timeline and the clients' first answer."""
    about = [receipt for receipt in receipts_of_fault(recorded) if receipt.timeline.serving_ms]
    if not about or first is None:
        return None, None, None, None
    at = about[0].timeline
    moments = (began.unix_ms, at.lease_gone_ms, at.acquired_ms, at.serving_ms, first.unix_ms)

    def between(place: int) -> float | None:
        earlier, later = moments[place], moments[place + 1]
        return None if not earlier or not later else round((later - earlier) / 1000, 3)

    return between(0), between(1), between(2), between(3)
