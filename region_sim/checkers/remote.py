"""What was acknowledged because another region holds it is never lost, and no receipt lists it.

Asked only of drills whose apps say `ack=remote`: there the receipt of a wiped region lists no acknowledged event. A
receipt may have listed a record that nobody else held yet, and whose app was told only later, when somebody did.
"""

from __future__ import annotations

from region_sim.checkers.base import Figures, Finding, VerdictWord
from region_sim.checkers.loss import in_ranges, newest_receipts
from region_sim.checkers.recorded import Promise, Recorded
from region_sim.evidence import ReceiptsRead
from services.receipts.model import Receipt

CHECK = "what another region held when it was acknowledged is safe"
EXAMPLES_MAX = 10


def check(recorded: Recorded, figures: Figures) -> Finding:
    """Hold the losses that the other checkers counted, and all receipts, against the promise of `ack=remote`."""
    if recorded.drill.load.ack != "remote":
        return _finding("valid", "apps did not ask for it")
    promises = list(recorded.promises.values())
    receipts = newest_receipts(recorded)
    listed = [promise for promise in promises if any(_is_listed(recorded, promise, receipt) for receipt in receipts)]
    if listed or figures.lost or figures.rpo_events:
        sentence = f"of {len(promises)} such events {len(listed)} are in receipts, {figures.lost} lost"
        if figures.rpo_events:
            sentence += f", and {figures.rpo_events} were held by no survivor of a loss"
        examples = [_describe(promise) for promise in listed[:EXAMPLES_MAX]]
        return Finding(check=CHECK, verdict="invalid", sentence=sentence, examples=examples)
    fault = recorded.fault_seen
    unlooked = fault is not None and fault.region_lost and bool(fault.incarnation) and figures.rpo_events is None
    if not promises or figures.lost is None or unlooked or not recorded.evidence(ReceiptsRead):
        return _finding("unknown", "nothing is proven: acknowledgements, survivors' logs or receipts are missing")
    return _finding("valid", f"none of {len(promises)} acknowledged events is lost or in a receipt")


def _is_listed(recorded: Recorded, promise: Promise, receipt: Receipt) -> bool:
    """Whether a receipt says that an event is missing, or was after its app had been told that it is safe."""
    if in_ranges(promise.place, receipt.remaining):
        return True
    # By a clock that was set, nobody can say which came first.
    was_told = recorded.are_clocks_true and promise.unix_ms < receipt.created_ms
    return was_told and in_ranges(promise.place, receipt.ranges)


def _describe(promise: Promise) -> str:
    ack = promise.ack
    return f"{ack.kind} {ack.id!r} at {ack.log}/{ack.partition}/{ack.offset}, acknowledged at {promise.unix_ms}"


def _finding(verdict: VerdictWord, sentence: str) -> Finding:
    return Finding(check=CHECK, verdict=verdict, sentence=sentence)
