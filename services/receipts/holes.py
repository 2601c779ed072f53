"""The receipt of a hole: records that an operator gave up, so that every reader steps over them alike.

It says no more than that: it is closed from the beginning, and what the life acknowledges elsewhere or later is none of
its business.
"""

from services.coordination.lives import Life
from services.receipts.model import Range, Receipt
from streams.logs import events_log


def hole_receipt(
    life: Life, log: str, partition: int, start: int, end: int, *, by: str, reason: str, issued_by: str, now_ms: int
) -> Receipt:
    """Return the receipt for `[start, end)`; its id is the same for whoever accepts the same hole."""
    events = None if log == events_log(life.incarnation) else 0
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
