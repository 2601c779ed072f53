"""Every change of the active region since the first fault: which fault led to it, how long it took, and in what parts.

Who was active is taken from all that was seen outside the regions: the leader key, where somebody watched it, and the
epochs of accepted answers. When a term began and ended is seen late by everybody (the watcher may have been asking a
member of etcd that was cut off), so the earliest of all witnesses is taken: the watcher, the new holder's own timeline
where clocks can be compared, the first answer. How long the promotion took is a difference of the new holder's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from region_sim.checkers.base import Failover
from region_sim.checkers.recorded import Answer, Hit, Recorded
from region_sim.evidence import Epoch, ForecastSeen, ReceiptSeen, TermSeen
from services.controller.forecast import RtoForecast
from services.receipts.model import Timeline

HARMLESS = ("hold", "herd", "poison")
"""Faults after which a region should go on: they explain a failover only when nothing else does."""
FORECAST_AGE_SECONDS_MAX = 1.0
"""What was said longer before a fault was said about another one."""
Parts = tuple[float | None, float | None, float | None, float | None]
"""Lease, acquisition, promotion, first answer."""


@dataclass(slots=True)
class Term:
    """One epoch, as it was seen outside the regions."""

    epoch: Epoch
    region: str
    seen_ms: int | None = None
    """When it was there, at the latest; None: nobody said."""
    gone_ms: int | None = None
    """When it was over, at the latest; None: it was not seen to end."""
    first: Answer | None = None
    """The first answer that was accepted under it."""


def terms(recorded: Recorded) -> list[Term]:
    """All terms by epoch; one that neither was watched nor answered anybody is not known."""
    found: dict[Epoch, Term] = {}
    for seen in recorded.evidence(TermSeen):
        found.setdefault(seen.epoch, Term(seen.epoch, seen.region, seen.seen_ms, seen.gone_ms or None))
    for answer in recorded.answers:
        term = found.get(answer.epoch)
        if term is None:
            term = found[answer.epoch] = Term(answer.epoch, answer.region)
        if term.first is None:
            term.first = answer
            if term.seen_ms is not None:
                term.seen_ms = min(term.seen_ms, answer.unix_ms)
    known = [found[epoch] for epoch in sorted(found)]
    if recorded.are_clocks_true:
        for old, new in pairwise(known):
            _hear(old, new, timeline_of(recorded, new.epoch))
    return known


def _hear(old: Term, new: Term, told: Timeline | None) -> None:
    """What the new holder saw of the change, if it saw it earlier."""
    if told is None:
        return
    if told.acquired_ms:
        new.seen_ms = min(told.acquired_ms, new.seen_ms or told.acquired_ms)
    if told.lease_gone_ms:
        old.gone_ms = min(told.lease_gone_ms, old.gone_ms or told.lease_gone_ms)


def failovers(recorded: Recorded) -> list[Failover] | None:
    """All changes of the active region from the first fault to the end; None when nobody saw any term before it."""
    began = recorded.fault_began
    known = terms(recorded)
    if began is None:
        return None
    before = [term for term in known if _is_before(term, began.unix_ms, began.index)]
    if not before:
        return None
    made = []
    for old, new in pairwise(known[known.index(before[-1]) :]):
        if new.region != old.region:
            made.append(_failover(recorded, old, new))
    return made


def cause_of(recorded: Recorded, failover: Failover) -> Hit | None:
    """The fault that led to a failover."""
    return next((hit for hit in recorded.faults if hit.began.index == failover.fault), None)


def timeline_of(recorded: Recorded, epoch: Epoch) -> Timeline | None:
    """What the new holder says of its takeover, in the receipt about whom it took over from."""
    found = [
        piece.receipt.timeline
        for piece in recorded.evidence(ReceiptSeen)
        if piece.receipt.epoch == epoch and piece.receipt.was_active and piece.receipt.timeline.serving_ms
    ]
    return found[0] if found else None


def _is_before(term: Term, unix_ms: int, index: int) -> bool:
    if term.seen_ms is not None:
        return term.seen_ms <= unix_ms
    return term.first is not None and term.first.index < index


def _failover(recorded: Recorded, old: Term, new: Term) -> Failover:
    cause = _cause(recorded, old, new)
    timeline = timeline_of(recorded, new.epoch)
    began = None if cause is None else cause.began
    rto = None if began is None or new.first is None else new.first.monotonic_seconds - began.monotonic_seconds
    # The new holder's clock may have been set between the two moments.
    told = timeline if recorded.are_clocks_true else None
    forecast = None if cause is None else _forecast(recorded, cause, old.region, new.region)
    lease, acquire, promotion, first = _parts(old, new, told, None if began is None else began.unix_ms)
    return Failover(
        fault=None if began is None else began.index,
        cause="" if cause is None else cause.label,
        from_region=old.region,
        to_region=new.region,
        epoch=new.epoch,
        rto_seconds=None if rto is None else round(rto, 3),
        lease_seconds=lease,
        acquire_seconds=acquire,
        promotion_seconds=promotion,
        first_answer_seconds=first,
        forecast=forecast,
        forecast_error_seconds=None if rto is None or forecast is None else round(rto - forecast.seconds, 3),
    )


def _forecast(recorded: Recorded, cause: Hit, old: str, new: str) -> RtoForecast | None:
    """What was forecast right before a fault for the region that then took over."""
    before = (
        piece
        for entry, piece in reversed(recorded.evidenced(ForecastSeen))
        if entry.index < cause.began.index
        and cause.began.monotonic_seconds - entry.monotonic_seconds <= FORECAST_AGE_SECONDS_MAX
    )
    found = next(before, None)
    return found.regions.get(new) if found is not None and found.active == old else None


def _cause(recorded: Recorded, old: Term, new: Term) -> Hit | None:
    """The fault that explains best why the old holder's term ended: the last one of the first of these that there is.

    One that takes the active region away, or moves the activity, in that term; another one on that region in that term;
    any on that region; any at all.
    """
    over_ms = old.gone_ms or new.seen_ms or (new.first.unix_ms if new.first is not None else 0)
    earlier = [hit for hit in recorded.hits if hit.began.unix_ms <= over_ms]
    own = [hit for hit in earlier if hit.began.region == old.region]
    in_term = [hit for hit in own if hit.began.unix_ms >= (old.seen_ms or 0) or hit.until_ms >= over_ms]
    moving = [hit for hit in in_term if _moves(hit)]
    harming = [hit for hit in in_term if hit.began.note not in HARMLESS]
    found = moving or harming or in_term or own or earlier
    return found[-1] if found else None


def _moves(hit: Hit) -> bool:
    seen = hit.seen
    return seen is not None and seen.was_active and (seen.region_lost or seen.kind == "switchover")


def _parts(old: Term, new: Term, timeline: Timeline | None, began_ms: int | None) -> Parts:
    """See the module. Seconds; what was not seen is None."""
    told = timeline or Timeline()
    gone_ms, acquired_ms = old.gone_ms, new.seen_ms
    promotion_ms = told.serving_ms - told.acquired_ms if told.serving_ms and told.acquired_ms else None
    serving_ms = None if promotion_ms is None or not acquired_ms else acquired_ms + promotion_ms
    first_ms = None if new.first is None else new.first.unix_ms
    if serving_ms is not None and first_ms is not None:
        # The controller hears of its open gate when it asks next; who was answered before knew it earlier.
        serving_ms = min(serving_ms, first_ms)

    def between(earlier: int | None, later: int | None) -> float | None:
        # The witnesses of the two moments are not the same: seen in the wrong order, they measure nothing.
        return None if not earlier or not later or later < earlier else round((later - earlier) / 1000, 3)

    return (
        between(began_ms, gone_ms),
        between(gone_ms, acquired_ms),
        between(acquired_ms, serving_ms),
        between(serving_ms, first_ms),
    )
