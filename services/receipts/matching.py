"""Which of an app's acknowledged events does a receipt concern?

Decided by position alone wherever the receipt says which ends were known: a record beyond them was acknowledged after
the last contact, whatever anybody's clock said. Only a receipt without them falls back on times. What cannot be
decided is unknown; it is never called unaffected.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import msgspec

from services.receipts.model import Range, Receipt
from streams.logs import events_log, inbox_topic

Effect = Literal["affected", "unaffected", "unknown"]


class Place(Protocol):
    """What matching needs of an acknowledgement; the ledger's `Ack` has it."""

    @property
    def log(self) -> str:
        """The events log."""

    @property
    def partition(self) -> int:
        """Of that log."""

    @property
    def offset(self) -> int:
        """Of the record, in the origin log."""

    @property
    def acknowledged_ms(self) -> int:
        """Unix ms when the acknowledgement arrived; 0: not noted."""


class Matches(msgspec.Struct, frozen=True, kw_only=True):
    """What a receipt means for a list of acknowledgements."""

    receipt_id: str
    state: str
    acknowledged: int
    """All that were looked at."""
    affected: list[int]
    """Places in the list (from 0) of events that no survivor holds."""
    unknown: list[int]
    """Places of events that were acknowledged after the last contact, while the receipt is open."""
    recovered: int
    """Events that were missing once and are held by now; they are unaffected."""
    unaffected: int


def match(receipt: Receipt, acks: Iterable[Place]) -> Matches:
    """Hold acknowledgements against a receipt."""
    affected: list[int] = []
    unknown: list[int] = []
    recovered = unaffected = 0
    for number, ack in enumerate(acks):
        effect = effect_on(receipt, ack)
        if effect == "affected":
            affected.append(number)
        elif effect == "unknown":
            unknown.append(number)
        else:
            unaffected += 1
            recovered += _within(receipt.ranges, ack)
    return Matches(
        receipt_id=receipt.receipt_id,
        state=receipt.state,
        acknowledged=len(affected) + len(unknown) + unaffected,
        affected=affected,
        unknown=unknown,
        recovered=recovered,
        unaffected=unaffected,
    )


def effect_on(receipt: Receipt, ack: Place) -> Effect:
    """Return what a receipt means for one acknowledged event."""
    if ack.log.rpartition(".")[0] != receipt.incarnation or receipt.state == "healed":
        return "unaffected"
    if ack.log == inbox_topic(receipt.incarnation):
        return _effect_on_inbox(receipt, ack)
    if _within(receipt.remaining, ack):
        return "affected"
    if receipt.kind == "hole" or not _after_last_contact(receipt, ack):
        return "unaffected"
    # Nobody held it when the last region had been asked: then it is lost, not unknown.
    return "affected" if receipt.state == "confirmed_lost" else "unknown"


def _effect_on_inbox(receipt: Receipt, ack: Place) -> Effect:
    """What the receipt means for a record that an app published to the inbox, by its offset there.

    A record that was moved lies in the log since, and only the region's own receipts of the inbox say where: as long as
    anything of that log is missing, it may be that.
    """
    if _within(receipt.inbox_remaining, ack):
        return "affected"
    if receipt.kind == "hole":
        return "affected" if _within(receipt.remaining, ack) else "unaffected"
    # Beyond what was known; or moved since, behind what was known of the log: nobody says who holds that.
    if ack.offset >= receipt.inbox_ends.get(ack.partition, 0) or _within(receipt.inbox, ack):
        return "affected" if receipt.state == "confirmed_lost" else "unknown"
    missing = any(found.log == events_log(receipt.incarnation) for found in receipt.remaining)
    return "unknown" if missing else "unaffected"


def _after_last_contact(receipt: Receipt, ack: Place) -> bool:
    ends = receipt.known_ends.get(ack.log)
    if ends is not None:
        return ack.offset >= ends.get(ack.partition, 0)
    return ack.acknowledged_ms == 0 or ack.acknowledged_ms > receipt.last_contact_ms


def _within(ranges: Sequence[Range], ack: Place) -> bool:
    return any(
        (found.log, found.partition) == (ack.log, ack.partition) and found.start <= ack.offset < found.end
        for found in ranges
    )
