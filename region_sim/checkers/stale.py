"""No accepted answer has a smaller epoch than one that was seen before it was asked for.

Seen by whom? By the same client at any time before it accepted the answer, or by *any* client before the request was
sent: whoever heard from the new holder can have told the others. The client library must never accept such an answer. A
bare client has no memory; what was in flight to the old holder when the new one first answered may still reach it, and
is counted; an answer that it asked for later must not come.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from region_sim.checkers.base import Figures, Finding
from region_sim.checkers.recorded import Answer, Recorded
from region_sim.evidence import Epoch

CHECK = "no stale answer is accepted"
NO_EPOCH: Epoch = (-1, -1)
STALE_ERROR = "StaleAnswer"


@dataclass(slots=True)
class _Seen:
    """The largest epoch that anybody had seen, as a staircase over the history's indices."""

    steps: list[tuple[int, Epoch]] = field(default_factory=list)

    def add(self, index: int, epoch: Epoch) -> None:
        if not self.steps or epoch > self.steps[-1][1]:
            self.steps.append((index, epoch))

    def before(self, index: int) -> Epoch:
        return next((epoch for at, epoch in reversed(self.steps) if at < index), NO_EPOCH)


def check(recorded: Recorded) -> Finding:
    """See the module."""
    if not recorded.answers:
        return Finding(check=CHECK, verdict="unknown", sentence="nobody got an answer: nothing is proven")
    anybody = _Seen()
    own: dict[str, Epoch] = {}
    library: list[Answer] = []
    in_flight: list[Answer] = []
    late: list[Answer] = []
    for answer in recorded.answers:
        was_known = anybody.before(answer.invoked) > answer.epoch
        was_seen = own.get(answer.process, NO_EPOCH) > answer.epoch
        if answer.is_library:
            library += [answer] if was_known or was_seen else []
        elif was_known:
            late.append(answer)
        elif anybody.before(answer.index) > answer.epoch:
            in_flight.append(answer)
        anybody.add(answer.index, answer.epoch)
        own[answer.process] = max(own.get(answer.process, NO_EPOCH), answer.epoch)
    refused = sum(entry.op == "search" and entry.error.startswith(STALE_ERROR) for entry in recorded.entries)
    figures = Figures(
        stale_answers=len(library),
        stale_refused=refused,
        stale_bare_in_flight=len(in_flight),
        stale_bare_late=len(late),
    )
    if library or late:
        sentence = f"{len(library)} stale answers were accepted by the client library, {len(late)} by bare clients"
        examples = [_describe(answer) for answer in (*library, *late)[:10]]
        return Finding(check=CHECK, verdict="invalid", sentence=sentence, examples=examples, figures=figures)
    sentence = f"{len(recorded.answers)} answers, none of them stale; {len(in_flight)} in flight to bare clients"
    return Finding(check=CHECK, verdict="valid", sentence=sentence, figures=figures)


def _describe(answer: Answer) -> str:
    return f"entry {answer.index}: {answer.process} accepted epoch {answer.epoch} of {answer.region}"
