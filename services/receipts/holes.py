"""The receipt of a hole: records that an operator gave up, so that every reader steps over them alike.

Or records of an inbox that were gone before they were moved. It says no more than that: it is closed from the
beginning, and what the life acknowledges elsewhere or later is none of its business.
"""

from services.coordination.lives import Life
from services.receipts.model import Range, Receipt
from streams.logs import events_log, inbox_topic


def hole_receipt(
    life: Life, log: str, partition: int, start: int, end: int, *, by: str, reason: str, issued_by: str, now_ms: int
) -> Receipt:
    """Return the receipt for `[start, end)`; its id is the same for whoever accepts the same hole."""
    events = {events_log(life.incarnation): None, inbox_topic(life.incarnation): end - start}.get(log, 0)
    ranges = [Range(log=log, partition=partition, start=start, end=end, events=events)]
    return Receipt(
        receipt_id=f"{log}-{partition}-hole-{start}-{end}",
        kind="hole",
        region=life.region,
        incarnation=life.incarnation,
        was_active=False,
        issued_by=issued_by,
        epoch=(0, 0),
        created_ms=now_ms,
        reason=f"{by} accepted a hole: {reason}",
        survivors=[issued_by],
        last_contact_ms=now_ms,
        ranges=ranges,
        remaining=ranges,
        state="confirmed_lost",
        closed_ms=now_ms,
        closed_because=f"{by} accepted that these records will never come",
    )


def inbox_gap_receipt(region: str, incarnation: str, partition: int, start: int, end: int, now_ms: int) -> Receipt:
    """Return the receipt for records `[start, end)` of an inbox that its broker removed before they were moved."""
    inbox = inbox_topic(incarnation)
    ranges = [Range(log=inbox, partition=partition, start=start, end=end, events=end - start)]
    return Receipt(
        receipt_id=f"{inbox}-{partition}-gone-{start}-{end}",
        kind="hole",
        region=region,
        incarnation=incarnation,
        was_active=False,
        issued_by=region,
        epoch=(0, 0),
        created_ms=now_ms,
        reason="the broker removed records of the inbox before they were moved: nobody moved them for too long, or "
        "somebody removed them by hand",
        survivors=[],
        last_contact_ms=now_ms,
        ranges=ranges,
        remaining=ranges,
        state="confirmed_lost",
        closed_ms=now_ms,
        closed_because="what an inbox has lost is nowhere else",
    )
