"""What a checker returns, and the figures that all of them fill in together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

VerdictWord = Literal["valid", "invalid", "unknown"]
_WORST_FIRST: Final[tuple[VerdictWord, ...]] = ("invalid", "unknown", "valid")


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The measured numbers; None: not measured, or not defined for this drill."""

    rto_seconds: float | None = None
    """From the fault to the first ranking from another region."""
    lease_seconds: float | None = None
    """From the fault until the old holder's key was seen to be gone."""
    acquire_seconds: float | None = None
    """From there until the new holder had the lease."""
    promotion_seconds: float | None = None
    """From there until its gate was open."""
    first_answer_seconds: float | None = None
    """From there to the first ranking."""
    gap_seconds: float | None = None
    """The longest time without any ranking, from the fault on."""
    heal_seconds: float | None = None
    rpo_events: int | None = None
    """Acknowledged events of the lost region that no survivor held after the takeover."""
    acknowledged: int | None = None
    lost: int | None = None
    """Acknowledged events that at least one healed region does not hold in the end."""
    lost_unlisted: int | None = None
    """Of these: neither in a range of a receipt nor acknowledged after its `last_contact`."""
    last_contact_before_fault_seconds: float | None = None
    counted_twice: int | None = None
    stale_answers: int | None = None
    """Accepted by the client library though it, or anybody before it was asked, had seen a larger epoch."""
    stale_refused: int | None = None
    """Thrown away by the client library."""
    stale_bare_in_flight: int | None = None
    """Accepted by a bare client, asked for before anybody had seen the larger epoch."""
    stale_bare_late: int | None = None
    """Accepted by a bare client, asked for after that."""
    digests_equal: bool | None = None
    searches_ok: int | None = None
    searches_failed: int | None = None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one checker found."""

    check: str
    verdict: VerdictWord
    sentence: str
    examples: list[str] = []
    figures: Figures = Figures()


def worst(verdicts: Iterable[VerdictWord]) -> VerdictWord:
    """Return the worst of several; unknown when there is none: nothing was checked."""
    found = set(verdicts)
    return next((word for word in _WORST_FIRST if word in found), "unknown")


def merged(findings: Iterable[Finding]) -> Figures:
    """All figures in one; each is filled in by one checker."""
    known: dict[str, float | bool | None] = {}
    for finding in findings:
        for name, value in msgspec.structs.asdict(finding.figures).items():
            if value is not None:
                assert name not in known, f"{name} is measured by two checkers"
                known[name] = value
    return Figures(**known)  # type: ignore[arg-type]
