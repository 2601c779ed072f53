"""What a receipt lists, record by record, against what survivors held and what the logs hold in the end."""

from __future__ import annotations

from collections.abc import Iterator

from region_sim.checkers.loss import in_ranges, missing_promises
from region_sim.checkers.recorded import Hit, Place, Recorded
from region_sim.evidence import HeldEnds
from services.receipts.model import Range, Receipt

CUTS = ("cut", "topic-loss")
"""Faults after which other records may stand under the offsets of lost ones: a place is then no name for an event."""


def problems(recorded: Recorded, receipt: Receipt, hit: Hit | None, *, is_over: bool) -> Iterator[str]:
    """What is wrong with the ranges. `hit`: the fault that it was written after; `is_over`: its life never returns."""
    seen = None if hit is None else hit.seen
    was_cut = any(h.seen is not None and h.seen.kind in CUTS and _is_about(h, receipt) for h in recorded.hits)
    if hit is not None and seen is not None and seen.region_lost and _was_written_during(receipt, hit):
        held = _held_during(recorded, receipt, hit)
        # What was cut off is gone for good, but the rest of that log is handed on before the region begins anew.
        listed = receipt.remaining if was_cut else receipt.ranges
        yield from _too_much(held, listed)
        if not was_cut and _alone(recorded, hit):
            yield from _too_little(recorded, receipt, held, hit, is_over=is_over)
    if not is_over:
        yield from _miscounted(recorded, receipt)
    elif not was_cut:
        yield from _undercounted(recorded, receipt)
    if receipt.state == "confirmed_lost" and not was_cut:
        yield from _held_in_the_end(recorded, receipt)


def _is_about(hit: Hit, receipt: Receipt) -> bool:
    return hit.seen is not None and hit.seen.incarnation == receipt.incarnation


def _was_written_during(receipt: Receipt, hit: Hit) -> bool:
    """Whether it was written before the heal began: later, survivors may hold more than it says, or less."""
    return hit.heal_began is None or receipt.created_ms <= hit.heal_began.unix_ms


Held = dict[tuple[str, int], dict[str, int]]
"""By log and partition: by region, the next offset that it held."""


def _held_during(recorded: Recorded, receipt: Receipt, hit: Hit) -> Held:
    """What survivors held of its logs between the fault and the end of its heal."""
    end = len(recorded.entries) if hit.healed is None else hit.healed.index
    held: Held = {}
    for entry, piece in recorded.evidenced(HeldEnds):
        if hit.began.index < entry.index < end and piece.log.startswith(f"{receipt.incarnation}."):
            for partition, next_offset in piece.next_offsets.items():
                held.setdefault((piece.log, partition), {})[piece.region] = next_offset
    return held


def _alone(recorded: Recorded, hit: Hit) -> bool:
    """Whether no other fault may have taken from the survivors what they held when the receipt was written."""
    end = hit.heal_began.monotonic_seconds if hit.heal_began is not None else hit.until_seconds
    return not any(
        other is not hit and other.began.monotonic_seconds < end and other.until_seconds > hit.began.monotonic_seconds
        for other in recorded.faults
    )


def _too_much(held: Held, listed: list[Range]) -> Iterator[str]:
    for found in listed:
        most = max(held.get((found.log, found.partition), {}).values(), default=-1)
        if found.end <= most:
            yield f"it lists {_said(found)}, which a survivor held"


def _too_little(recorded: Recorded, receipt: Receipt, held: Held, hit: Hit, *, is_over: bool) -> Iterator[str]:
    """Records that were known to exist, that no survivor held, and that no range lists.

    What was acknowledged before the last contact was known then. A receipt names the ends that were known, too; but
    those of a life that came back are raised while the rest is copied, also when that life was lost later. One that
    healed while the fault still stood knows nothing of what was written and copied after that.
    """
    went_on = receipt.state == "healed" and hit.heal_began is not None and receipt.closed_ms < hit.heal_began.unix_ms
    others = {region for region in recorded.plan.regions if region != receipt.region}
    for (log, partition), by_region in held.items():
        if set(by_region) != others:
            continue  # one that did not say may hold more
        held_end = at = max(by_region.values())
        known = receipt.known_ends.get(log, {}).get(partition, 0)
        ranges = [r for r in receipt.ranges if (r.log, r.partition) == (log, partition)]
        for found in sorted(ranges, key=lambda r: r.start):
            if found.start > at:
                break
            at = max(at, found.end)
        if receipt.known_ends and known < held_end and not (went_on and _later(recorded, receipt, (log, partition))):
            yield f"it knows {log}/{partition} up to {known} only, and a survivor holds it up to {held_end}"
        if is_over and receipt.state != "healed" and at < known:
            yield f"it leaves out {log}/{partition} [{at}, {known}): known to exist, and no survivor held it"
        for promise in recorded.promises.values():
            ack = promise.ack
            if (ack.log, ack.partition) != (log, partition) or ack.offset < held_end:
                continue
            if promise.unix_ms < receipt.last_contact_ms and not in_ranges(promise.place, receipt.ranges):
                at_place = f"{log}/{partition}/{ack.offset}"
                yield f"it leaves out {ack.id!r} at {at_place}, acknowledged before the last contact"
                break


def _later(recorded: Recorded, receipt: Receipt, where: tuple[str, int]) -> bool:
    """Whether all that apps were promised beyond the end that it knows was promised after its last contact."""
    log, partition = where
    known = receipt.known_ends.get(log, {}).get(partition, 0)
    beyond = (p for p in recorded.promises.values() if (p.ack.log, p.ack.partition) == where and p.ack.offset >= known)
    return all(promise.unix_ms >= receipt.last_contact_ms for promise in beyond)


def _miscounted(recorded: Recorded, receipt: Receipt) -> Iterator[str]:
    """Ranges whose counts are wrong, by the log of the region that came back with it."""
    for found in receipt.ranges:
        if found.events is None or not recorded.was_read(receipt.region, found.log):
            continue
        there = sum(_within(place, found) for place in recorded.rows_of(receipt.region))
        if there != found.events:
            yield f"it counts {found.events} events in {_said(found)}, where {there} are"


def _undercounted(recorded: Recorded, receipt: Receipt) -> Iterator[str]:
    """Ranges that count fewer events than were acknowledged in them."""
    for found in receipt.ranges:
        if found.events is None:
            continue
        places = {p.place for p in recorded.promises.values() if _within(p.place, found)}
        if len(places) > found.events:
            yield f"it counts {found.events} events in {_said(found)}, where {len(places)} were acknowledged"


def _held_in_the_end(recorded: Recorded, receipt: Receipt) -> Iterator[str]:
    """Events that it says are lost, and that every region holds."""
    missing = missing_promises(recorded) if receipt.remaining else {}
    for found in receipt.remaining:
        inside = ((key, promise) for key, promise in recorded.promises.items() if _within(promise.place, found))
        kept = next((promise for key, promise in inside if key not in missing), None)
        if kept is not None:
            yield f"it says that {_said(found)} is lost, and every region holds {kept.ack.id!r} in it"


def _within(place: Place, found: Range) -> bool:
    log, partition, offset, _ = place
    return log == found.log and partition == found.partition and found.start <= offset < found.end


def _said(found: Range) -> str:
    return f"{found.log}/{found.partition} [{found.start}, {found.end})"
