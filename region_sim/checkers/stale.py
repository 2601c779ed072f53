"""No accepted answer has a smaller epoch than one that was seen before it was asked for, or one whose term had ended.

Seen by whom? By the same client at any time before it accepted the answer, or by *any* client before the request was
sent: whoever heard from the new holder can have told the others. The client library must never accept such an answer. A
bare client has no memory; what was in flight to the old holder when the new one first answered may still reach it, and
is counted; an answer that it asked for later must not come.

And nobody may answer to what is asked once the leader key of its term is gone: a holder stops by its own clock before
etcd lets go. That holds while clocks run as fast as is allowed for, and etcd revokes no lease that is renewed; a drill
that breaks this assumption is held to what is left: no client goes back behind what it has seen itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from region_sim.checkers.base import Figures, Finding
from region_sim.checkers.recorded import Answer, Recorded
from region_sim.evidence import Epoch, TermSeen
from region_sim.history import NO_CALL
from region_sim.spec import ClockFault, Fault, StoreFault, kind_of

CHECK = "no stale answer is accepted"
NO_EPOCH: Epoch = (-1, -1)
STALE_ERROR = "StaleAnswer"
EXAMPLES_MAX = 10
RATE_BOUND: Final = 0.001
"""How differently clocks may run, by the lease's own arithmetic."""
LEASE_SECONDS_MAX: Final = 60.0
"""When the lease's time to live is not known: so long the effects of a broken assumption may last."""


@dataclass(slots=True)
class _Seen:
    """The largest epoch that anybody had seen, as a staircase over the history's indices."""

    steps: list[tuple[int, Epoch]] = field(default_factory=list)

    def add(self, index: int, epoch: Epoch) -> None:
        if not self.steps or epoch > self.steps[-1][1]:
            self.steps.append((index, epoch))

    def before(self, index: int) -> Epoch:
        return next((epoch for at, epoch in reversed(self.steps) if at < index), NO_EPOCH)


@dataclass(slots=True)
class _Sorted:
    """Answers by what is wrong with them."""

    library: list[Answer] = field(default_factory=list)
    in_flight: list[Answer] = field(default_factory=list)
    late: list[Answer] = field(default_factory=list)
    after_term: list[Answer] = field(default_factory=list)
    excused: int = 0


def check(recorded: Recorded) -> Finding:
    """See the module."""
    if not recorded.answers:
        return Finding(check=CHECK, verdict="unknown", sentence="nobody got an answer: nothing is proven")
    nameless = [e for e in recorded.searches if e.type == "ok" and (e.epoch is None or e.call == NO_CALL)]
    if nameless:
        sentence = f"nothing is proven: {len(nameless)} answers bore no epoch, such as entry {nameless[0].index}"
        return Finding(check=CHECK, verdict="unknown", sentence=sentence)
    found = _sort(recorded)
    refused = sum(entry.error.startswith(STALE_ERROR) for entry in recorded.searches)
    figures = Figures(
        stale_answers=len(found.library),
        stale_refused=refused,
        stale_bare_in_flight=len(found.in_flight),
        stale_bare_late=len(found.late),
        after_term=len(found.after_term),
    )
    broken = sorted({answer.index: answer for answer in (*found.library, *found.late, *found.after_term)}.items())
    if broken:
        sentence = (
            f"{len(found.library)} stale answers were accepted by the client library, {len(found.late)} by bare "
            f"clients, and {len(found.after_term)} that were asked for after their term"
        )
        return Finding(
            check=CHECK,
            verdict="invalid",
            sentence=sentence,
            examples=[_describe(answer) for _, answer in broken[:EXAMPLES_MAX]],
            figures=figures,
            first_index=broken[0][0],
        )
    sentence = f"{len(recorded.answers)} answers, none of them stale; {len(found.in_flight)} in flight to bare clients"
    if found.excused:
        sentence += f"; {found.excused} while the lease's own assumptions were broken"
    return Finding(check=CHECK, verdict="valid", sentence=sentence, figures=figures)


def _sort(recorded: Recorded) -> _Sorted:
    found = _Sorted()
    anybody = _Seen()
    own: dict[str, Epoch] = {}
    gone = {term.epoch: term.gone_ms for term in recorded.evidence(TermSeen) if term.gone_ms}
    lease_seconds = _lease_seconds(recorded)
    windows = _broken_assumptions(recorded, lease_seconds)
    for answer in recorded.answers:
        epoch = answer.epoch
        asked = recorded.entries[answer.invoked]
        was_seen = own.get(answer.process, NO_EPOCH) > epoch
        was_known = anybody.before(answer.invoked) > epoch
        was_over = gone.get(epoch, math.inf) < asked.unix_ms
        # By its own clock, however slow, the holder stops a lease after the key was gone.
        in_time = asked.unix_ms <= gone.get(epoch, math.inf) + 1000 * lease_seconds
        if (was_known or was_over) and in_time and _is_within(answer, windows):
            found.excused += 1
            was_known = was_over = False
        if answer.is_library:
            found.library += [answer] if was_known or was_seen else []
        elif was_known:
            found.late.append(answer)
        elif anybody.before(answer.index) > epoch:
            found.in_flight.append(answer)
        if was_over:
            found.after_term.append(answer)
        anybody.add(answer.index, epoch)
        own[answer.process] = max(own.get(answer.process, NO_EPOCH), epoch)
    return found


def breaks_lease(fault: Fault) -> bool:
    """Whether a fault breaks what a lease needs to be safe, so that only the fence is left."""
    if isinstance(fault, ClockFault):
        return abs(fault.rate - 1) > RATE_BOUND
    return isinstance(fault, StoreFault) and fault.how == "stale-revocation"


def _lease_seconds(recorded: Recorded) -> float:
    """The longest that a holder may believe in its lease without an answer, by the slowest clock of the drill."""
    times = recorded.plan.times
    if times is None:
        return LEASE_SECONDS_MAX
    rates = [fault.rate for fault in recorded.drill.faults if isinstance(fault, ClockFault)]
    return (times.lease_ttl + times.request_timeout) / min([1.0, *rates])


def _is_within(answer: Answer, windows: list[tuple[float, float]]) -> bool:
    return any(start <= answer.monotonic_seconds <= end for start, end in windows)


def _broken_assumptions(recorded: Recorded, lease_seconds: float) -> list[tuple[float, float]]:
    """When the lease could not be trusted, in monotonic seconds: until a lease after the heal."""
    kinds = {kind_of(fault) for fault in recorded.drill.faults if breaks_lease(fault)}
    return [
        (hit.began.monotonic_seconds, hit.until_seconds + lease_seconds)
        for hit in recorded.faults
        if hit.began.note in kinds
    ]


def _describe(answer: Answer) -> str:
    return f"entry {answer.index}: {answer.process} accepted epoch {answer.epoch} of {answer.region}"
