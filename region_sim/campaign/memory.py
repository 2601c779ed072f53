"""A campaign in virtual time: seeds in their order, progress while they run, the failing ones made smaller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from region_sim.campaign.generate import generate
from region_sim.campaign.outcome import Campaign, FailedSeed, concluded
from region_sim.campaign.seeds import BROKEN, SeedResult, results, run_and_keep, run_one
from region_sim.campaign.shrink import shrink, write_drill
from region_sim.errors import RegionSimError
from region_sim.spec import Drill, kind_of
from services.common.clock import Clock

CAMPAIGN_FILE: Final = "campaign.json"
LINE_SECONDS: Final = 10.0
"""How often a line is printed where there is no terminal."""


@dataclass(frozen=True, slots=True)
class CampaignOptions:
    """What the command line said."""

    seeds: range
    workers: int
    directory: Path
    stop_after: int
    """End after so many invalid seeds; 0: never."""
    shrink_max: int
    """So many invalid seeds are made smaller."""
    quiet: bool


def run_campaign(options: CampaignOptions, clock: Clock) -> Campaign:
    """Run it and write `campaign.json`. Raises RegionSimError."""
    began = clock.monotonic()
    found: list[SeedResult] = []
    invalid = 0
    with _progress(options, clock) as told, results(options.seeds, options.workers) as coming:
        for result in coming:
            found.append(result)
            invalid += result.verdict == "invalid"
            told(found)
            if options.stop_after and invalid >= options.stop_after:
                break
    seconds = clock.monotonic() - began
    failed = _failed(found, options)
    campaign = concluded(found, failed, backend="memory", workers=options.workers, seconds=seconds)
    write(campaign, options.directory)
    return campaign


def write(campaign: Campaign, directory: Path) -> Path:
    """Write `campaign.json`, whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / CAMPAIGN_FILE
    beside = path.with_suffix(".new")
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(campaign), indent=2) + b"\n")
    beside.replace(path)
    return path


def _failed(found: Sequence[SeedResult], options: CampaignOptions) -> list[FailedSeed]:
    """All that is not valid; the first few invalid ones with the smallest drill that fails alike."""
    shrunk = 0
    failed = []
    for result in found:
        if result.verdict == "valid":
            continue
        plain = FailedSeed(
            seed=result.seed,
            verdict=result.verdict,
            check=result.check,
            sentence=result.sentence,
            faults=result.faults,
            command=f"region-sim campaign --backend memory --first-seed {result.seed} --seeds 1",
        )
        # A drill that broke is a bug of somebody's, too: it is made smaller like one that is invalid.
        if (result.verdict == "invalid" or result.check == BROKEN) and shrunk < options.shrink_max:
            shrunk += 1
            if not options.quiet:
                print(
                    f"seed {result.seed} is {result.verdict} ({result.check}): looking for a smaller drill", flush=True
                )
            plain = _shrunk(plain, result, options)
        failed.append(plain)
    return failed


def fails_alike(first: SeedResult, again: SeedResult) -> bool:
    """Whether a drill breaks as another did: the same checker says the same of it, but for names and numbers."""
    return (again.verdict, again.check, again.violation) == (first.verdict, first.check, first.violation)


def _shrunk(failure: FailedSeed, result: SeedResult, options: CampaignOptions) -> FailedSeed:
    def still_fails(drill: Drill) -> bool:
        return fails_alike(result, run_one(drill, failure.seed))

    smallest = shrink(generate(failure.seed), still_fails)
    path, command = write_drill(smallest, failure.seed, options.directory)
    try:
        run_and_keep(smallest, failure.seed, options.directory / smallest.name, command)
    except RegionSimError as error:
        (options.directory / f"{smallest.name}.txt").write_text(f"{error}\n", encoding="utf-8")
    kinds = [f"{kind_of(fault)} {fault.target}" for fault in smallest.faults]
    return msgspec.structs.replace(failure, drill_file=str(path), command=command, shrunk_to=kinds)


class _progress:  # noqa: N801 - used as a function that opens a `with` block
    """Tell how far it is: a bar on a terminal, lines elsewhere, nothing when quiet."""

    def __init__(self, options: CampaignOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._line_at = clock.monotonic() + LINE_SECONDS
        self._bar: Progress | None = None

    def __enter__(self) -> Callable[[Sequence[SeedResult]], None]:
        console = Console()
        if self._options.quiet:
            return lambda _: None
        if not console.is_terminal:
            return self._line
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console)
        self._bar.start()
        task = self._bar.add_task("seeds", total=len(self._options.seeds))
        bar = self._bar
        return lambda found: bar.update(task, completed=len(found), description=_said(found))

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _line(self, found: Sequence[SeedResult]) -> None:
        now, last = self._clock.monotonic(), found[-1]
        if last.verdict != "valid":
            print(f"seed {last.seed}: {last.verdict} ({last.check}): {last.sentence}", flush=True)
        if now >= self._line_at or len(found) == len(self._options.seeds):
            self._line_at = now + LINE_SECONDS
            print(f"{len(found)} of {len(self._options.seeds)} seeds: {_said(found)}", flush=True)


def _said(found: Sequence[SeedResult]) -> str:
    invalid = sum(result.verdict == "invalid" for result in found)
    unknown = sum(result.verdict == "unknown" for result in found)
    return f"{len(found) - invalid - unknown} valid, {invalid} invalid, {unknown} unknown"
