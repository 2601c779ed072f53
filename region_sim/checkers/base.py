"""What a checker returns, and the figures that all of them fill in together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from region_sim.evidence import Epoch
from services.controller.forecast import RtoForecast

VerdictWord = Literal["valid", "invalid", "unknown"]
_WORST_FIRST: Final[tuple[VerdictWord, ...]] = ("invalid", "unknown", "valid")


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The measured numbers; None: not measured, or not defined for this drill."""

    rto_seconds: float | None = None
    """From the fault to the first ranking from another region; with several failovers, of the first."""
    rto_forecast_seconds: float | None = None
    """What the region that took over had forecast right before the fault."""
    rto_forecast_error_seconds: float | None = None
    """RTO less that forecast."""
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
    """Acknowledged events of lost regions that no survivor held after the takeover."""
    acknowledged: int | None = None
    lost: int | None = None
    """Acknowledged events that at least one healed region does not hold in the end."""
    lost_unlisted: int | None = None
    """Of these: neither dead-lettered, nor in a range of a receipt, nor acknowledged after its `last_contact`."""
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
    after_term: int | None = None
    """Accepted by anybody, asked for when the term of its epoch had ended."""
    digests_equal: bool | None = None
    searches_ok: int | None = None
    searches_failed: int | None = None
    failover_count: int | None = None
    """Changes of the active region from the first fault to the end."""
    dead_letters: int | None = None
    """Records that could not be read, over all logs."""
    events_said: int | None = None
    events_in_logs: int | None = None
    """Distinct events that apps said in this drill and that lie in a log of some region."""
    duplicates_in_logs: int | None = None
    """Rows that hold an event which lies elsewhere in the logs, too: they count once."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one checker found."""

    check: str
    verdict: VerdictWord
    sentence: str
    examples: list[str] = []
    figures: Figures = Figures()
    first_index: int | None = None
    """Index of the first entry of the history that breaks it; None: none does, or it is no single one."""


class Failover(msgspec.Struct, frozen=True, kw_only=True):
    """One change of the active region. Times in seconds; None: not measured."""

    fault: int | None
    """Index of the entry with which the fault began that led to it; None: no fault explains it."""
    cause: str
    """That fault, in words."""
    from_region: str
    to_region: str
    epoch: Epoch
    rto_seconds: float | None = None
    """From that fault to the first ranking under the new epoch."""
    lease_seconds: float | None = None
    acquire_seconds: float | None = None
    promotion_seconds: float | None = None
    first_answer_seconds: float | None = None
    bound_seconds: float | None = None
    """The longest that the formula allows; None: it does not speak of this failover."""
    bounds: dict[str, float] = {}
    """Its terms, by the names of the parts above without `_seconds`."""
    forecast: RtoForecast | None = None
    """What its new holder's controller said right before that fault; None: nobody was asked, or it did not know."""
    forecast_error_seconds: float | None = None
    """What was measured less what was forecast; None: one of them is not known."""
    within: bool | None = None
    """Whether every part and the whole are within their bounds; None: not judged, see `why`."""
    why: str = ""


def worst(verdicts: Iterable[VerdictWord]) -> VerdictWord:
    """Return the worst of several; unknown when there is none: nothing was checked."""
    found = set(verdicts)
    return next((word for word in _WORST_FIRST if word in found), "unknown")


def merged(findings: Iterable[Finding]) -> Figures:
    """All figures in one; each is filled in by one checker."""
    known: dict[str, float | bool | None] = {}
    for finding in findings:
        for name in Figures.__struct_fields__:
            value = getattr(finding.figures, name)
            if value is not None:
                assert name not in known, f"{name} is measured by two checkers"
                known[name] = value
    return Figures(**known)  # type: ignore[arg-type]
