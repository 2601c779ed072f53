"""One holder an epoch: no two regions ever showed effects, or wrote markers, under the same epoch."""

from __future__ import annotations

from region_sim.checkers.base import Finding
from region_sim.checkers.recorded import Recorded
from region_sim.evidence import Epoch, MarkerSeen

CHECK = "one holder an epoch"


def check(recorded: Recorded) -> Finding:
    """See the module."""
    holders: dict[Epoch, set[str]] = {}
    for answer in recorded.answers:
        holders.setdefault(answer.epoch, set()).add(answer.region)
    for marker in recorded.evidence(MarkerSeen):
        holders.setdefault(marker.epoch, set()).add(marker.region)
    if not holders:
        return Finding(check=CHECK, verdict="unknown", sentence="no epoch was seen: nothing is proven")
    twice = {epoch: regions for epoch, regions in holders.items() if len(regions) > 1}
    if twice:
        examples = [f"epoch {epoch}: {', '.join(sorted(regions))}" for epoch, regions in sorted(twice.items())]
        sentence = f"{len(twice)} epochs had more than one holder"
        return Finding(check=CHECK, verdict="invalid", sentence=sentence, examples=examples)
    said = ", ".join(f"{epoch[0]}.{epoch[1]} {next(iter(regions))}" for epoch, regions in sorted(holders.items()))
    return Finding(check=CHECK, verdict="valid", sentence=f"each epoch had one holder: {said}")
