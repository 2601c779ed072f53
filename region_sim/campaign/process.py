"""One drill many times on real processes, in one deployment that is mended between runs and looked over for leaks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from region_sim.backends.process import end_deployment, start_deployment
from region_sim.campaign.leaks import grown, held, left
from region_sim.campaign.plot import plot
from region_sim.campaign.spread import RunResult, Spread, spread_of
from region_sim.errors import DrillBroken, RegionSimError
from region_sim.interrupted import undisturbed
from region_sim.run import RunOptions, run_drill
from region_sim.spec import Drill, load_drill
from services.common.clock import Clock

SITES_DIR: Final = "sites"
RUNS_DIR: Final = "runs"
PLOTS: Final = (("rto_seconds", "RTO", "s"), ("rpo_events", "RPO", "events"))


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """What the command line said."""

    drill: str
    runs: int
    first_seed: int
    directory: Path
    quiet: bool


def run_on_processes(options: ProcessOptions, clock: Clock) -> Spread:
    """Run it; writes `campaign.json`, `rto.svg` and `rpo.svg`. Raises RegionSimError."""
    drill = load_drill(options.drill)
    sites = (options.directory / SITES_DIR).absolute()
    (options.directory / RUNS_DIR).mkdir(parents=True, exist_ok=True)
    before = held(sites)
    start_deployment(sites, drill.topology)
    try:
        seeds = range(options.first_seed, options.first_seed + options.runs)
        results = [_once(drill, options, sites, seed, clock) for seed in seeds]
    finally:
        with undisturbed():
            end_deployment(sites)
    spread = spread_of(drill.name, results, left(before, held(sites)))
    _write(spread, options.directory)
    return spread


def _once(drill: Drill, options: ProcessOptions, sites: Path, seed: int, clock: Clock) -> RunResult:
    run = RunOptions(
        name=options.drill,
        changes=[],
        seed=seed,
        repeat=1,
        out=options.directory / RUNS_DIR,
        attach=sites,
        keep=True,
        quiet=True,
        # The deployment is gone when somebody reads this: the drill starts one of its own.
        replay=f"region-sim run {options.drill} --backend process --seed {seed}",
    )
    before, began = held(sites), clock.monotonic()
    try:
        (ran,) = run_drill(drill, run, clock)
    except DrillBroken as error:
        seconds = round(clock.monotonic() - began, 1)
        result = RunResult(seed=seed, verdict="unknown", sentence=str(error)[:500], directory="", run_seconds=seconds)
    else:
        verdict = ran.verdict
        result = RunResult(
            seed=seed,
            verdict=verdict.verdict,
            sentence=verdict.sentence,
            directory=str(ran.directory),
            run_seconds=round(clock.monotonic() - began, 1),
            rto_seconds=verdict.rto_seconds,
            rpo_events=verdict.rpo_events,
            gap_seconds=verdict.gap_seconds,
            heal_seconds=verdict.heal_seconds,
        )
    result = msgspec.structs.replace(result, leaks=grown(before, held(sites)))
    if not options.quiet:
        rto = "" if result.rto_seconds is None else f", RTO {result.rto_seconds:g} s"
        leaks = f", leaks: {'; '.join(result.leaks)}" if result.leaks else ""
        print(f"seed {seed}: {result.verdict}{rto}, {result.run_seconds:g} s{leaks} ({result.directory})", flush=True)
    return result


def _write(spread: Spread, directory: Path) -> None:
    try:
        for figure, title, unit in PLOTS:
            values = [float(value) for result in spread.results if (value := getattr(result, figure)) is not None]
            path = directory / f"{figure.partition('_')[0]}.svg"
            path.write_text(plot(f"{title} of {spread.drill}", unit, values), encoding="utf-8")
        path = directory / "campaign.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(spread), indent=2) + b"\n")
    except OSError as error:
        raise RegionSimError(f"the outcome cannot be written to {directory}: {error}") from error
