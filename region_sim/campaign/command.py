"""`region-sim campaign`: many drills from seeds in virtual time, or one drill many times on real processes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from region_sim.errors import BadDrill
from region_sim.interrupted import both_interrupt
from region_sim.places import made
from services.common.clock import Clock, SystemClock


def campaign(
    backend: Annotated[
        str, typer.Option(help="memory: virtual time; process: real Kafka, etcd and services.")
    ] = "memory",
    seeds: Annotated[int, typer.Option(min=1, help="memory: how many seeds.")] = 200,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 1,
    workers: Annotated[int, typer.Option(min=1, max=64, help="memory: on so many cores.")] = 2,
    stop_after: Annotated[int, typer.Option(min=0, help="memory: end after so many invalid seeds; 0: never.")] = 0,
    shrink: Annotated[int, typer.Option(min=0, help="memory: make so many failing drills smaller.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="process: how often the drill runs.")] = 20,
    drill: Annotated[str, typer.Option(help="process: name of a drill, or path of a drill file.")] = "kill-active",
    out: Annotated[Path | None, typer.Option(help="Where results go (default: drills/campaign/UTC).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON, and nothing else.")] = False,
) -> None:
    """Run a campaign. Exit codes as those of `run`; what never occurred makes it unknown (2)."""
    from region_sim.exits import Concluded
    from region_sim.verdict import EXIT_CODES

    if backend not in ("memory", "process"):
        raise BadDrill(f"there is no backend {backend!r}; there are: memory, process")
    clock = SystemClock()
    directory = out or _directory(clock)
    if backend == "memory":
        from region_sim.campaign.memory import CampaignOptions, run_campaign
        from region_sim.campaign.outcome import show

        options = CampaignOptions(
            seeds=range(first_seed, first_seed + seeds),
            workers=workers,
            directory=directory,
            stop_after=stop_after,
            shrink_max=shrink,
            quiet=json,
        )
        with both_interrupt():
            made(directory)
            found = run_campaign(options, clock)
        if json:
            _print_json(msgspec.structs.replace(found, results=[]))
        else:
            show(found)
            print(directory / "campaign.json")
        raise Concluded(EXIT_CODES[found.verdict])
    from region_sim.campaign.process import ProcessOptions, run_on_processes
    from region_sim.campaign.spread import show as show_spread

    with both_interrupt():
        made(directory)
        spread = run_on_processes(ProcessOptions(drill, runs, first_seed, directory, quiet=json), clock)
    if json:
        _print_json(spread)
    else:
        show_spread(spread)
        print(directory / "campaign.json")
    raise Concluded(EXIT_CODES[spread.verdict])


def _directory(clock: Clock) -> Path:
    at = datetime.fromtimestamp(clock.unix_ms() / 1000, UTC)
    return Path("drills") / "campaign" / at.strftime("%Y%m%dT%H%M%S")


def _print_json(value: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
