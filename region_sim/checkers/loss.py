"""Nothing acknowledged is lost unless a receipt lists it.

Every acknowledged event must lie, with its identity, at its coordinates in the raw logs of *every* healed region. The
identity is computed again from what the client said, so "your event is there" is nobody's word. What is missing must be
listed: in a range of a receipt that is not healed, or acknowledged after that receipt's `last_contact`.
"""

from __future__ import annotations

from region_sim.checkers.base import Figures, Finding
from region_sim.checkers.recorded import Place, Promise, Recorded
from region_sim.evidence import HeldEnds, LogRead, ReceiptSeen, Row
from services.ledger.identity import identity_of
from services.receipts.model import Range, Receipt
from streams.frame import EventRow
from streams.kinds import Kind

CHECK = "nothing acknowledged is lost unlisted"
EXAMPLES_MAX = 10


def check(recorded: Recorded) -> Finding:
    """See the module."""
    promises = list(recorded.promises.values())
    if not promises:
        return Finding(check=CHECK, verdict="unknown", sentence="not one event was acknowledged: nothing is proven")
    unread = _unread(recorded, promises)
    if unread is not None:
        figures = Figures(acknowledged=len(promises), rpo_events=rpo_events(recorded))
        return Finding(check=CHECK, verdict="unknown", sentence=unread, figures=figures)
    missing: dict[int, tuple[str, str]] = {}
    for region in recorded.plan.regions:
        rows = recorded.rows_of(region)
        for number, promise in enumerate(promises):
            reason = mismatch(promise, rows.get(promise.place))
            if reason is not None:
                missing.setdefault(number, (region, reason))
    receipts = newest_receipts(recorded)
    unlisted = [number for number in missing if not is_listed(promises[number], receipts)]
    figures = Figures(
        acknowledged=len(promises),
        lost=len(missing),
        lost_unlisted=len(unlisted),
        rpo_events=rpo_events(recorded),
    )
    examples = [_describe(promises[number], *missing[number]) for number in unlisted[:EXAMPLES_MAX]]
    if unlisted:
        sentence = f"{len(unlisted)} of {len(promises)} acknowledged events are lost and in no receipt"
        return Finding(check=CHECK, verdict="invalid", sentence=sentence, examples=examples, figures=figures)
    sentence = f"{len(promises)} acknowledged events: {len(missing)} lost, all of them listed"
    if not missing:
        sentence = f"all {len(promises)} acknowledged events are in every region"
    return Finding(check=CHECK, verdict="valid", sentence=sentence, figures=figures)


def newest_receipts(recorded: Recorded) -> list[Receipt]:
    """Each receipt once, as it was last seen."""
    found = {piece.receipt.receipt_id: piece.receipt for piece in recorded.evidence(ReceiptSeen)}
    return list(found.values())


def receipts_of_fault(recorded: Recorded) -> list[Receipt]:
    """Those about the life that was hit, written since: the same life may have been lost, and healed, before."""
    fault, began = recorded.fault_seen, recorded.fault_began
    if fault is None or began is None:
        return []
    return [
        found
        for found in newest_receipts(recorded)
        if found.incarnation == fault.incarnation and found.created_ms >= began.unix_ms
    ]


def is_listed(promise: Promise, receipts: list[Receipt]) -> bool:
    """Whether a receipt that is not healed says that this event is, or may be, lost."""
    return any(
        receipt.state != "healed"
        and (
            in_ranges(promise.place, receipt.ranges)
            or (
                receipt.kind != "hole"
                and promise.ack.log == f"{receipt.incarnation}.events"
                # Never heard of is no time: it would excuse everything.
                and receipt.last_contact_ms > 0
                # In the same millisecond, either may have been first.
                and promise.unix_ms >= receipt.last_contact_ms
            )
        )
        for receipt in receipts
    )


def in_ranges(place: Place, ranges: list[Range]) -> bool:
    """Whether a place lies in one of the ranges."""
    log, partition, offset, _ = place
    return any(r.log == log and r.partition == partition and r.start <= offset < r.end for r in ranges)


def mismatch(promise: Promise, row: Row | None) -> str | None:
    """Why a row is not the acknowledged event; None when it is."""
    ack = promise.ack
    if row is None:
        return "nothing lies there"
    said = (ack.kind, ack.time_ms, ack.query, ack.item)
    found = (row.kind, row.time_ms, row.query, row.item)
    if said != found:
        return f"another event lies there: {found} instead of {said}"
    event = EventRow(
        identity=bytes.fromhex(row.identity),
        time_ms=row.time_ms,
        user=row.user,
        session=row.session,
        kind=Kind[row.kind.upper()],
        query=row.query,
        item=row.item,
        ranking=bytes.fromhex(row.ranking),
        position=row.position,
        body=row.body.encode(),
    )
    if event.identity != identity_of(ack.source, ack.id, event):
        return "what lies there has another identity"
    return None


def rpo_events(recorded: Recorded) -> int | None:
    """Acknowledged events of the lost life that no survivor held before the heal; None when that was not looked at."""
    fault = recorded.fault_seen
    began = recorded.fault_began
    if fault is None or began is None or not fault.incarnation:
        return None
    log = f"{fault.incarnation}.events"
    held: dict[int, int] = {}
    pieces = [piece for piece in recorded.evidence(HeldEnds) if piece.log == log]
    if not pieces:
        return None
    for piece in pieces:
        for partition, end in piece.next_offsets.items():
            held[partition] = max(held.get(partition, 0), end)
    return sum(
        promise.ack.log == log
        and promise.ack.offset >= held.get(promise.ack.partition, 0)
        # What a cut-off region acknowledges during its partition is no part of what the takeover cost.
        and promise.unix_ms <= max(fault.struck_ms, began.unix_ms)
        for promise in recorded.promises.values()
    )


def _unread(recorded: Recorded, promises: list[Promise]) -> str | None:
    """Why the regions' logs are not known well enough; None when they are."""
    read = {(piece.region, piece.log) for piece in recorded.evidence(LogRead)}
    logs = {promise.ack.log for promise in promises}
    unread = sorted((region, log) for region in recorded.plan.regions for log in logs if (region, log) not in read)
    if not unread:
        return None
    return f"nothing is proven: {', '.join(f'{log} of {region}' for region, log in unread)} could not be read"


def _describe(promise: Promise, region: str, reason: str) -> str:
    ack = promise.ack
    at = f"{ack.log}/{ack.partition}/{ack.offset}[{ack.index}]"
    return f"{ack.kind} {ack.id!r} at {at}, acknowledged at {promise.unix_ms}: not in {region}: {reason}"
