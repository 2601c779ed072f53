"""While an operator has paused, nothing moves: no new term begins, and nobody resigns or is switched.

A lease may run out during a pause, as when its region dies; then no region is active until the pause ends. A pause
overrides also what operators ask for: `switchover` and `failover` are refused. Controllers hear of it by their watch
and never act on a view that is older than two seconds, so what began in the first moments may have been decided before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from region_sim.checkers import failovers
from region_sim.checkers.base import Finding, VerdictWord
from region_sim.checkers.recorded import Recorded
from region_sim.evidence import TermSeen, TransitionSeen
from region_sim.history import Entry

CHECK = "paused means that nothing moves"
VIEW_SECONDS = 2.0
"""A controller that has not heard of the store for so long does nothing."""
STORE_CALL_SECONDS = 3.0
"""A campaign that is under way ends within so long, where the settings are not known."""
MOVES = ("acquired", "resigned", "switchover", "failover")


@dataclass(frozen=True, slots=True)
class Pause:
    """When nothing may move, in unix ms of whoever asked for it."""

    start_ms: float
    end_ms: float

    def has(self, at_ms: float) -> bool:
        """Whether a moment lies in it."""
        return self.start_ms < at_ms < self.end_ms


def check(recorded: Recorded) -> Finding:
    """See the module."""
    pauses = _pauses(recorded)
    if not pauses:
        return _finding("valid", "nobody paused")
    terms, transitions = recorded.evidenced(TermSeen), recorded.evidenced(TransitionSeen)
    if not terms or not transitions:
        missing = "who held the leader key" if not terms else "the controllers' own history"
        return _finding("unknown", f"nothing is proven: {missing} is not known")
    problems = [*_began(recorded, pauses, terms), *_moved(recorded, pauses, transitions)]
    if problems:
        return Finding(
            check=CHECK,
            verdict="invalid",
            sentence=problems[0][0],
            examples=[sentence for sentence, _ in problems],
            first_index=problems[0][1],
        )
    seconds = sum(pause.end_ms - pause.start_ms for pause in pauses) / 1000
    return _finding("valid", f"{len(pauses)} pauses, {seconds:.1f} s: no term began, and nobody resigned")


def _began(recorded: Recorded, pauses: list[Pause], seen: list[tuple[Entry, TermSeen]]) -> list[tuple[str, int]]:
    # A term that was there when the watcher began was seen then, not acquired then.
    entries = {term.epoch: entry.index for entry, term in seen}
    return [
        (f"{term.region} began the term {term.epoch} during a pause", entries[term.epoch])
        for term in failovers.terms(recorded)[1:]
        if term.epoch in entries and any(pause.has(term.seen_ms or 0) for pause in pauses)
    ]


def _moved(
    recorded: Recorded,
    pauses: list[Pause],
    transitions: list[tuple[Entry, TransitionSeen]],
) -> list[tuple[str, int]]:
    """Moves by the controllers' own history, at the times at which the watcher saw them where it did."""
    watched = {term.epoch: term for term in failovers.terms(recorded)}
    found = []
    for entry, moved in transitions:
        if moved.kind not in MOVES:
            continue
        term = None if moved.epoch is None else watched.get(moved.epoch)
        if term is not None and moved.kind == "acquired":
            at_ms = 0  # seen to begin: judged as a term
        elif term is not None and moved.kind == "resigned":
            at_ms = term.gone_ms or 0
        else:
            at_ms = moved.at_ms if recorded.are_clocks_true else 0
        if any(pause.has(at_ms) for pause in pauses):
            found.append((f"{moved.kind} during a pause: {moved.sentence}", entry.index))
    return found


def _pauses(recorded: Recorded) -> list[Pause]:
    """From when everybody must know of it, until somebody asked for its end."""
    times = recorded.plan.times
    call_seconds = STORE_CALL_SECONDS if times is None else 3 * times.request_timeout
    known_ms = 1000 * (VIEW_SECONDS + call_seconds)
    found = []
    for hit in recorded.hits:
        # Among other faults, an operator may be refused: then nobody knows of a pause.
        is_held = hit.seen is not None and hit.seen.kind == "hold" and "refused" not in hit.seen.details
        if hit.done is not None and is_held:
            end = math.inf if hit.heal_began is None else hit.heal_began.unix_ms
            found.append(Pause(hit.done.unix_ms + known_ms, end))
    began: Entry | None = None
    for entry in recorded.entries:
        if entry.op == "pause" and entry.type == "ok":
            began = entry
        elif entry.op == "resume" and entry.type == "invoke" and began is not None:
            found.append(Pause(began.unix_ms + known_ms, entry.unix_ms))
            began = None
    if began is not None:
        found.append(Pause(began.unix_ms + known_ms, math.inf))
    last_ms = recorded.entries[-1].unix_ms
    return [Pause(one.start_ms, min(one.end_ms, last_ms)) for one in found if one.start_ms < one.end_ms]


def _finding(verdict: VerdictWord, sentence: str) -> Finding:
    return Finding(check=CHECK, verdict=verdict, sentence=sentence)
