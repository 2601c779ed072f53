"""What was acknowledged because another region holds it is never lost, and no receipt lists it.

Asked only of drills whose apps say `ack=remote`: there the receipt of a wiped region lists no acknowledged event. A
receipt may have listed a record that nobody else held yet, and whose app was told only later, when somebody did.

One region may be lost. Where another one was wiped before, it took its copies with it, and until they are back a second
loss finds none: an event that was acknowledged since, at that place or behind it, shows that they are.
"""

from __future__ import annotations

from region_sim.checkers.base import Figures, Finding, VerdictWord
from region_sim.checkers.loss import in_ranges, newest_receipts, unheld
from region_sim.checkers.recorded import Hit, Promise, Recorded
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
    unsafe, wiped = _unheld(recorded)
    if listed or figures.lost or unsafe:
        sentence = f"of {len(promises)} such events {len(listed)} are in receipts, {figures.lost} lost"
        if unsafe:
            sentence += f", and {unsafe} were held by no survivor of a loss"
        examples = [_describe(promise) for promise in listed[:EXAMPLES_MAX]]
        return Finding(check=CHECK, verdict="invalid", sentence=sentence, examples=examples)
    fault = recorded.fault_seen
    unlooked = fault is not None and fault.region_lost and bool(fault.incarnation) and figures.rpo_events is None
    if not promises or figures.lost is None or unlooked or not recorded.evidence(ReceiptsRead):
        return _finding("unknown", "nothing is proven: acknowledgements, survivors' logs or receipts are missing")
    sentence = f"none of {len(promises)} acknowledged events is lost or in a receipt"
    if wiped:
        sentence += f"; a region was wiped with its copies of {wiped}, and another was cut off before they were back"
    return _finding("valid", sentence)


def _unheld(recorded: Recorded) -> tuple[int, int]:
    """How many events no survivor of a loss held though one should have; how many whose copies were wiped before."""
    unsafe: set[tuple[str, str]] = set()
    wiped: set[tuple[str, str]] = set()
    for hit, promise in unheld(recorded) or ():
        found = wiped if _was_wiped_elsewhere(recorded, hit, promise) else unsafe
        found.add((promise.ack.source, promise.ack.id))
    return len(unsafe), len(wiped - unsafe)


def _was_wiped_elsewhere(recorded: Recorded, hit: Hit, promise: Promise) -> bool:
    """Whether a region was wiped that may have held the event, and nobody showed since that it is held again."""
    end = len(recorded.entries) if hit.healed is None else hit.healed.index
    wipes = [
        other.done.index
        for other in recorded.hits
        if other.done is not None and other.seen is not None and other.seen.kind == "wipe"
        if other.began.region != hit.began.region and other.began.index < end
    ]
    return bool(wipes) and not any(
        _is_behind(later, promise) and later.index < hit.began.index and _said_at(recorded, later) > max(wipes)
        for later in recorded.promises.values()
    )


def _is_behind(later: Promise, promise: Promise) -> bool:
    """Whether a copy that holds the one holds the other, too: copies are prefixes."""
    one, other = later.ack, promise.ack
    return (one.log, one.partition) == (other.log, other.partition) and one.offset >= other.offset


def _said_at(recorded: Recorded, promise: Promise) -> int:
    """Index of the entry with which an event was first said: it was in no copy before."""
    first = recorded.said.get((promise.ack.source, promise.ack.id))
    return promise.index if first is None else first.index


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
