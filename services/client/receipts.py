"""A receipt, as far as an app needs it: which of its acknowledged events did a region take with it?

The controller's `GET /v1/receipts/ID` and `meridian receipts show ID --json` give it. The rules are those of
`meridian receipts match`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from .answers import Coordinates
from .errors import BadReceipt

Effect = Literal["affected", "unaffected", "unknown"]


class MissingRange(msgspec.Struct, frozen=True, kw_only=True):
    """Offsets `[start, end)` of a log."""

    log: str
    partition: int
    start: int
    end: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What one life of a region took with it. Fields that an app does not need are left out."""

    receipt_id: str
    incarnation: str
    state: str
    last_contact_ms: int
    kind: str = ""
    remaining: tuple[MissingRange, ...]
    known_ends: Mapping[str, Mapping[int, int]] = {}

    def effect_on(self, where: Coordinates, acknowledged_ms: int) -> Effect:
        """What it means for an event that was acknowledged at `where`."""
        if where.log.rpartition(".")[0] != self.incarnation or self.state == "healed":
            return "unaffected"
        for found in self.remaining:
            if (found.log, found.partition) == (where.log, where.partition) and found.start <= where.offset < found.end:
                return "affected"
        if self.kind == "hole":
            return "unaffected"
        ends = self.known_ends.get(where.log)
        if ends is not None:
            later = where.offset >= ends.get(where.partition, 0)
        else:
            later = acknowledged_ms > self.last_contact_ms
        if not later:
            return "unaffected"
        # Acknowledged after the last contact: lost for certain once the region came back without its data.
        return "affected" if self.state == "confirmed_lost" else "unknown"


def decode_receipt(raw: bytes | str) -> Receipt:
    """A receipt from its JSON. Raises BadReceipt."""
    try:
        return msgspec.json.decode(raw, type=Receipt)
    except msgspec.MsgspecError as error:
        raise BadReceipt(
            f"this is no receipt: {error}. `meridian receipts show ID --json` prints one, and a controller's "
            "/v1/receipts/ID answers one"
        ) from error
