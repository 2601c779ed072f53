"""Receipts: what a lost or unreachable incarnation had acknowledged and nobody else holds, exactly.

A controller uses it like this, each cycle, while it leads:

    book = ReceiptBook(store, region.data_dir / "receipts")
    found = [log_evidence(log, reports.values(), await acknowledged_ends(store, log)) for log in logs_of(incarnation)]
    await book.put(issue(receipt_id=new_receipt_id(incarnation, epoch), ..., evidence=found))
    for receipt in await book.open():
        held, contact = held_by_log(receipt, reports), contact_of(receipt, reports, other_regions)
        await book.change(receipt.receipt_id, lambda it: advance(it, held, lives, contact, now_ms))

and, in every region, leader or not: `await book.mirror()`.
"""

from services.receipts.book import ReceiptBook
from services.receipts.core import Contact, InboxEvidence, LogEvidence, advance, issue, missing_ranges, new_receipt_id
from services.receipts.evidence import contact_of, held_by_log, log_evidence, says_all
from services.receipts.matching import Matches, Place, match
from services.receipts.model import Kind, Range, Receipt, State, Timeline

__all__ = [
    "Contact",
    "InboxEvidence",
    "Kind",
    "LogEvidence",
    "Matches",
    "Place",
    "Range",
    "Receipt",
    "ReceiptBook",
    "State",
    "Timeline",
    "advance",
    "contact_of",
    "held_by_log",
    "issue",
    "log_evidence",
    "match",
    "missing_ranges",
    "new_receipt_id",
    "says_all",
]
