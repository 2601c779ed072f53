"""How long a failover may take by the formula, and each of its terms.

The formula is that of the forecast (`services.controller.forecast`), and stands there; c, what clients take to find the
new region, is added here. L, the backlog, is nothing: a passive region folds all the time. A failover is held against
it when one lost region explains it, and no other fault stood or had just ended that could matter: two at once no
formula bounds. What was wrong with the data plane of the region that is gone cannot matter, nor can records that
nobody can read.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from region_sim.checkers.base import Failover, Finding, VerdictWord
from region_sim.checkers.failovers import cause_of
from region_sim.checkers.recorded import Hit, Recorded
from region_sim.evidence import ControlTimes
from region_sim.spec import Cut, Load, Partition
from services.controller.forecast import worst_terms

CHECK = "every failover is within the formula"
PARTS = ("lease", "acquire", "promotion", "first_answer")
NOT_WHOLE = ("incoming", "peer", "data")
"""Shapes of a partition in which the old holder's renewals may still arrive: its lease does not end by itself."""

DATA_ONLY = ("model", "disk-full", "topic-loss", "cut", "kill", "pause")
"""Faults that leave etcd and the network as they were, as long as they hit single processes and not etcd's leader."""

DEAD = ("kill", "wipe")
"""Faults that end the holder's processes; it is one among the others when it comes back."""

PLANNED = ("switchover", "restart")
"""What an operator does in order: the holder lets its lease go itself."""

LIVES_ON = ("disk-full", "topic-loss")
"""Faults after which the old holder's controller goes on: it resigns when its data plane has been sick for a while."""


def check(recorded: Recorded, failovers: Sequence[Failover] | None) -> tuple[Finding, list[Failover]]:
    """See the module; returns the failovers with their bounds, too."""
    times = recorded.plan.times
    if failovers is None:
        return _finding("unknown", "nothing is proven: nobody saw who was active before the fault"), []
    if times is None:
        return _finding("unknown", "nothing is proven: what the regions were set to is not known"), list(failovers)
    judged = [_judged(recorded, failover, times) for failover in failovers]
    slow = [one for one in judged if one.within is False]
    held = [one for one in judged if one.within is True]
    if slow:
        return (
            Finding(
                check=CHECK,
                verdict="invalid",
                sentence=f"{slow[0].to_region} took over too late: {slow[0].why}",
                examples=[f"{one.from_region} to {one.to_region}: {one.why}" for one in slow],
                first_index=slow[0].fault,
            ),
            judged,
        )
    doubtful = next((one for one in judged if one.within is None and one.bound_seconds is not None), None)
    if doubtful is not None:
        return _finding("unknown", f"nothing is proven: {doubtful.why}"), judged
    if not judged:
        return _finding("valid", "there was no failover"), judged
    others = sorted({one.why for one in judged if one.within is None})
    sentence = f"{len(held)} of {len(judged)} failovers were judged{', all within their bounds' if held else ''}"
    return _finding("valid", f"{sentence}; the others were not: {'; '.join(others)}" if others else sentence), judged


def bounds(times: ControlTimes, load: Load, *, etcd_leader_too: bool, lead_seconds: float = 0.0) -> dict[str, float]:
    """The longest that each part of a failover may take, in seconds; `lead_seconds`: how long the fault took to hit."""
    worst = worst_terms(times, etcd_leader_too=etcd_leader_too)
    asking = 2 * load.search_timeout_ms / 1000 + 4 / load.searches_per_second
    return {
        "lease": round(lead_seconds + worst.lease, 3),
        "acquire": round(worst.detection, 3),
        "promotion": round(worst.opening, 3),
        "first_answer": round(asking + times.cycle, 3),
    }


def _judged(recorded: Recorded, failover: Failover, times: ControlTimes) -> Failover:
    hit = cause_of(recorded, failover)
    reason = _not_judged(recorded, failover, hit, times)
    if reason is not None or hit is None or hit.seen is None:
        return msgspec.structs.replace(failover, why=reason or "no fault explains it")
    too = hit.seen.etcd_leader_hit
    # A power loss lets the copiers fall behind first; until it strikes, the old holder renews its lease.
    lead = max(0, hit.seen.struck_ms - hit.began.unix_ms) / 1000 if hit.seen.kind == "cut" else 0.0
    load = recorded.drill.load
    short = bounds(times, load, etcd_leader_too=too is True, lead_seconds=lead)
    problem = _exceeds(failover, short)
    whole = round(sum(short.values()), 3)
    judged = msgspec.structs.replace(failover, bounds=short, bound_seconds=whole)
    if problem is None:
        return msgspec.structs.replace(judged, within=True)
    if too is None and _exceeds(failover, bounds(times, load, etcd_leader_too=True, lead_seconds=lead)) is None:
        why = f"{problem}, unless etcd's leader was hit too, and nobody says whether it was"
        return msgspec.structs.replace(judged, why=why)
    return msgspec.structs.replace(judged, within=False, why=problem)


def _exceeds(failover: Failover, allowed: dict[str, float]) -> str | None:
    """Which part, or the whole, took longer than it may."""
    for part in PARTS:
        took = getattr(failover, f"{part}_seconds")
        if took is not None and took > allowed[part]:
            return f"{part} took {took} s, at most {allowed[part]} s"
    whole = round(sum(allowed.values()), 3)
    if failover.rto_seconds is not None and failover.rto_seconds > whole:
        return f"all of it took {failover.rto_seconds} s, at most {whole} s"
    return None


def _not_judged(recorded: Recorded, failover: Failover, hit: Hit | None, times: ControlTimes) -> str | None:
    """Why the formula does not speak of this failover; None when it does."""
    seen = None if hit is None else hit.seen
    if hit is None or seen is None:
        return "no fault explains it"
    whole = seen.target == failover.from_region and seen.region_lost and seen.was_active
    shapes = {fault.shape for fault in recorded.drill.faults if isinstance(fault, Partition)}
    cuts_site = all(fault.whole_site for fault in recorded.drill.faults if isinstance(fault, Cut))
    reason = None
    if seen.kind in PLANNED:
        reason = "it was planned"
    elif not whole:
        reason = f"{hit.label} did not take the active region away"
    elif seen.kind in LIVES_ON or (seen.kind == "cut" and not cuts_site):
        reason = "its controller went on until its data plane had been sick for a while, or could write no more itself"
    elif seen.kind == "partition" and shapes & set(NOT_WHOLE):
        reason = "the old holder's renewals may have arrived"
    elif recorded.drill.load.search_ack == "bounded":
        # A search is an event: with ack=bounded the survivor refuses it while no other region keeps up.
        reason = "apps asked for ack=bounded, which refuses while the other regions are away"
    if reason is not None or failover.rto_seconds is None:
        return reason or "nobody asked the new region for anything in its term"
    return _disturbed(recorded, failover.rto_seconds, hit, times)


def _disturbed(recorded: Recorded, rto_seconds: float, hit: Hit, times: ControlTimes) -> str | None:
    """Which other fault, or the end of this one, came in between; None when none did."""
    # A lease that etcd's new leader has just reset ends later, and a region that is just back is not ready.
    quiet_from = hit.began.monotonic_seconds - times.lease_ttl - 1.5 * times.etcd_election
    until = hit.began.monotonic_seconds + rto_seconds
    stood = (
        other
        for other in recorded.faults
        if other is not hit and other.began.monotonic_seconds < until and other.until_seconds > quiet_from
    )
    disturbing = next((other for other in stood if not _cannot_matter(other, hit)), None)
    if disturbing is not None:
        return f"{disturbing.label} stood as well"
    # A holder whose processes died renews nothing when it is started again; one that was cut off or stopped may.
    if hit.until_seconds < until and hit.began.note not in DEAD:
        return "it was healed before the new region answered"
    return None


def _cannot_matter(other: Hit, hit: Hit) -> bool:
    """Whether a fault neither keeps the lease of a lost region up nor hinders any other one."""
    if other.began.note == "poison":
        return True
    seen = other.seen
    return (
        seen is not None
        and seen.target == hit.began.region
        and other.began.note in DATA_ONLY
        and not seen.region_lost
        and seen.etcd_leader_hit is False
    )


def _finding(verdict: VerdictWord, sentence: str) -> Finding:
    return Finding(check=CHECK, verdict=verdict, sentence=sentence)
