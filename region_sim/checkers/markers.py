"""No ranking before its markers: an epoch that answered anybody stands in every partition of its rankings log.

The markers are the fence in the logs: what a term accepts, and what is stale from then on, follows from them alone. A
new holder writes them before it shows anything, so in each partition of each copy its marker lies before the first of
its rankings: a copy is a prefix, whenever it ends. What was lost with the life that wrote it cannot be asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from region_sim.checkers.base import Finding, VerdictWord
from region_sim.checkers.failovers import Term, terms
from region_sim.checkers.recorded import LIFE_ENDS, Recorded
from region_sim.evidence import Epoch, MarkerSeen, MarkersRead

CHECK = "no ranking before its markers"
EXAMPLES_MAX = 10


def check(recorded: Recorded) -> Finding:
    """See the module."""
    markers = recorded.evidence(MarkerSeen)
    stop = recorded.phase("load stops")
    end = [] if stop is None else recorded.entries[stop.index :]
    unread = next((e for e in end if e.op == "collect" and e.type == "fail"), None)
    partitions = {place for piece in recorded.evidence(MarkersRead) for place in piece.partitions}
    if not partitions or unread is not None:
        why = "no rankings log was read for markers" if unread is None else unread.error
        return _finding("unknown", f"nothing is proven: {why}")
    written: dict[Epoch, set[int]] = {}
    for marker in markers:
        written.setdefault(marker.epoch, set()).add(marker.partition)
    answered = [term for term in terms(recorded) if term.first is not None and not _was_lost(recorded, term)]
    bare = [term for term in answered if written.get(term.epoch, set()) != partitions]
    if bare:
        examples = [
            f"{term.region} answered under {term.epoch}, whose markers stand in {len(written.get(term.epoch, ()))} of "
            f"{len(partitions)} partitions"
            for term in bare
        ]
        first = bare[0].first
        return Finding(
            check=CHECK,
            verdict="invalid",
            sentence=examples[0],
            examples=examples,
            first_index=None if first is None else first.index,
        )
    behind = _behind(recorded, markers)
    if behind is not None:
        return behind
    if not answered:
        return _finding("unknown", "nothing is proven: no term that answered anybody kept its life")
    return _finding("valid", f"{len(answered)} terms answered, and all of them had written their markers")


def _behind(recorded: Recorded, markers: Sequence[MarkerSeen]) -> Finding | None:
    """Rankings that lie before the marker of their own term, or in a partition that has none."""
    began: dict[tuple[str, str, int, Epoch], int] = {}
    for marker in markers:
        place = (marker.seen_in, marker.log, marker.partition, marker.epoch)
        began[place] = min(marker.offset, began.get(place, marker.offset))
    examples: list[str] = []
    first_index: int | None = None
    for entry, piece in recorded.evidenced(MarkersRead):
        for ranking in piece.rankings:
            at = began.get((piece.seen_in, piece.log, ranking.partition, ranking.epoch))
            if at is None or ranking.offset < at:
                where = f"{piece.log}/{ranking.partition} of {piece.seen_in}"
                marker_at = "which has no marker of it" if at is None else f"before its marker at {at}"
                examples.append(f"a ranking under {ranking.epoch} lies in {where} at {ranking.offset}, {marker_at}")
                first_index = entry.index if first_index is None else first_index
    if not examples:
        return None
    return Finding(
        check=CHECK, verdict="invalid", sentence=examples[0], examples=examples[:EXAMPLES_MAX], first_index=first_index
    )


def _was_lost(recorded: Recorded, term: Term) -> bool:
    """Whether the life that wrote this term's markers may have ended since."""
    began_ms = term.seen_ms if term.seen_ms is not None else 0
    return any(
        hit.seen is not None
        and hit.seen.kind in LIFE_ENDS
        and hit.seen.target == term.region
        and hit.until_ms >= began_ms
        for hit in recorded.hits
    )


def _finding(verdict: VerdictWord, sentence: str) -> Finding:
    return Finding(check=CHECK, verdict=verdict, sentence=sentence)
