"""Nothing is counted twice, and nothing that is in the logs is left out.

Two numbers that are made independently must agree: distinct identities in the raw logs below a frontier, and the events
that the region says it has taken at that frontier. An event that was published to two gateways lies in two logs under
one identity, and counts once.
"""

from __future__ import annotations

from region_sim.checkers.base import Figures, Finding
from region_sim.checkers.recorded import Recorded
from region_sim.evidence import LogRead, LogRows, StateSeen

CHECK = "nothing is counted twice, and all of it once"


def check(recorded: Recorded) -> Finding:
    """See the module."""
    states = {state.region: state for state in recorded.evidence(StateSeen)}
    silent = [region for region in recorded.plan.regions if region not in states]
    if silent:
        sentence = f"nothing is proven: {', '.join(silent)} did not say what it has counted"
        return Finding(check=CHECK, verdict="unknown", sentence=sentence)
    read = {(piece.region, piece.log) for piece in recorded.evidence(LogRead)}
    twice = missed = 0
    parts = []
    for region, state in states.items():
        unread = sorted({log for log, _, n in state.frontier if n > 0 and (region, log) not in read})
        if unread:
            sentence = f"nothing is proven: {', '.join(unread)} of {region} could not be read"
            return Finding(check=CHECK, verdict="unknown", sentence=sentence)
        distinct = _distinct_events(recorded, state)
        twice += max(state.events - distinct, 0)
        missed += max(distinct - state.events - state.late, 0)
        parts.append(f"{region} {state.events} of {distinct}")
    figures = Figures(counted_twice=twice)
    numbers = "; ".join(parts)
    if twice:
        sentence = f"{twice} events were counted more than once ({numbers})"
        return Finding(check=CHECK, verdict="invalid", sentence=sentence, figures=figures)
    if missed:
        sentence = f"{missed} events in the logs were not counted ({numbers})"
        return Finding(check=CHECK, verdict="invalid", sentence=sentence, figures=figures)
    return Finding(check=CHECK, verdict="valid", sentence=f"every event counts once ({numbers})", figures=figures)


def _distinct_events(recorded: Recorded, state: StateSeen) -> int:
    """Distinct identities below a region's frontier, catalogue entries (the newest replaces) left out."""
    frontier = {(log, partition): n for log, partition, n in state.frontier}
    return len(
        {
            row.identity
            for piece in recorded.evidence(LogRows)
            if piece.region == state.region
            for row in piece.rows
            if row.kind != "item" and row.offset < frontier.get((piece.log, piece.partition), 0)
        }
    )
