"""The form of a receipt, as it stands in the coordination store, on disk and in every answer."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["failover", "switchover", "unreachable", "cut", "hole"]
State = Literal["open", "healed", "confirmed_lost"]


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Records known to exist that no survivor holds: offsets `[start, end)` of the origin log."""

    log: str
    partition: int
    start: int
    end: int
    events: int | None
    """Events in them; None when the origin had not said."""


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """When the steps of a takeover happened: unix ms of the new holder's clock.

    0 for a step that did not happen, or of which whoever wrote the receipt does not know: another region may have.
    """

    last_seen_ms: int = 0
    """The old holder's key was last seen."""
    lease_gone_ms: int = 0
    acquired_ms: int = 0
    serving_ms: int = 0
    """Markers written and gate open."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """One incarnation that was lost, left or out of reach, and what that cost.

    What was acknowledged after `last_contact_ms` cannot be known to the survivors; it is lost as well if the
    incarnation does not come back, and the receipt says so by that time.
    """

    receipt_id: str
    kind: Kind
    region: str
    incarnation: str
    """The life that it is about."""
    was_active: bool
    issued_by: str
    """The region that wrote it."""
    epoch: tuple[int, int]
    """The term that a takeover began with, whoever wrote its receipt; else the term in which it was written."""
    created_ms: int
    reason: str
    survivors: list[str]
    last_contact_ms: int
    """Unix ms of the survivor's clock before *sending* the last poll of the origin that was answered; 0: never."""
    ranges: list[Range]
    """As known at first; never shortened. A loss that is confirmed adds what was lost with another region since."""
    remaining: list[Range]
    """What is still missing: empty once healed."""
    state: State
    known_ends: dict[str, dict[int, int]] = {}
    """By log and partition: everything below was known to exist, so it is in `ranges` or held by a survivor.

    A record at or beyond it was acknowledged after `last_contact_ms`: this tells so without comparing clocks.
    """
    returned_ends: dict[str, dict[int, int]] = {}
    """The origin's ends when it was first heard again, in the same life: once they are held, it has healed."""
    inbox: list[Range] = []
    """Records of its inbox that were known to exist and not known to be moved into the log. Inboxes are not copied:
    nobody holds them but the region itself. Some may have been moved since, and be counted for the log."""
    inbox_remaining: list[Range] = []
    """What is still not known to be moved."""
    inbox_ends: dict[int, int] = {}
    """By partition of the inbox: a record at or beyond it came after `inbox_known_ms`, and nobody knows of it."""
    inbox_known_ms: int = 0
    """Unix ms of its gateway's clock up to which the inbox is known; 0: nothing was ever known to be in it."""
    closed_ms: int = 0
    closed_because: str = ""
    operation_id: str = ""
    """Of the operator's operation that led to it."""
    accepted_loss_events: int | None = None
    """What the operator typed to accept, with `failover --accept-loss`."""
    timeline: Timeline = Timeline()
    taken_over_by: str = ""
    """The region whose term began with it, which may be dead by the time it is written; empty when none began."""

    @property
    def holder(self) -> str:
        """The region that held the lease in its epoch."""
        return self.taken_over_by or self.issued_by

    @property
    def events_listed(self) -> int | None:
        """Events in all ranges; None when the count of one is not known."""
        counts = [found.events for found in self.ranges]
        return None if any(count is None for count in counts) else sum(count or 0 for count in counts)
