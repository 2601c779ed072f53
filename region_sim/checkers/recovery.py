"""How long nobody was answered, and whether all came back: the faults healed, the regions too, and apps are served.

After the heal the same hypothesis must hold that held before the fault, and within the drill's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from region_sim.checkers.base import Failover, Figures, Finding
from region_sim.checkers.recorded import Hit, Recorded
from region_sim.checkers.steady import hypothesis, searches_between
from region_sim.history import Entry
from region_sim.spec import Switchover

CHECK = "answers and regions come back"
QUIET_SECONDS = 15.0
"""So long after a fault, regions have heard of each other again."""
RECOVER = "recover"
"""The operation that heals everything: until every site is ready and every copy has caught up."""


def check(recorded: Recorded, failovers: Sequence[Failover] | None) -> Finding:
    """See the module. Other times are judged by the drill's marks."""
    began = recorded.fault_began
    if recorded.fault_seen is None or began is None:
        return Finding(check=CHECK, verdict="unknown", sentence="no fault was injected, or it could not be verified")
    figures = _figures(recorded, began, failovers)
    problem, entry = _not_back(recorded, failovers)
    if problem is not None:
        first = None if entry is None else entry.index
        return Finding(check=CHECK, verdict="invalid", sentence=problem, figures=figures, first_index=first)
    done, stop = recorded.completed(RECOVER), recorded.phase("load stops")
    assert done is not None
    end = len(recorded.entries) if stop is None else stop.index
    completed = searches_between(recorded, done.index, end)
    if not completed:
        sentence = "nothing is proven: nobody asked the library for anything after the heal"
        return Finding(check=CHECK, verdict="unknown", sentence=sentence, figures=figures)
    worse, sentence = hypothesis(recorded, completed)
    if worse is not None:
        first = next((e.index for e in completed if e.type != "ok"), None)
        said = f"after the heal {worse}"
        return Finding(check=CHECK, verdict="invalid", sentence=said, figures=figures, first_index=first)
    back = f"all regions came back within {figures.heal_seconds} s; {sentence} after it"
    if figures.rto_seconds is not None:
        back += f"; another region answered after {figures.rto_seconds} s"
    return Finding(check=CHECK, verdict="valid", sentence=back, figures=figures)


def _not_back(recorded: Recorded, failovers: Sequence[Failover] | None) -> tuple[str | None, Entry | None]:
    """What did not come back, and the entry that says so."""
    seen, drill = recorded.fault_seen, recorded.drill
    assert seen is not None
    awaited = next((e for e in recorded.entries if e.op == "takeover" and e.type == "fail"), None)
    alone = len(drill.faults) == 1 and drill.faults[0].for_seconds is None
    due = alone and seen.was_active and (seen.region_lost or isinstance(drill.faults[0], Switchover))
    answered = failovers is not None and any(one.rto_seconds is not None for one in failovers)
    if awaited is not None or (due and not answered):
        return f"no region took over from {seen.target}", awaited
    for hit in recorded.hits:
        if hit.healed is not None and hit.healed.type == "fail":
            return f"{hit.label} did not heal: {hit.healed.error}", hit.healed
    for hit in recorded.hits:
        if _was_given_up(recorded, hit):
            return f"{hit.label} was given up, and nothing was broken: {hit.seen.details if hit.seen else ''}", hit.done
    for op in (RECOVER, "settle"):
        done = recorded.completed(op)
        if done is None or done.type != "ok":
            reason = "it was not reached" if done is None else done.error
            return f"{op} failed: {reason}", done
    took, bound = _heal_seconds(recorded), drill.phases.heal_seconds_max
    if took is None or took > bound:
        return f"the heal took {took} s, at most {bound} s were allowed", recorded.completed(RECOVER)
    return None, None


def _was_given_up(recorded: Recorded, hit: Hit) -> bool:
    """Whether an operator's switchover was begun and not finished, with nothing broken then or shortly before."""
    if hit.seen is None or hit.seen.kind != "switchover" or ": aborted" not in hit.seen.details or hit.done is None:
        return False
    quiet_from = hit.began.monotonic_seconds - QUIET_SECONDS
    return all(
        other is hit or other.began.index > hit.done.index or other.until_seconds < quiet_from
        for other in recorded.faults
    )


def _figures(recorded: Recorded, began: Entry, failovers: Sequence[Failover] | None) -> Figures:
    first = failovers[0] if failovers else None
    answered = len(recorded.answers)
    return Figures(
        rto_seconds=None if first is None else first.rto_seconds,
        rto_forecast_seconds=None if first is None or first.forecast is None else first.forecast.seconds,
        rto_forecast_error_seconds=None if first is None else first.forecast_error_seconds,
        lease_seconds=None if first is None else first.lease_seconds,
        acquire_seconds=None if first is None else first.acquire_seconds,
        promotion_seconds=None if first is None else first.promotion_seconds,
        first_answer_seconds=None if first is None else first.first_answer_seconds,
        gap_seconds=gap_seconds(recorded, began),
        heal_seconds=_heal_seconds(recorded),
        searches_ok=answered,
        searches_failed=len(recorded.searches) - answered,
        failover_count=None if failovers is None else len(failovers),
    )


def _heal_seconds(recorded: Recorded) -> float | None:
    began, done = recorded.begun(RECOVER), recorded.completed(RECOVER)
    return None if began is None or done is None else round(done.monotonic_seconds - began.monotonic_seconds, 3)


def gap_seconds(recorded: Recorded, began: Entry) -> float | None:
    """The longest time between two accepted answers, from the last one before the fault to the end of the load."""
    before = [a.monotonic_seconds for a in recorded.answers if a.index < began.index][-1:]
    times = [*before, *(a.monotonic_seconds for a in recorded.answers if a.index > began.index)]
    stop = recorded.phase("load stops")
    if stop is not None:
        times = [*(at for at in times if at <= stop.monotonic_seconds), stop.monotonic_seconds]
    if len(times) < 2:
        return None
    return round(max(later - earlier for earlier, later in pairwise(times)), 3)
