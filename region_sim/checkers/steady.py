"""The drill tested something: the steady-state hypothesis held before the first fault, and load reached every region.

A drill whose regions were ill before the fault, or whose clients never asked the cut-off side, proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from region_sim.checkers.base import Finding, VerdictWord
from region_sim.checkers.recorded import Hit, Recorded, is_library
from region_sim.history import NO_CALL, Entry
from region_sim.spec import Partition, Steady
from services.replay.latency import quantile

CHECK = "the drill tested something"


def check(recorded: Recorded) -> Finding:
    """See the module."""
    steady, began = recorded.phase("steady"), recorded.fault_began
    if steady is None or began is None:
        return _finding("unknown", "there was no fault under load")
    broken = next((e for e in recorded.entries if e.op in ("load_error", "overload")), None)
    if broken is not None:
        return _finding("unknown", f"the load itself failed: {broken.error or broken.note}")
    problem, sentence = hypothesis(recorded, searches_between(recorded, steady.index, began.index))
    if problem is not None:
        return _finding("unknown", f"before the fault {problem}")
    hit = recorded.first_hit
    is_partition = len(recorded.drill.faults) == 1 and isinstance(recorded.drill.faults[0], Partition)
    if hit is not None and is_partition:
        silent = [region for region in recorded.plan.regions if not _took_events(recorded, region, hit)]
        if silent:
            said = f"no event reached {', '.join(silent)} while the network was cut: the fence was not tested"
            return _finding("unknown", said)
    return _finding("valid", f"{sentence} before the fault")


def searches_between(recorded: Recorded, start: int, end: int) -> list[Entry]:
    """What completed, before the entry `end`, searches of the library that were asked for after the entry `start`."""
    return [e for e in recorded.searches if e.index < end and e.call > start and is_library(e.process)]


def hypothesis(recorded: Recorded, completed: Sequence[Entry]) -> tuple[str | None, str]:
    """Why the steady-state hypothesis does not hold over these searches (None: it does), and what was found."""
    steady: Steady = recorded.drill.steady
    answered = [entry for entry in completed if entry.type == "ok"]
    share = len(answered) / len(completed) if completed else 0.0
    sentence = f"{share:.1%} of {len(completed)} searches of the library were answered"
    if share < steady.answered_share_min or not completed:
        return f"only {sentence}, not {steady.answered_share_min:.1%}", sentence
    if steady.latency_p99_ms_max is not None:
        latencies = sorted(latency_ms(recorded, entry) for entry in answered)
        p99 = quantile(latencies, 0.99) if latencies else 0.0
        sentence += f", 99 % of them within {p99:.0f} ms"
        if p99 > steady.latency_p99_ms_max:
            return f"{sentence}, not {steady.latency_p99_ms_max:g} ms", sentence
    return None, sentence


def latency_ms(recorded: Recorded, completion: Entry) -> float:
    """Milliseconds from a question to what completed it."""
    return 1000 * (completion.monotonic_seconds - recorded.entries[completion.call].monotonic_seconds)


def _took_events(recorded: Recorded, region: str, hit: Hit) -> bool:
    start = hit.began.index
    end = len(recorded.entries) if hit.healed is None else hit.healed.index
    return any(
        ack.log.startswith(f"{region}-")
        for entry in recorded.entries[start:end]
        if entry.op == "publish" and entry.call != NO_CALL and entry.call > start
        for ack in entry.acks
    )


def _finding(verdict: VerdictWord, sentence: str) -> Finding:
    return Finding(check=CHECK, verdict=verdict, sentence=sentence)
