"""What is missing, and what has become of it: pure functions over what every region reports.

The idea: a log has one writer and copies are prefixes of it, so what is missing is one range a partition: from the
longest prefix that any survivor holds to the largest end that anybody ever saw. A receipt lists those ranges and the
time of the last contact, beyond which nobody can know. It shrinks only on what survivors say they hold, is healed only
when the same life was heard again *after* the receipt was written and all that it had then is held, and is confirmed
only when the region has come back as another life and every other region has been asked.
An estimate "from the lag" was turned down: nobody can act on a number of records without knowing which.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from services.coordination.lives import Life, LogCut
from services.receipts.model import Kind, Range, Receipt, Timeline
from streams.logs import events_log

Ends = Mapping[int, int]
"""Next offset of the origin log, by partition."""
Epoch = tuple[int, int]


@dataclass(frozen=True, slots=True)
class LogEvidence:
    """What is known of one log of the incarnation at the moment when a receipt is written."""

    log: str
    held: Ends
    """The longest contiguous prefix that any survivor holds."""
    known_ends: Ends
    """The largest end that anybody saw or acknowledged."""
    events_after_held: Mapping[int, int | None]
    """Events in `[held, known end)`; None or absent: not known."""
    last_contact_ms: int
    """Unix ms before sending the last answered poll; 0: never."""


@dataclass(frozen=True, slots=True)
class InboxEvidence:
    """What is known of the incarnation's inbox, from what its gateway recorded outside it."""

    inbox: str
    ends: Ends
    moved: Ends
    known_ms: int

    def unmoved(self) -> list[Range]:
        """Return the records that are known to exist and not known to be moved; each is one event."""
        return [
            Range(log=self.inbox, partition=partition, start=start, end=end, events=end - start)
            for partition, end in sorted(self.ends.items())
            if (start := self.moved.get(partition, 0)) < end
        ]


@dataclass(frozen=True, slots=True)
class Contact:
    """What is known of the incarnation now."""

    last_contact_ms: int
    """Unix ms before sending the last poll that the origin answered *in this life*; 0: never."""
    ends: Mapping[str, Ends] = field(default_factory=dict)
    """Its ends by log, as of that contact."""
    unheard: Sequence[str] = ()
    """Other regions that could hold copies and did not say what they hold; nothing is confirmed lost meanwhile."""
    inbox_moved: Ends = field(default_factory=dict)
    """How far the incarnation's inbox is known to be moved."""


def new_receipt_id(incarnation: str, epoch: Epoch) -> str:
    """Return the id of the receipt for this incarnation and term: writing it twice makes one."""
    return f"{incarnation}-{epoch[0]}-{epoch[1]}"


def missing_ranges(
    log: str,
    held: Ends,
    known_ends: Ends,
    events_after_held: Mapping[int, int | None],
    cuts: Iterable[LogCut] = (),
) -> list[Range]:
    """Return what is known to exist in `log` and is held by no survivor, by partition.

    A cut says that the origin itself lost what it had acknowledged: its acknowledged end counts as known. What the
    origin still holds below it is listed until a survivor holds it as well, for it may be lost before.
    """
    ends = _with_cuts(log, known_ends, cuts)
    missing: list[Range] = []
    for partition, end in sorted(ends.items()):
        start = held.get(partition, 0)
        if start < end:
            # A count for another end than this one would be a guess.
            counted = end == known_ends.get(partition)
            events = events_after_held.get(partition) if counted else None
            missing.append(Range(log=log, partition=partition, start=start, end=end, events=events))
    return missing


def issue(
    *,
    receipt_id: str,
    kind: Kind,
    life: Life,
    was_active: bool,
    issued_by: str,
    epoch: Epoch,
    now_ms: int,
    reason: str,
    survivors: Sequence[str],
    evidence: Sequence[LogEvidence],
    operation_id: str = "",
    accepted_loss_events: int | None = None,
    timeline: Timeline | None = None,
    taken_over_by: str = "",
    inbox: InboxEvidence | None = None,
) -> Receipt:
    """Write the receipt of one life, from the evidence about its logs. It is open; `advance` closes it.

    The last contact is that of the events log, where everything lies that was promised to an app; without one in the
    evidence, the oldest of all logs.
    """
    ranges = [
        missing
        for found in evidence
        for missing in missing_ranges(found.log, found.held, found.known_ends, found.events_after_held, life.cuts)
    ]
    known = {found.log: dict(_with_cuts(found.log, found.known_ends, life.cuts, found.held)) for found in evidence}
    promised = [found for found in evidence if found.log == events_log(life.incarnation)] or list(evidence)
    unmoved = inbox.unmoved() if inbox is not None else []
    return Receipt(
        receipt_id=receipt_id,
        kind=kind,
        region=life.region,
        incarnation=life.incarnation,
        was_active=was_active,
        issued_by=issued_by,
        epoch=epoch,
        created_ms=now_ms,
        reason=reason,
        survivors=sorted(survivors),
        last_contact_ms=min((found.last_contact_ms for found in promised), default=0),
        ranges=ranges,
        remaining=ranges,
        state="open",
        known_ends=known,
        operation_id=operation_id,
        accepted_loss_events=accepted_loss_events,
        timeline=timeline or Timeline(),
        taken_over_by=taken_over_by,
        inbox=unmoved,
        inbox_remaining=unmoved,
        inbox_ends=dict(inbox.ends) if inbox is not None else {},
        inbox_known_ms=inbox.known_ms if inbox is not None else 0,
    )


def advance(
    receipt: Receipt, held_by_log: Mapping[str, Ends], lives: Iterable[Life], contact: Contact, now_ms: int
) -> Receipt:
    """Return the receipt as it stands now; the very same object when nothing changed. A closed one never changes.

    `held_by_log`: the longest prefix that any region holds as a copy. A log or partition that nobody reports keeps
    what was known of it.
    """
    if receipt.state != "open":
        return receipt
    now = msgspec.structs.replace(
        receipt,
        remaining=[left for found in receipt.ranges for left in _left_of(found, receipt.remaining, held_by_log)],
        known_ends=_raised(receipt.known_ends, held_by_log),
        inbox_remaining=_unmoved(receipt.inbox, contact.inbox_moved)
        if contact.inbox_moved
        else receipt.inbox_remaining,
        returned_ends=receipt.returned_ends or _returned(receipt, contact),
    )
    closed = _closing(now, held_by_log, list(lives), contact)
    if closed is not None:
        state, because = closed
        if state == "confirmed_lost":
            now = _with_all_missing(now, held_by_log)
            because = f"{because} {_cost(now)}"
        now = msgspec.structs.replace(now, state=state, closed_ms=now_ms, closed_because=because)
    return receipt if now == receipt else now


def _closing(
    receipt: Receipt, held: Mapping[str, Ends], lives: Sequence[Life], contact: Contact
) -> tuple[str, str] | None:
    """Return the state in which the receipt ends and why; None while it is open."""
    own = next((life for life in lives if life.incarnation == receipt.incarnation), None)
    if own is None:
        return None
    if own.sealed:
        later = [life for life in lives if life.region == own.region and life.number > own.number]
        if not later or contact.unheard:
            return None
        newest = max(later, key=lambda life: life.number).incarnation
        return (
            "confirmed_lost",
            f"{own.region} came back as {newest}, and every other region was asked.",
        )
    drained = all(
        held.get(log, {}).get(partition, 0) >= end
        for log, ends in receipt.returned_ends.items()
        for partition, end in ends.items()
    )
    if receipt.returned_ends and drained and not receipt.remaining and not receipt.inbox_remaining:
        return "healed", f"{receipt.incarnation} was heard again and everything that it held then is held elsewhere too"
    return None


def _unmoved(listed: Sequence[Range], moved: Ends) -> list[Range]:
    """Return what is left of ranges of an inbox that is moved so far."""
    left = []
    for found in listed:
        start = max(found.start, moved.get(found.partition, 0))
        if start < found.end:
            left.append(msgspec.structs.replace(found, start=start, events=found.end - start))
    return left


def _with_all_missing(receipt: Receipt, held_by_log: Mapping[str, Ends]) -> Receipt:
    """List all that was known to exist and is held by nobody, now that everybody was asked.

    What only one survivor held when the receipt was written may be gone with that one since.
    """
    known = receipt.known_ends
    ranges = list(receipt.ranges)
    remaining = [found for found in receipt.remaining if found.partition not in known.get(found.log, {})]
    for log, ends in known.items():
        for partition, end in sorted(ends.items()):
            place = (log, partition)
            before = [found for found in receipt.remaining if (found.log, found.partition) == place]
            held = held_by_log.get(log, {}).get(partition)
            if held is None or (before and (before[0].start, before[0].end) == (held, end)):
                remaining += before
            elif held < end:
                events = None if log == events_log(receipt.incarnation) else 0
                missing = Range(log=log, partition=partition, start=held, end=end, events=events)
                remaining.append(missing)
                ranges += _beyond(missing, [found for found in receipt.ranges if (found.log, found.partition) == place])
    return msgspec.structs.replace(receipt, ranges=ranges, remaining=remaining)


def _beyond(missing: Range, listed: Sequence[Range]) -> list[Range]:
    """Return the parts of `missing` that are not listed."""
    pieces = [(missing.start, missing.end)]
    for found in listed:
        pieces = [
            part
            for start, end in pieces
            for part in ((start, min(end, found.start)), (max(start, found.end), end))
            if part[0] < part[1]
        ]
    return [msgspec.structs.replace(missing, start=start, end=end) for start, end in pieces]


def _cost(receipt: Receipt) -> str:
    unmoved = sum(found.end - found.start for found in receipt.inbox_remaining)
    inbox = f" Lost with its inbox, unless it was moved at the last moment: {unmoved} records." if unmoved else ""
    return f"{_cost_of_logs(receipt)}{inbox}"


def _cost_of_logs(receipt: Receipt) -> str:
    if not receipt.remaining:
        return "Nothing is missing of what was known; what was acknowledged after the last contact is lost."
    ranges = len(receipt.remaining)
    what = f"{ranges} range{'s' if ranges > 1 else ''} and what was acknowledged after the last contact"
    return f"Lost: {what}."


def _returned(receipt: Receipt, contact: Contact) -> dict[str, dict[int, int]]:
    # A report from before the receipt was written would heal the region that has just died.
    if contact.last_contact_ms <= receipt.created_ms or not contact.ends:
        return {}
    return {log: dict(ends) for log, ends in contact.ends.items()}


def _left_of(found: Range, before: Sequence[Range], held_by_log: Mapping[str, Ends]) -> Iterable[Range]:
    held = held_by_log.get(found.log, {}).get(found.partition)
    if held is None:
        return [
            left for left in before if (left.log, left.partition, left.end) == (found.log, found.partition, found.end)
        ]
    if held <= found.start:
        return [found]
    # Nobody counted the events of a part, unless there are none in the whole.
    return [] if held >= found.end else [msgspec.structs.replace(found, start=held, events=found.events and None)]


def _with_cuts(log: str, known_ends: Ends, cuts: Iterable[LogCut], held: Ends | None = None) -> Ends:
    ends = dict(known_ends)
    for cut in cuts:
        if cut.log == log:
            ends[cut.partition] = max(ends.get(cut.partition, 0), cut.acknowledged_end)
    for partition, end in (held or {}).items():
        ends[partition] = max(ends.get(partition, 0), end)
    return ends


def _raised(known: Mapping[str, Ends], held_by_log: Mapping[str, Ends]) -> dict[str, dict[int, int]]:
    raised = {log: dict(ends) for log, ends in known.items()}
    for log, ends in raised.items():
        for partition, held in held_by_log.get(log, {}).items():
            ends[partition] = max(ends.get(partition, 0), held)
    return raised
