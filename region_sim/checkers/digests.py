"""Replay, live and rebuilt state are one: all regions have the same digest at the same frontier.

A region that was rebuilt came to its state by a replay of copies, the others live; so equal digests say that a replay
gives what lived on. A frontier of their own proves nothing about two regions.
"""

from __future__ import annotations

from region_sim.checkers.base import Figures, Finding, VerdictWord
from region_sim.checkers.recorded import Recorded
from region_sim.evidence import StateSeen

CHECK = "digests are equal at one frontier"


def check(recorded: Recorded) -> Finding:
    """See the module. Different frontiers prove nothing: unknown."""
    states = {piece.region: (entry.index, piece) for entry, piece in recorded.evidenced(StateSeen)}
    silent = [region for region in recorded.plan.regions if region not in states]
    if silent:
        return _finding("unknown", f"nothing is proven: {', '.join(silent)} showed no state")
    frontiers = {region: _known(state) for region, (_, state) in states.items()}
    first, *others = recorded.plan.regions
    for other in others:
        if frontiers[other] != frontiers[first]:
            apart = sorted(frontiers[first].items() ^ frontiers[other].items())
            sentence = f"{first} and {other} never stood at one frontier, such as {apart[0]}"
            return _finding("unknown", f"nothing is proven: {sentence}")
    digests = {region: states[region][1].digest for region in recorded.plan.regions}
    if "" in digests.values():
        return _finding("unknown", "nothing is proven: a region showed no digest")
    if len(set(digests.values())) > 1:
        said = ", ".join(f"{region} {digest}" for region, digest in digests.items())
        different = next(region for region in others if digests[region] != digests[first])
        figures = Figures(digests_equal=False)
        return Finding(
            check=CHECK,
            verdict="invalid",
            sentence=f"one frontier, different states: {said}",
            figures=figures,
            first_index=states[different][0],
        )
    rebuilt = _rebuilt(recorded, [state for _, state in states.values()])
    how = f", {', '.join(rebuilt)} by a replay" if rebuilt else ""
    return _finding("valid", f"all regions have digest {digests[first]}{how}", equal=True)


def _rebuilt(recorded: Recorded, states: list[StateSeen]) -> list[str]:
    """The lives that began during the drill, as far as a fault tells."""
    lost = {hit.seen.incarnation for hit in recorded.hits if hit.seen is not None and hit.seen.incarnation}
    hit = {h.seen.target for h in recorded.hits if h.seen is not None}
    return sorted(s.incarnation for s in states if s.region in hit and s.incarnation and s.incarnation not in lost)


def _known(state: StateSeen) -> dict[tuple[str, int], int]:
    """The frontier without what was never seen: logs of lives to come are known here earlier than there."""
    return {(log, partition): n for log, partition, n in state.frontier if n > 0}


def _finding(verdict: VerdictWord, sentence: str, *, equal: bool | None = None) -> Finding:
    return Finding(check=CHECK, verdict=verdict, sentence=sentence, figures=Figures(digests_equal=equal))
