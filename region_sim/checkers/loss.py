"""Nothing acknowledged is lost unless a receipt lists it.

Every acknowledged event must lie, with its identity, at its coordinates in the raw logs of *every* healed region. The
identity is computed again from what the client said, so "your event is there" is nobody's word. What is missing must
be accounted for: its record is a dead letter, or a receipt that is not healed lists it, in a range or as acknowledged
after the last contact. Where the receipt names the ends that were known, the record must lie beyond them as well: a
position says what came later without comparing clocks.
"""

from __future__ import annotations

from region_sim.checkers.base import Figures, Finding
from region_sim.checkers.recorded import Hit, Place, Promise, Recorded
from region_sim.evidence import DeadSeen, HeldEnds, ReceiptSeen, Row
from services.ledger.identity import identity_of
from services.receipts.model import Range, Receipt
from streams.frame import EventRow
from streams.kinds import Kind

CHECK = "nothing acknowledged is lost unlisted"
EXAMPLES_MAX = 10
KINDS = {kind.name.lower(): kind for kind in Kind}
Missing = dict[tuple[str, str], tuple[str, str]]
"""By source and id of a promise: a region that does not hold it, and why not."""


def check(recorded: Recorded) -> Finding:
    """See the module."""
    promises = list(recorded.promises.values())
    if not promises:
        return Finding(check=CHECK, verdict="unknown", sentence="not one event was acknowledged: nothing is proven")
    unread = _unread(recorded, promises)
    if unread is not None:
        figures = Figures(acknowledged=len(promises), rpo_events=rpo_events(recorded))
        return Finding(check=CHECK, verdict="unknown", sentence=unread, figures=figures)
    missing = missing_promises(recorded)
    receipts, dead = newest_receipts(recorded), dead_places(recorded)
    lost = [recorded.promises[key] for key in missing]
    unlisted = [p for p in lost if p.place[:3] not in dead and not is_listed(recorded, p, receipts)]
    figures = Figures(
        acknowledged=len(promises),
        lost=len(missing),
        lost_unlisted=len(unlisted),
        rpo_events=rpo_events(recorded),
    )
    if unlisted:
        unlisted.sort(key=lambda promise: promise.index)
        return Finding(
            check=CHECK,
            verdict="invalid",
            sentence=f"{len(unlisted)} of {len(promises)} acknowledged events are lost and in no receipt",
            examples=[_describe(p, *missing[p.ack.source, p.ack.id]) for p in unlisted[:EXAMPLES_MAX]],
            figures=figures,
            first_index=unlisted[0].index,
        )
    sentence = f"{len(promises)} acknowledged events: {len(missing)} lost, all of them listed"
    if not missing:
        sentence = f"all {len(promises)} acknowledged events are in every region"
    return Finding(check=CHECK, verdict="valid", sentence=sentence, figures=figures)


def missing_promises(recorded: Recorded) -> Missing:
    """The promises that do not lie at their coordinates in every region; worked out once for all checkers."""
    if recorded.missing is None:
        recorded.missing = _missing(recorded)
    return recorded.missing


def kept_somewhere(recorded: Recorded) -> list[Promise]:
    """The promises that lie at their coordinates in some region."""
    missing = missing_promises(recorded)
    rows = [recorded.rows_of(region) for region in recorded.plan.regions]
    return [
        promise
        for key, promise in recorded.promises.items()
        if key not in missing or any(mismatch(promise, held.get(promise.place)) is None for held in rows)
    ]


def _missing(recorded: Recorded) -> Missing:
    missing: Missing = {}
    regions = [(region, recorded.rows_of(region)) for region in recorded.plan.regions]
    for key, promise in recorded.promises.items():
        place, good = promise.place, None
        for region, rows in regions:
            row = rows.get(place)
            if row is not None and row == good:
                continue
            reason = mismatch(promise, row)
            if reason is not None:
                missing[key] = (region, reason)
                break
            assert row is not None
            good = row
            recorded.recomputed[row.identity] = (row, *key)
    return missing


def newest_receipts(recorded: Recorded) -> list[Receipt]:
    """Each receipt once: as it was closed, or else as it was last seen."""
    found: dict[str, Receipt] = {}
    for piece in recorded.evidence(ReceiptSeen):
        before = found.get(piece.receipt.receipt_id)
        if before is None or before.state == "open" or piece.receipt.state != "open":
            found[piece.receipt.receipt_id] = piece.receipt
    return list(found.values())


def dead_places(recorded: Recorded) -> set[tuple[str, int, int]]:
    """Log, partition and offset of all records that regions say could not be read."""
    return {place for piece in recorded.evidence(DeadSeen) for place in piece.places}


def is_listed(recorded: Recorded, promise: Promise, receipts: list[Receipt]) -> bool:
    """Whether a receipt that is not healed says that this event is, or may be, lost."""
    return any(
        receipt.state != "healed"
        and (in_ranges(promise.place, own_ranges(receipt)) or _after_contact(recorded, promise, receipt))
        for receipt in receipts
    )


def _after_contact(recorded: Recorded, promise: Promise, receipt: Receipt) -> bool:
    ack = promise.ack
    # Never heard of is no time: it would excuse everything.
    if receipt.kind == "hole" or ack.log != f"{receipt.incarnation}.events" or receipt.last_contact_ms <= 0:
        return False
    ends = receipt.known_ends.get(ack.log)
    if ends is not None and ack.offset < ends.get(ack.partition, 0):
        return False
    if ends is not None and not recorded.are_clocks_true:
        return True
    # In the same millisecond, either may have been first.
    return promise.unix_ms >= receipt.last_contact_ms


def own_ranges(receipt: Receipt) -> list[Range]:
    """Those in logs of the life that it is about: of others it can say nothing."""
    return [found for found in receipt.ranges if found.log.startswith(f"{receipt.incarnation}.")]


def in_ranges(place: Place, ranges: list[Range]) -> bool:
    """Whether a place lies in one of the ranges."""
    log, partition, offset, _ = place
    return any(r.log == log and r.partition == partition and r.start <= offset < r.end for r in ranges)


def mismatch(promise: Promise, row: Row | None) -> str | None:
    """Why a row is not the acknowledged event; None when it is."""
    ack = promise.ack
    if row is None:
        return "nothing lies there"
    if row.kind != ack.kind or row.time_ms != ack.time_ms or row.query != ack.query or row.item != ack.item:
        said = (ack.kind, ack.time_ms, ack.query, ack.item)
        found = (row.kind, row.time_ms, row.query, row.item)
        return f"another event lies there: {found} instead of {said}"
    if row.identity != recomputed(ack.source, ack.id, row):
        return "what lies there has another identity"
    return None


def recomputed(source: str, event_id: str, row: Row) -> str:
    """The identity, in hexadecimal, that the event `event_id` of `source` must have if it says what `row` says."""
    event = EventRow(
        identity=b"",
        time_ms=row.time_ms,
        user=row.user,
        session=row.session,
        kind=KINDS[row.kind],
        query=row.query,
        item=row.item,
        ranking=bytes.fromhex(row.ranking),
        position=row.position,
        body=row.body.encode(),
    )
    return identity_of(source, event_id, event).hex()


def rpo_events(recorded: Recorded) -> int | None:
    """Acknowledged events of lost lives that no survivor held before the heal; None when that was never looked at."""
    found = unheld(recorded)
    return None if found is None else len({(promise.ack.source, promise.ack.id) for _, promise in found})


def unheld(recorded: Recorded) -> list[tuple[Hit, Promise]] | None:
    """Each loss with the acknowledged events that its survivors did not hold before the heal; None: nobody looked.

    Each loss by itself: what survivors held in one says nothing about what was acknowledged before another.
    """
    found: list[tuple[Hit, Promise]] = []
    was_looked_at = False
    for hit in recorded.hits:
        seen = hit.seen
        if seen is None or not seen.region_lost or not seen.incarnation:
            continue
        log = f"{seen.incarnation}.events"
        held = _held_by_survivors(recorded, hit, log)
        if held is None:
            continue
        was_looked_at = True
        # What a cut-off region acknowledges during its partition is no part of what the takeover cost.
        until_ms = max(seen.struck_ms, hit.began.unix_ms)
        found += [
            (hit, promise)
            for promise in recorded.promises.values()
            if promise.ack.log == log
            and promise.unix_ms <= until_ms
            and promise.ack.offset >= held.get(promise.ack.partition, 0)
        ]
    return found if was_looked_at else None


def _held_by_survivors(recorded: Recorded, hit: Hit, log: str) -> dict[int, int] | None:
    """By partition, how far survivors held a lost life's log between the loss and its heal; None: nobody looked."""
    end = len(recorded.entries) if hit.healed is None else hit.healed.index
    found = [
        piece
        for entry, piece in recorded.evidenced(HeldEnds)
        # Who was lost too has a disk that may be read, but is no survivor.
        if piece.log == log
        and hit.began.index < entry.index < end
        and not _was_lost(recorded, piece.region, entry.index)
    ]
    held: dict[int, int] = {}
    for piece in found:
        for partition, next_offset in piece.next_offsets.items():
            held[partition] = max(held.get(partition, 0), next_offset)
    return held if found else None


def _was_lost(recorded: Recorded, region: str, index: int) -> bool:
    """Whether a region was taken away itself when that entry was written."""
    return any(
        hit.seen is not None
        and hit.seen.region_lost
        and hit.seen.target == region
        and hit.began.index < index
        and (hit.over is None or hit.over.index > index)
        for hit in recorded.hits
    )


def _unread(recorded: Recorded, promises: list[Promise]) -> str | None:
    """Why the regions' logs are not known well enough; None when they are."""
    logs = {promise.ack.log for promise in promises}
    unread = sorted(
        (region, log) for region in recorded.plan.regions for log in logs if not recorded.was_read(region, log)
    )
    if not unread:
        return None
    return f"nothing is proven: {', '.join(f'{log} of {region}' for region, log in unread)} could not be read"


def _describe(promise: Promise, region: str, reason: str) -> str:
    ack = promise.ack
    at = f"{ack.log}/{ack.partition}/{ack.offset}[{ack.index}]"
    return f"{ack.kind} {ack.id!r} at {at}, acknowledged at {promise.unix_ms}: not in {region}: {reason}"
