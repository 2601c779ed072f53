"""Nothing is counted twice, and nothing that is in the logs is left out.

Two numbers that are made independently must agree: distinct identities in the raw logs below a frontier, and the events
that the region says it has taken at that frontier. An event that was published to two gateways lies in two logs under
one identity, and counts once. And the frontier must reach beyond everything that was acknowledged: what lies in a log
behind it was promised, and is in no answer.
"""

from __future__ import annotations

from region_sim.checkers.base import Figures, Finding
from region_sim.checkers.loss import missing_promises
from region_sim.checkers.recorded import Recorded
from region_sim.evidence import DeadSeen, LogRows, StateSeen

CHECK = "nothing is counted twice, and all of it once"


def check(recorded: Recorded) -> Finding:
    """See the module."""
    states = {piece.region: (entry.index, piece) for entry, piece in recorded.evidenced(StateSeen)}
    dead = _dead_letters(recorded)
    silent = [region for region in recorded.plan.regions if region not in states]
    if silent:
        sentence = f"nothing is proven: {', '.join(silent)} did not say what it has counted"
        return Finding(check=CHECK, verdict="unknown", sentence=sentence, figures=Figures(dead_letters=dead))
    twice = missed = counted = 0
    parts = []
    first_index: int | None = None
    for region, (index, state) in states.items():
        unread = sorted({log for log, _, n in state.frontier if n > 0 and not recorded.was_read(region, log)})
        if unread:
            sentence = f"nothing is proven: {', '.join(unread)} of {region} could not be read"
            return Finding(check=CHECK, verdict="unknown", sentence=sentence, figures=Figures(dead_letters=dead))
        distinct = _distinct_events(recorded, state)
        counted += distinct
        over, under = max(state.events - distinct, 0), max(distinct - state.events - state.late, 0)
        first_index = index if (over or under) and first_index is None else first_index
        twice += over
        missed += under
        parts.append(f"{region} {state.events} of {distinct}")
    figures = Figures(counted_twice=twice, dead_letters=dead)
    numbers = "; ".join(parts)
    if twice or missed:
        sentence = f"{twice} events were counted more than once ({numbers})"
        if not twice:
            sentence = f"{missed} events in the logs were not counted ({numbers})"
        return Finding(check=CHECK, verdict="invalid", sentence=sentence, figures=figures, first_index=first_index)
    beyond = _beyond(recorded, [state for _, state in states.values()])
    if beyond is not None:
        first = min(index for index, _ in states.values())
        return Finding(check=CHECK, verdict="invalid", sentence=beyond, figures=figures, first_index=first)
    if not counted:
        sentence = f"nothing is proven: there was nothing to count ({numbers})"
        return Finding(check=CHECK, verdict="unknown", sentence=sentence, figures=figures)
    return Finding(check=CHECK, verdict="valid", sentence=f"every event counts once ({numbers})", figures=figures)


def _beyond(recorded: Recorded, states: list[StateSeen]) -> str | None:
    """Which region never took what was acknowledged and lies in its logs; None when all of them took all of it."""
    missing = missing_promises(recorded)
    for state in states:
        frontier = {(log, partition): n for log, partition, n in state.frontier}
        left = [
            promise
            for key, promise in recorded.promises.items()
            if key not in missing and promise.ack.offset >= frontier.get((promise.ack.log, promise.ack.partition), 0)
        ]
        if left:
            ack = left[0].ack
            at = f"{ack.log}/{ack.partition}/{ack.offset}"
            return (
                f"{state.region} has not taken {len(left)} acknowledged events of its logs, such as {ack.id!r} at {at}"
            )
    return None


def _dead_letters(recorded: Recorded) -> int | None:
    """Distinct records that regions could not read; None when nobody looked."""
    seen = recorded.evidence(DeadSeen)
    return len({place for piece in seen for place in piece.places}) if seen else None


def _distinct_events(recorded: Recorded, state: StateSeen) -> int:
    """Distinct identities below a region's frontier, catalogue entries (the newest replaces) left out."""
    frontier = {(log, partition): n for log, partition, n in state.frontier}
    found: set[str] = set()
    for piece in recorded.evidence(LogRows):
        if piece.region == state.region:
            end = frontier.get((piece.log, piece.partition), 0)
            found.update(row.identity for row in piece.rows if row.offset < end and row.kind != "item")
    return len(found)
