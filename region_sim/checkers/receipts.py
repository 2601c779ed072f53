"""The receipts are honest: each loss has one, it lists no more and no less than was gone, and it ends as it should.

More than was gone: a range that a survivor held before the heal, or an event that every region holds in the end. Less:
records that were known to exist and that no survivor held; every acknowledged event is held against the receipts by the
checker of losses. Counts of events in ranges are held against the log where the region came back with it, and against
the acknowledgements where it did not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from region_sim.checkers import receipt_ranges
from region_sim.checkers.base import Failover, Figures, Finding, VerdictWord
from region_sim.checkers.failovers import cause_of, terms
from region_sim.checkers.loss import missing_promises, newest_receipts
from region_sim.checkers.recorded import LIFE_ENDS, Hit, Recorded
from region_sim.evidence import Epoch, FaultSeen, HeldEnds, ReceiptSeen, ReceiptsRead, StateSeen
from region_sim.history import Entry
from services.receipts.model import Receipt
from streams.logs import events_log

CHECK = "the receipt is honest"
WRITTEN_SECONDS = 15.0
"""A term that lasts as long has written its receipt and all that are owed: it waits ten seconds for its gate, and looks
every second."""
QUIET_SECONDS = 15.0
"""So long after the last fault before, a region that was not broken has been heard again."""
EXAMPLES_MAX = 10


def check(recorded: Recorded, failovers: Sequence[Failover] | None) -> Finding:
    """See the module."""
    fault = recorded.fault_seen
    if fault is None:
        return _finding("unknown", "no fault was injected: no receipt is due")
    unread = _unread(recorded)
    if unread is not None:
        return _finding("unknown", f"nothing is proven: {unread}")
    written = _written(recorded)
    problems = [*_missing(recorded, failovers or (), written), *_contradictions(recorded)]
    for receipt in written:
        problems += [f"receipt {receipt.receipt_id}: {problem}" for problem in _problems(recorded, receipt)]
    first = _of_first_fault(recorded, written)
    figures = Figures(last_contact_before_fault_seconds=_last_contact_before(recorded, first))
    if problems:
        return Finding(
            check=CHECK,
            verdict="invalid",
            sentence=problems[0],
            examples=problems[:EXAMPLES_MAX],
            figures=figures,
            first_index=_entry_of(recorded, written, problems[0]),
        )
    unheld = next((r for r in written if _is_held_against_nothing(recorded, r)), None)
    if unheld is not None:
        why = f"nobody wrote down what survivors held of {unheld.incarnation} before the heal"
        return Finding(check=CHECK, verdict="unknown", sentence=f"nothing is proven: {why}", figures=figures)
    if not written:
        return _finding("valid", "no region was lost, and no receipt says so")
    parts = []
    for receipt in written:
        listed = receipt.events_listed
        many = "an unknown number of" if listed is None else str(listed)
        parts.append(f"{receipt.receipt_id} ({receipt.state}) lists {many} events in {len(receipt.ranges)} ranges")
    return Finding(check=CHECK, verdict="valid", sentence=f"receipt {'; '.join(parts)}", figures=figures)


def _unread(recorded: Recorded) -> str | None:
    """Why the receipts are not known; None when they are."""
    read = recorded.evidence(ReceiptsRead)
    if not read:
        return "no controller showed its receipts"
    shown = Counter(piece.seen_in for piece in recorded.evidence(ReceiptSeen))
    short = next((piece for piece in read if shown[piece.seen_in] < piece.count), None)
    if short is not None:
        return f"{short.seen_in} showed {short.count} receipts, and {shown[short.seen_in]} are in the history"
    return None


def _written(recorded: Recorded) -> list[Receipt]:
    """The receipts of this drill: a deployment may have had others before it."""
    began = recorded.entries[0].unix_ms
    found = [r for r in newest_receipts(recorded) if r.kind != "hole"]
    if recorded.are_clocks_true:
        found = [receipt for receipt in found if receipt.created_ms >= began]
    return found


def _missing(recorded: Recorded, failovers: Sequence[Failover], written: Sequence[Receipt]) -> Iterator[str]:
    """Losses that no receipt speaks of."""
    written_in = _newest_that_lasted(recorded)
    for failover in failovers:
        hit = cause_of(recorded, failover)
        seen = None if hit is None else hit.seen
        if seen is None or written_in is None or failover.epoch > written_in:
            continue
        if not any(receipt.epoch == failover.epoch and receipt.was_active for receipt in written):
            lost = seen.incarnation if seen.target == failover.from_region else failover.from_region
            yield f"{lost} was lost and no receipt says so: {failover.to_region} took over as {failover.epoch}"
    about = {receipt.incarnation for receipt in written}
    for hit in recorded.hits:
        seen = hit.seen
        if seen is not None and seen.incarnation and _ended(recorded, seen) and seen.incarnation not in about:
            yield f"{seen.incarnation} was lost and no receipt says so: its region is in another life"


def _newest_that_lasted(recorded: Recorded) -> Epoch | None:
    """The last term that was long enough to write its own receipt and those that earlier ones left owed."""
    ends_ms = recorded.entries[-1].unix_ms
    began_ms = {
        term.epoch: term.first.unix_ms if term.seen_ms is None and term.first is not None else term.seen_ms or 0
        for term in terms(recorded)
    }
    lasted = [
        term.epoch
        for term in terms(recorded)
        if (term.gone_ms or ends_ms) - began_ms[term.epoch] >= 1000 * WRITTEN_SECONDS
    ]
    return max(lasted, default=None)


def _contradictions(recorded: Recorded) -> Iterator[str]:
    """Receipts that are closed and that two regions show in two ways; takeovers that have two."""
    of_takeover: dict[Epoch, str] = {}
    for piece in recorded.evidence(ReceiptSeen):
        found = piece.receipt
        if found.was_active and of_takeover.setdefault(found.epoch, found.receipt_id) != found.receipt_id:
            yield f"receipt {found.receipt_id}: the takeover {found.epoch} has another one, {of_takeover[found.epoch]}"
    shown: dict[str, tuple[str, Receipt]] = {}
    for piece in recorded.evidence(ReceiptSeen):
        receipt = piece.receipt
        if receipt.state == "open":
            continue
        where, before = shown.setdefault(receipt.receipt_id, (piece.seen_in, receipt))
        if before.state != receipt.state or before.ranges != receipt.ranges:
            yield f"receipt {receipt.receipt_id}: {where} and {piece.seen_in} show two different ones"


def _problems(recorded: Recorded, receipt: Receipt) -> Iterator[str]:
    """What is wrong with one receipt."""
    if receipt.kind == "switchover" and _was_planned(recorded, receipt) and _lists_what_was_drained(recorded, receipt):
        yield "a planned switchover lists missing events"
    hit = _hit_of(recorded, receipt)
    ending = _ending(recorded, receipt)
    over = ending is not None or _is_in_another_life(recorded, receipt.region, receipt.incarnation)
    if receipt.state == "healed" and ending is not None and not _may_have_healed(recorded, receipt, ending):
        yield f"{ending.label} ended the life that it is about, but it is healed"
    if receipt.state == "confirmed_lost" and not over:
        yield "the region came back with its logs, but its receipt says that it is lost"
    if any(found.log != f"{receipt.incarnation}.{found.log.rpartition('.')[2]}" for found in receipt.ranges):
        yield f"it lists records of logs that are not those of {receipt.incarnation}"
    quiet = _lost_in_the_quiet(recorded, receipt, hit)
    if quiet is not None:
        yield quiet
    if receipt.state == "healed" and receipt.remaining:
        yield "it is healed, but something remains"
    if receipt.state == "open":
        yield "everything has healed, but it is still open"
    yield from receipt_ranges.problems(recorded, receipt, hit, is_over=over)


def _may_have_healed(recorded: Recorded, receipt: Receipt, ending: Hit) -> bool:
    """Whether a receipt may say healed though its life ended.

    It was written before; or the life came back, its log cut, and went on: until that was noticed, and what was cut off
    is then in a receipt of its own; or for good, for what was cut off had been promised to nobody.
    """
    if receipt.created_ms < ending.began.unix_ms or not recorded.are_clocks_true:
        return True  # by a clock that was set, nobody can say which came first
    if ending.seen is None or ending.seen.kind not in receipt_ranges.CUTS:
        return False
    if _went_on(recorded, ending.seen):
        return True
    others = [r for r in newest_receipts(recorded) if r.incarnation == receipt.incarnation]
    return any(other.state == "confirmed_lost" for other in others)


def _went_on(recorded: Recorded, seen: FaultSeen) -> bool:
    """Whether a life is still lived in the end though its log was cut, and nobody misses what had been promised."""
    lives = {state.incarnation for state in recorded.evidence(StateSeen) if state.region == seen.target}
    if seen.kind not in receipt_ranges.CUTS or lives != {seen.incarnation}:
        return False
    log = f"{seen.incarnation}.events"
    return not any(recorded.promises[key].ack.log == log for key in missing_promises(recorded))


def _is_held_against_nothing(recorded: Recorded, receipt: Receipt) -> bool:
    """Whether its ranges should be compared with what survivors held, and nobody looked."""
    hit = _hit_of(recorded, receipt)
    if hit is None or hit.seen is None or not hit.seen.region_lost or hit.heal_began is None:
        return False
    end = len(recorded.entries) if hit.healed is None else hit.healed.index
    looked = (
        entry.index for entry, piece in recorded.evidenced(HeldEnds) if piece.log.startswith(f"{receipt.incarnation}.")
    )
    return not any(hit.began.index < index < end for index in looked)


def _hit_of(recorded: Recorded, receipt: Receipt) -> Hit | None:
    """The fault on its life before which it cannot have been written, and after which it was: the last such one."""
    if not recorded.are_clocks_true:
        return None
    found = [
        hit
        for hit in recorded.hits
        if hit.seen is not None
        and hit.seen.incarnation == receipt.incarnation
        and hit.began.unix_ms <= receipt.created_ms
    ]
    return found[-1] if found else None


def _ending(recorded: Recorded, receipt: Receipt) -> Hit | None:
    """The fault that ended its life."""
    hits = [hit for hit in recorded.hits if hit.seen is not None and hit.seen.kind in LIFE_ENDS]
    return next((hit for hit in hits if hit.seen is not None and hit.seen.incarnation == receipt.incarnation), None)


def _ended(recorded: Recorded, seen: FaultSeen) -> bool:
    if _is_in_another_life(recorded, seen.target, seen.incarnation):
        return True
    return seen.kind in LIFE_ENDS and not _went_on(recorded, seen)


def _is_in_another_life(recorded: Recorded, region: str, incarnation: str) -> bool:
    """Whether the region says in the end that it lives another life."""
    return any(
        state.region == region and state.incarnation != incarnation
        for state in recorded.evidence(StateSeen)
        if state.incarnation
    )


def _lost_in_the_quiet(recorded: Recorded, receipt: Receipt, hit: Hit | None) -> str | None:
    """Why the last contact cannot have been so long ago; it would excuse all that was acknowledged since."""
    if hit is None or not receipt.last_contact_ms:
        return None
    began_ms = hit.began.unix_ms
    earlier = [other for other in recorded.faults if other.began.index < hit.began.index]
    quiet_from = max([recorded.entries[0].unix_ms, *(other.until_ms for other in earlier)])
    if min(began_ms - receipt.last_contact_ms, began_ms - quiet_from) <= 1000 * QUIET_SECONDS:
        return None
    seconds = (began_ms - receipt.last_contact_ms) / 1000
    return f"its last contact was {seconds:.1f} s before {hit.label}, when nothing was broken"


def _was_planned(recorded: Recorded, receipt: Receipt) -> bool:
    """Whether nothing but the switchover was going on: a region may be lost while the lease is handed over."""
    return len(recorded.faults) == 1 or not recorded.are_clocks_true or receipt.last_contact_ms >= receipt.created_ms


def _lists_what_was_drained(recorded: Recorded, receipt: Receipt) -> bool:
    """Whether it misses an event that was acknowledged before the switchover was asked for: all that is handed over.

    Inputs are never fenced: what the region that was left took since may be on its way when the receipt is written.
    """
    ranges = [found for found in receipt.ranges if found.log == events_log(receipt.incarnation)]
    asked = _asked_for(recorded, receipt)
    if asked is None:
        return bool(ranges)
    return any(
        (promise.ack.log, promise.ack.partition) == (found.log, found.partition)
        and promise.ack.offset >= found.start
        and promise.index < asked.index
        for found in ranges
        for promise in recorded.promises.values()
    )


def _asked_for(recorded: Recorded, receipt: Receipt) -> Entry | None:
    """The entry with which the switchover began that a receipt is of: the last one before its term was seen."""
    seen_ms = next((term.seen_ms for term in terms(recorded) if term.epoch == receipt.epoch), None)
    began = [
        hit.began
        for hit in recorded.faults
        if (hit.began.note, hit.began.region) == ("switchover", receipt.region)
        if seen_ms is None or hit.began.unix_ms <= seen_ms
    ]
    return began[-1] if began else None


def _of_first_fault(recorded: Recorded, written: Sequence[Receipt]) -> Receipt | None:
    """The receipt about the life that the first fault hit, written since."""
    fault, began = recorded.fault_seen, recorded.fault_began
    if fault is None or began is None:
        return None
    about = [r for r in written if r.incarnation == fault.incarnation and r.created_ms >= began.unix_ms]
    about.sort(key=lambda found: (not found.was_active, found.created_ms))
    return about[0] if about else None


def _last_contact_before(recorded: Recorded, receipt: Receipt | None) -> float | None:
    if receipt is None or recorded.fault_began is None or receipt.last_contact_ms == 0:
        return None
    fault = recorded.fault_seen
    if recorded.plan.kind == "switchover" or fault is None or not recorded.are_clocks_true:
        return None  # contact is never lost, or nobody can say when
    if receipt.last_contact_ms > max(fault.struck_ms, recorded.fault_began.unix_ms):
        return None  # it went on for longer than the region was whole: the fault did not end it
    return round(max(0, recorded.fault_began.unix_ms - receipt.last_contact_ms) / 1000, 3)


def _entry_of(recorded: Recorded, written: Sequence[Receipt], problem: str) -> int | None:
    """The entry that shows the receipt which a problem names."""
    named = next((r.receipt_id for r in written if problem.startswith(f"receipt {r.receipt_id}: ")), None)
    shown = recorded.evidenced(ReceiptSeen)
    return next((entry.index for entry, piece in shown if piece.receipt.receipt_id == named), None)


def _finding(verdict: VerdictWord, sentence: str) -> Finding:
    return Finding(check=CHECK, verdict=verdict, sentence=sentence)
