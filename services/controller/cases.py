"""Which lives need a receipt now: pure, so that each case is a line of a test.

Every life that was lost, left or is out of reach gets one: the one that was active when the lease went elsewhere, one
that was not heard for long, one that lost part of its log, one that came back as another before anybody noticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.controller.model import Operation
from services.coordination.lives import Life, current_lives
from services.receipts import Kind, Receipt
from services.replicator.client import ReplicationReport
from streams.logs import events_log

NEVER_HEARD_SECONDS: Final = 120.0
"""So much longer is waited for a life that no other region has heard yet."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """A term that began, and who held the one before."""

    epoch: tuple[int, int]
    region: str
    """Whose term it is."""
    before: str
    """Region; empty when there was none or it is not known."""
    acquired_ms: int
    cause: str
    operation: Operation | None
    last_seen_ms: int = 0
    """0, as for what follows: not known to whoever looks."""
    lease_gone_ms: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """One receipt to write."""

    kind: Kind
    life: Life
    was_active: bool
    reason: str


def takeover_case(takeover: Takeover, lives: Sequence[Life]) -> Case | None:
    """The life that was active before this term, unless that was the same region. `lives`: as of when it began."""
    life = current_lives(lives).get(takeover.before)
    if life is None or takeover.before == takeover.region:
        return None
    operation = takeover.operation
    kind: Kind = "switchover" if operation is not None and operation.kind == "switchover" else "failover"
    reason = f"{operation.kind} by {operation.by}: {operation.reason}" if operation is not None else takeover.cause
    return Case(kind, life, was_active=True, reason=reason)


def other_cases(
    lives: Sequence[Life],
    receipts: Sequence[Receipt],
    report: ReplicationReport | None,
    now_ms: int,
    unreachable_seconds: float,
) -> list[Case]:
    """Lives that were cut, came back as others, or are out of reach, and have no receipt for that yet."""
    settled = {
        each.incarnation for each in receipts if each.state in {"open", "confirmed_lost"} and each.kind != "hole"
    }
    cut = {each.incarnation for each in receipts if each.kind == "cut"}
    cases = []
    for life in lives:
        if life.cuts and life.incarnation not in cut:
            what = ", ".join(f"{each.log}/{each.partition} {each.found}-{each.acknowledged_end}" for each in life.cuts)
            cases.append(Case("cut", life, was_active=False, reason=f"{life.sealed_because}: {what}"))
        elif life.incarnation in settled:
            continue
        elif life.sealed:
            cases.append(Case("unreachable", life, was_active=False, reason=life.sealed_because))
        elif (silent := _silent_seconds(life, report, now_ms)) is not None and silent > unreachable_seconds:
            reason = f"its log was last heard {silent:.0f} s ago"
            cases.append(Case("unreachable", life, was_active=False, reason=reason))
    return cases


def _silent_seconds(life: Life, report: ReplicationReport | None, now_ms: int) -> float | None:
    """For how long a life's log was not heard from here; None when it is heard, or it is not known."""
    found = report.log(events_log(life.incarnation)) if report is not None else None
    if found is None or found.reachable:
        return None
    if found.last_contact_ms:
        return (now_ms - found.last_contact_ms) / 1000
    # A life that was never heard is most likely still starting; if it is not, it has promised little.
    return (now_ms - life.opened_ms) / 1000 - NEVER_HEARD_SECONDS
