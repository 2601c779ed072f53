"""All regions have the same state at the same frontier."""

from __future__ import annotations

from region_sim.checkers.base import Figures, Finding
from region_sim.checkers.recorded import Recorded
from region_sim.evidence import StateSeen

CHECK = "digests are equal at one frontier"


def check(recorded: Recorded) -> Finding:
    """See the module. Different frontiers prove nothing: unknown."""
    states = {state.region: state for state in recorded.evidence(StateSeen)}
    silent = [region for region in recorded.plan.regions if region not in states]
    if silent:
        return _finding("unknown", f"nothing is proven: {', '.join(silent)} showed no state")
    frontiers = {region: _known(state) for region, state in states.items()}
    first, *others = recorded.plan.regions
    for other in others:
        if frontiers[other] != frontiers[first]:
            apart = sorted(frontiers[first].items() ^ frontiers[other].items())
            sentence = f"{first} and {other} never stood at one frontier, such as {apart[0]}"
            return _finding("unknown", f"nothing is proven: {sentence}")
    digests = {region: states[region].digest for region in recorded.plan.regions}
    if "" in digests.values():
        return _finding("unknown", "nothing is proven: a region showed no digest")
    if len(set(digests.values())) > 1:
        said = ", ".join(f"{region} {digest}" for region, digest in digests.items())
        return _finding("invalid", f"one frontier, different states: {said}", equal=False)
    return _finding("valid", f"all regions have digest {digests[first]}", equal=True)


def _known(state: StateSeen) -> dict[tuple[str, int], int]:
    """The frontier without what was never seen: logs of lives to come are known here earlier than there."""
    return {(log, partition): n for log, partition, n in state.frontier if n > 0}


def _finding(verdict: str, sentence: str, *, equal: bool | None = None) -> Finding:
    assert verdict in ("valid", "invalid", "unknown")
    return Finding(check=CHECK, verdict=verdict, sentence=sentence, figures=Figures(digests_equal=equal))  # type: ignore[arg-type]
