"""How long until rankings come from here, if the active region died now: the formula, pure, and its only copy.

    U <= A + w + p + a + b + L / mu
    A = T + 0.5 s + commit               etcd's leader survives
    A = E + ET + T + 0.5 s + commit      etcd's leader goes too; E < 2 ET

(`docs/concepts/rto-forecast.md`; research: failover control planes, section 2.) T is the lease's time to live, 0.5 s
how often etcd looks for leases that ended, E its election and ET its time-out for one. w, p, a: the news travels, then
candidates are compared, and one campaigns. b: the markers are written. L: events that are not folded here yet, mu: how
fast this processor folds. Drills hold what they measure against `worst_terms`; what an operator wants to know is not
the worst case but what is likely, `expected_terms`. A region dies at any moment between two renewals, so its lease
goes on for T less half of the pause between them; etcd finds it half a look later. News, campaign and markers take
what no setting says: that is what drills measure, and the median of (measured - formula) is added as `correction`.

The alternative, to forecast what the last drill took, says nothing about another lease time, a backlog, or a region
that stands back. What is not known makes the forecast unknown: never a zero, and never a number from what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

SCAN_SECONDS: Final = 0.5
"""How often etcd looks for leases that ended."""
EVENTS_PER_SECOND_MIN: Final = 1_000.0
"""What a processor is believed to fold while that was never measured: well below what any of them was seen to do."""
HOLDS_LEASE: Final = "it holds the lease"
"""Why the active region has no forecast."""
PARTS: Final = ("lease", "detection", "replay", "opening", "correction")
"""Of a forecast, in the order in which they pass; their sum is the forecast."""
NEWS_AGE_SECONDS: Final = 3.0
"""What the processor said of its backlog counts for so long, and for two observations more."""


class ControlTimes(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that bound how long a failover may take, in seconds."""

    lease_ttl: float
    renew_interval: float
    request_timeout: float
    cycle: float
    observe: float
    rank_delay: float
    etcd_election: float
    """Longest time in which etcd elects another leader."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a failover that do not depend on a backlog, in seconds."""

    lease: float
    """From the death until etcd has ended the lease."""
    detection: float
    """From there until this region has noticed and holds the lease itself."""
    opening: float
    """From there until its markers are written and its gate is open."""


class RtoForecast(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds until rankings come from a region, if the active one died now."""

    seconds: float
    """Expected: the sum of the five parts below, at least 0."""
    detection_seconds: float
    lease_seconds: float
    replay_seconds: float
    opening_seconds: float
    lag_events: int
    """Events that its copies lack, and events in its logs that are not folded yet."""
    events_per_second: float | None
    """How fast it folds, as measured; None: never measured, and EVENTS_PER_SECOND_MIN is taken."""
    because: str
    """The parts in one sentence."""
    correction_seconds: float = 0.0
    """What past drills took beyond the formula; may be negative."""
    error_seconds: float | None = None
    """Mean error of this forecast in those drills; None: it was not held against any."""
    seconds_max: float = 0.0
    """The worst case by the formula, which no drill may exceed."""

    def part(self, name: str) -> float:
        """One of PARTS, in seconds."""
        return float(getattr(self, f"{name}_seconds"))


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """How far drills were from the formula: measured RTO less what `expected_terms` and the backlog gave."""

    drills: int = 0
    median_seconds: float = 0.0
    low_seconds: float = 0.0
    high_seconds: float = 0.0
    error_seconds: float | None = None
    """Mean of what the forecast would have missed each drill by, corrected by all others; None with fewer than two."""
    error_seconds_max: float | None = None


NO_CORRECTION: Final = Correction()


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a region has not folded yet."""

    copies_events: int | None
    """Events that its copies are known to lack; None: not known."""
    fold_events: int | None
    """Events in its own Kafka that its processor has not folded."""
    events_per_second: float | None
    asked_at: float
    """When the processor was asked, on the clock of `now`."""
    unknown: str = ""
    """Why something is not known; empty when all is."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the region stands in the election that would come."""

    place: int
    """0: it goes first; each place waits for one more `rank_delay`."""
    etcd_leader_too: bool
    """Whether etcd's leader would be lost with the active region."""
    lease_gone_at: float | None
    """Since when no region holds the lease, on the clock of `now`; None while one does."""
    etcd_leader_known: bool = True
    """Where nobody says who leads etcd, the worst case is that the active region does."""


def worst_terms(times: ControlTimes, *, etcd_leader_too: bool) -> Terms:
    """The longest that each part may take."""
    lease = times.lease_ttl + SCAN_SECONDS + times.request_timeout
    if etcd_leader_too:
        lease += 1.5 * times.etcd_election
    # A member of etcd that is gone is tried first, once for each of three members, in every call.
    store = 3 * times.request_timeout
    return Terms(
        lease=lease,
        detection=times.cycle + times.observe + times.rank_delay + 2 * store,
        opening=times.cycle + times.observe + store,
    )


def expected_terms(times: ControlTimes, *, place: int, etcd_leader_too: bool) -> Terms:
    """The mean of each part over the moment of the death, as far as settings say it; the rest is the correction."""
    if etcd_leader_too:
        # An election takes one to two time-outs; the new leader gives every lease its whole time again and one more.
        lease = (1.5 + 1.0) * times.etcd_election / 2 + times.lease_ttl + SCAN_SECONDS / 2
    else:
        lease = times.lease_ttl - times.renew_interval / 2 + SCAN_SECONDS / 2
    return Terms(lease=lease, detection=place * times.rank_delay, opening=0.0)


def forecast(
    backlog: Backlog, standing: Standing, times: ControlTimes, correction: Correction, now: float
) -> RtoForecast | str:
    """The forecast, or why there is none. `now` is of the clock that the backlog was asked on."""
    if backlog.unknown:
        return backlog.unknown
    if backlog.copies_events is None or backlog.fold_events is None:
        return "how many events are not folded here yet is not known"
    age_seconds = now - backlog.asked_at
    if age_seconds > NEWS_AGE_SECONDS + 2 * times.observe:
        return f"the processor has not said what it has folded for more than {NEWS_AGE_SECONDS:g} s"
    expected = expected_terms(times, place=standing.place, etcd_leader_too=standing.etcd_leader_too)
    worst = worst_terms(times, etcd_leader_too=standing.etcd_leader_too or not standing.etcd_leader_known)
    lease, lease_max = expected.lease, worst.lease
    if standing.lease_gone_at is not None:
        lease = lease_max = 0.0
    lag_events = backlog.copies_events + backlog.fold_events
    measured = backlog.events_per_second
    replay = lag_events / (EVENTS_PER_SECOND_MIN if measured is None else max(measured, 1.0))
    parts = (lease, expected.detection, replay, expected.opening, correction.median_seconds)
    replay_max = max(replay, lag_events / EVENTS_PER_SECOND_MIN)
    return RtoForecast(
        seconds=_shown(max(0.0, sum(parts))),
        detection_seconds=_shown(expected.detection),
        lease_seconds=_shown(lease),
        replay_seconds=_shown(replay),
        opening_seconds=_shown(expected.opening),
        lag_events=lag_events,
        events_per_second=measured,
        because=_sentence(standing, lease, lag_events, measured, correction),
        correction_seconds=_shown(correction.median_seconds),
        error_seconds=correction.error_seconds,
        seconds_max=_shown(lease_max + worst.detection + worst.opening + replay_max),
    )


def _sentence(
    standing: Standing, lease_seconds: float, lag_events: int, events_per_second: float | None, correction: Correction
) -> str:
    lease = "no lease is left to wait for" if standing.lease_gone_at is not None else f"{lease_seconds:.1f} s of lease"
    if standing.etcd_leader_too:
        lease += " with an election of etcd's, whose leader is there, too"
    elif not standing.etcd_leader_known:
        lease += " (longer if etcd's leader is there, which is not known)"
    turn = "" if standing.place == 0 else f"; {standing.place} other region goes first"
    rate = "a rate that was never measured" if events_per_second is None else f"{events_per_second:,.0f} events/s"
    drills = "no drill" if correction.drills == 0 else f"{correction.drills} drills"
    said = "" if correction.drills == 0 else f" ({correction.median_seconds:+.1f} s)"
    return f"{lease}{turn}; {lag_events} events to fold at {rate}; corrected by {drills}{said}"


def coarse(events: int) -> int:
    """A count of events to one digit: what is told to others changes when something does, not with every record."""
    return events if events < 10 else int(float(f"{events:.1g}"))


def _shown(seconds: float) -> float:
    """To a hundredth of a second: an entry in the store changes when something does."""
    return round(seconds, 2)
