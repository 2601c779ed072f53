"""One holder an epoch: an epoch names one region, and one instance of its controller.

Four witnesses must agree: whoever watched the leader key from outside, the markers in the rankings logs, the answers
that clients accepted, and the controllers' own history with the receipts. The key's epochs only ever grow, and each is
acquired by one process: a controller that takes another one's key for its own acquires it a second time.
"""

from __future__ import annotations

from itertools import pairwise

from region_sim.checkers.base import Finding
from region_sim.checkers.recorded import Hit, Recorded
from region_sim.evidence import Epoch, MarkerSeen, ReceiptSeen, TermSeen, TransitionSeen

CHECK = "one holder an epoch"
EXAMPLES_MAX = 10


class _Holders:
    """Who was said to hold an epoch, by whom, and from which entry on that is a contradiction."""

    def __init__(self) -> None:
        self.by_epoch: dict[Epoch, dict[str, str]] = {}
        self.instances: dict[Epoch, set[str]] = {}
        self.first_index: int | None = None

    def add(self, epoch: Epoch, region: str, witness: str, index: int) -> None:
        found = self.by_epoch.get(epoch)
        if found is None:
            self.by_epoch[epoch] = {region: witness}
        elif region not in found:
            found[region] = witness
            self.first_index = index if self.first_index is None else min(index, self.first_index)


def check(recorded: Recorded) -> Finding:
    """See the module."""
    holders = _all(recorded)
    problems = [
        f"epoch {epoch}: {', '.join(f'{region} ({witness})' for region, witness in sorted(regions.items()))}"
        for epoch, regions in sorted(holders.by_epoch.items())
        if len(regions) > 1
    ]
    problems += [
        f"epoch {epoch}: instances {', '.join(sorted(instances))}"
        for epoch, instances in sorted(holders.instances.items())
        if len(instances) > 1
    ]
    problems += [*_backward(recorded), *_acquired_again(recorded)]
    if problems:
        return Finding(
            check=CHECK,
            verdict="invalid",
            sentence=f"{len(problems)} contradictions, such as {problems[0]}",
            examples=problems[:EXAMPLES_MAX],
            first_index=holders.first_index,
        )
    watched = {term.epoch for term in recorded.evidence(TermSeen)}
    if not watched:
        sentence = "nothing is proven: nobody outside watched the leader key"
        return Finding(check=CHECK, verdict="unknown", sentence=sentence)
    told = sorted({transition.seq for transition in recorded.evidence(TransitionSeen)})
    if not told or told != list(range(told[0], told[0] + len(told))):
        sentence = "nothing is proven: the controllers' own history was not read, or not all of it"
        return Finding(check=CHECK, verdict="unknown", sentence=sentence)
    unwatched = sorted({answer.epoch for answer in recorded.answers} - watched)
    if unwatched:
        sentence = f"nothing is proven: the watcher of the leader key did not see epoch {unwatched[0]}"
        return Finding(check=CHECK, verdict="unknown", sentence=sentence)
    said = ", ".join(
        f"{epoch[0]}.{epoch[1]} {next(iter(regions))}" for epoch, regions in sorted(holders.by_epoch.items())
    )
    return Finding(check=CHECK, verdict="valid", sentence=f"each epoch had one holder: {said}")


def _all(recorded: Recorded) -> _Holders:
    holders = _Holders()
    for entry, term in recorded.evidenced(TermSeen):
        holders.add(term.epoch, term.region, "leader key", entry.index)
        holders.instances.setdefault(term.epoch, set()).add(term.instance)
    for answer in recorded.answers:
        holders.add(answer.epoch, answer.region, "answer", answer.index)
    for entry, marker in recorded.evidenced(MarkerSeen):
        holders.add(marker.epoch, marker.region, "marker", entry.index)
    for entry, transition in recorded.evidenced(TransitionSeen):
        if transition.kind == "acquired" and transition.epoch is not None:
            holders.add(transition.epoch, transition.region, "history", entry.index)
    for entry, piece in recorded.evidenced(ReceiptSeen):
        if piece.receipt.kind != "hole":
            holders.add(piece.receipt.epoch, piece.receipt.holder, "receipt", entry.index)
    return holders


def _acquired_again(recorded: Recorded) -> list[str]:
    """Epochs that were acquired, and again after the controller that had acquired them was killed.

    The same process may come to its own key twice, when answers were lost.
    """
    found: dict[Epoch, set[tuple[int, str]]] = {}
    for transition in recorded.evidence(TransitionSeen):
        if transition.kind == "acquired" and transition.epoch is not None and recorded.are_clocks_true:
            found.setdefault(transition.epoch, set()).add((transition.at_ms, transition.region))
    return [
        f"epoch {epoch} was acquired at {earlier} and, by another process of {region}, again at {later}"
        for epoch, times in sorted(found.items())
        for (earlier, _), (later, region) in pairwise(sorted(times))
        if any(_ends_controller(hit, region) and earlier < hit.began.unix_ms < later for hit in recorded.hits)
    ]


def _ends_controller(hit: Hit, region: str) -> bool:
    seen = hit.seen
    if seen is None or seen.target != region or seen.kind not in ("kill", "wipe", "restart"):
        return False
    return seen.region_lost or "controller" in seen.details


def _backward(recorded: Recorded) -> list[str]:
    """Terms that began later than others and have a smaller epoch."""
    terms = sorted(recorded.evidence(TermSeen), key=lambda term: (term.seen_ms, term.epoch))
    return [
        f"epoch {later.epoch} of {later.region} began after epoch {earlier.epoch} of {earlier.region}"
        for earlier, later in pairwise(terms)
        if later.epoch < earlier.epoch
    ]
