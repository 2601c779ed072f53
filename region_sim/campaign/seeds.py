"""One seed in virtual time, and many of them on several cores. What comes out does not depend on how many cores."""

from __future__ import annotations

import multiprocessing
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from region_sim.campaign.coverage import Coverage, coverage_of
from region_sim.campaign.generate import generate
from region_sim.checkers.base import VerdictWord
from region_sim.errors import RegionSimError
from region_sim.history import digest_of
from region_sim.interrupted import interrupted_later
from region_sim.spec import Drill, kind_of
from region_sim.verdict import Verdict

BROKEN = "the drill broke"


class SeedResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one seed came to."""

    seed: int
    verdict: VerdictWord
    check: str = ""
    """The first checker that did not say valid."""
    sentence: str = ""
    violation: str = ""
    """What that checker said, without names and numbers: two runs that break in the same way say the same."""
    rto_seconds: list[float] = []
    """Of each failover that was measured."""
    forecast_errors_seconds: list[float] = []
    """Of each failover that the formula speaks of: until the gate was open, less what was forecast before the fault.

    Without what apps took to ask: here they ask seldom, and that is no property of a region.
    """
    rpo_events: list[int] = []
    faults: list[str] = []
    """The words of what was drawn, in the order of their times."""
    coverage: Coverage = Coverage()
    entries: int = 0
    virtual_seconds: float = 0.0
    steps: int = 0
    digest: str = ""
    """Of the history: equal for one seed wherever and whenever it runs."""


def run_seed(seed: int) -> SeedResult:
    """Draw the drill of a seed, run it and judge it."""
    return run_one(generate(seed), seed)


def run_one(drill: Drill, seed: int) -> SeedResult:
    """Run a drill under a seed and judge it. A drill that breaks is unknown: it proves nothing."""
    from region_sim.memory.run import run_in_memory

    kinds = [kind_of(fault) for fault in drill.faults]
    try:
        ran = run_in_memory(drill, seed)
    except RegionSimError as error:
        violation = kind_of_violation(str(error), drill.topology.regions)
        return SeedResult(
            seed=seed, verdict="unknown", check=BROKEN, sentence=str(error)[:500], violation=violation, faults=kinds
        )
    verdict = ran.verdict
    first = next((check for check in verdict.checks if check.verdict == verdict.verdict != "valid"), None)
    rto_seconds, rpo_events = figures_of(verdict)
    return SeedResult(
        seed=seed,
        verdict=verdict.verdict,
        check="" if first is None else first.check,
        sentence=verdict.sentence[:500],
        violation="" if first is None else kind_of_violation(first.sentence, drill.topology.regions),
        rto_seconds=rto_seconds,
        forecast_errors_seconds=forecast_errors(verdict),
        rpo_events=rpo_events,
        faults=kinds,
        coverage=coverage_of(ran.entries),
        entries=len(ran.entries),
        virtual_seconds=ran.virtual_seconds,
        steps=ran.steps,
        digest=digest_of(ran.entries),
    )


def kind_of_violation(sentence: str, regions: Sequence[str]) -> str:
    """Return a checker's sentence without what differs between two runs that break alike: regions, ids, numbers."""
    named = re.sub(rf"\b(?:{'|'.join(map(re.escape, regions))})\b", "REGION", sentence)
    return re.sub(r"'[^']*'|\S*\d\S*", "#", named)


def figures_of(verdict: Verdict) -> tuple[list[float], list[int]]:
    """RTO of every failover that was measured, and the RPO of all of them together."""
    rto = [failover.rto_seconds for failover in verdict.failovers if failover.rto_seconds is not None]
    return rto, [] if verdict.rpo_events is None else [verdict.rpo_events]


def forecast_errors(verdict: Verdict) -> list[float]:
    """Seconds until the gate was open less the forecast, of failovers that the formula speaks of."""
    return [
        round(one.forecast_error_seconds - one.first_answer_seconds, 3)
        for one in verdict.failovers
        if one.within is not None and one.forecast_error_seconds is not None and one.first_answer_seconds is not None
    ]


def run_and_keep(drill: Drill, seed: int, directory: Path, replay: str) -> Verdict:
    """Run a drill again and leave its history and verdict in a directory. Raises RegionSimError."""
    from region_sim.memory.run import run_in_memory

    directory.mkdir(parents=True, exist_ok=True)
    return run_in_memory(drill, seed, directory, replay=replay).verdict


@contextmanager
def results(seeds: range, workers: int) -> Iterator[Iterator[SeedResult]]:
    """Yield the results of seeds in their order, from so many processes; those that are not asked for are given up."""
    if workers == 1:
        yield map(run_seed, seeds)
        return
    # Interrupted only when all workers are there: one that was half started would end with a traceback. They are
    # spawned, not forked: a worker inherits neither threads nor anything that this process happened to do before.
    with interrupted_later():
        pool = multiprocessing.get_context("spawn").Pool(workers, _leave_interrupts_to_the_parent)
    with pool:
        yield pool.imap(run_seed, seeds, chunksize=1)


def _leave_interrupts_to_the_parent() -> None:
    """Ctrl-C on a terminal reaches all of its processes; the one that ends the others says so, once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
