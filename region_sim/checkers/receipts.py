"""The receipt is honest: it is there, it lists no more and no less than what was gone, and it ends as it should.

More than was gone: a range that a survivor held before the heal. Less: left to the checker of losses, which knows every
acknowledged event. Counts of events in ranges are held against the log itself where the region came back with it.
"""

from __future__ import annotations

from region_sim.checkers.base import Figures, Finding, VerdictWord
from region_sim.checkers.loss import receipts_of_fault
from region_sim.checkers.recorded import Recorded
from region_sim.evidence import FaultSeen, HeldEnds, ReceiptsRead
from services.receipts.model import Range, Receipt

CHECK = "the receipt is honest"
LIFE_ENDS = ("wipe", "cut")
"""Faults after which the life that was hit is over: what nobody else holds never comes back."""


def check(recorded: Recorded) -> Finding:
    """See the module."""
    fault = recorded.fault_seen
    if fault is None:
        return _finding("unknown", "no fault was injected: no receipt is due")
    if not recorded.evidence(ReceiptsRead):
        return _finding("unknown", "nothing is proven: no controller showed its receipts")
    about = receipts_of_fault(recorded)
    is_due = fault.region_lost or fault.kind == "switchover"
    if not about:
        if not is_due:
            return _finding("valid", "no region was lost, and no receipt says so")
        return _finding("invalid", f"{fault.incarnation} was lost and no receipt says so")
    receipt = max(about, key=lambda found: (found.was_active, found.created_ms))
    problems = [problem for found in about for problem in _problems(recorded, fault, found)]
    figures = Figures(last_contact_before_fault_seconds=_last_contact_before(recorded, receipt))
    if problems:
        return Finding(
            check=CHECK,
            verdict="invalid",
            sentence=f"receipt {receipt.receipt_id}: {problems[0]}",
            examples=problems,
            figures=figures,
        )
    listed = receipt.events_listed
    many = "an unknown number of" if listed is None else str(listed)
    sentence = f"receipt {receipt.receipt_id} ({receipt.state}) lists {many} events in {len(receipt.ranges)} ranges"
    return Finding(check=CHECK, verdict="valid", sentence=sentence, figures=figures)


def _problems(recorded: Recorded, fault: FaultSeen, receipt: Receipt) -> list[str]:
    found = []
    if fault.kind == "switchover" and receipt.kind == "switchover" and receipt.ranges:
        found.append("a planned switchover lists missing events")
    life_ends = fault.kind in LIFE_ENDS
    if fault.kind == "wipe" and receipt.state != "confirmed_lost" and receipt.ranges:
        found.append(f"the region was wiped, but its receipt is {receipt.state}")
    if not life_ends and receipt.state == "confirmed_lost":
        found.append("the region came back with its logs, but its receipt says that it is lost")
    if receipt.state == "healed" and receipt.remaining:
        found.append("it is healed, but something remains")
    if receipt.state == "open" and recorded.completed("heal") is not None and fault.kind != "wipe":
        found.append("everything has healed, but it is still open")
    held = _held(recorded)
    # What was cut off is gone for good, but the rest of that log is handed on before the region begins anew.
    listed = receipt.remaining if fault.kind == "cut" else receipt.ranges
    if fault.region_lost:
        found += [f"it lists {_said(r)}, which a survivor held" for r in listed if r.end <= _end(held, r)]
    if not life_ends:
        found += [problem for r in receipt.ranges if (problem := _miscount(recorded, fault, r))]
    return found


def _held(recorded: Recorded) -> dict[tuple[str, int], int]:
    held: dict[tuple[str, int], int] = {}
    for piece in recorded.evidence(HeldEnds):
        for partition, end in piece.next_offsets.items():
            held[piece.log, partition] = max(held.get((piece.log, partition), 0), end)
    return held


def _end(held: dict[tuple[str, int], int], found: Range) -> int:
    return held.get((found.log, found.partition), -1)


def _miscount(recorded: Recorded, fault: FaultSeen, found: Range) -> str | None:
    """Why the count of a range is wrong, by the log of the region that came back; None when it is right or unknown."""
    if found.events is None:
        return None
    there = sum(
        log == found.log and partition == found.partition and found.start <= offset < found.end
        for log, partition, offset, _ in recorded.rows_of(fault.target)
    )
    if there == found.events:
        return None
    return f"it counts {found.events} events in {_said(found)}, where {there} are"


def _said(found: Range) -> str:
    return f"{found.log}/{found.partition} [{found.start}, {found.end})"


def _last_contact_before(recorded: Recorded, receipt: Receipt) -> float | None:
    if recorded.fault_began is None or receipt.last_contact_ms == 0 or recorded.plan.kind == "switchover":
        return None  # in a switchover, contact is never lost
    return round((recorded.fault_began.unix_ms - receipt.last_contact_ms) / 1000, 3)


def _finding(verdict: VerdictWord, sentence: str) -> Finding:
    return Finding(check=CHECK, verdict=verdict, sentence=sentence)
