"""Ranking every search of a log, as fast as it goes: `make quality`.

Searches are ranked in waves, in the order of the stream. A wave of consecutive searches is ranked together, before any
of their clicks is published; the next wave waits until the region has taken in what happened during the last one.
So our rankings know up to one wave less than the baselines, which are told every click in its place.

A version that was trained on a log is judged on what came after: it is pushed and promoted as an operator would do it,
and refused when its training reaches into the searches that it is to rank.
"""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

from models.records import Source
from models.registry import read_manifest
from services.demo.errors import DemoError
from services.demo.region import DemoRegion, running_region
from services.replay.player import PlayerSettings
from services.replay.progress import ProgressBoard
from services.replay.report import ReplayReport
from services.replay.run import Replay, ReplayOptions


@dataclass(frozen=True, slots=True)
class QualityOptions:
    """Sizes of a quality run."""

    home: Path
    searches: int | None = None
    last: int | None = None
    """Rank only so many searches at the end; the earlier ones are published in bulk. None: rank all."""
    model: Path | None = None
    """Folder of a version that is champion in this run; None: the one that is shipped."""
    wave_searches: int = 16
    ranking_timeout_ms: int = 10_000
    """Nobody waits here, so a busy moment is no failure."""


def run_quality(source: Source, options: QualityOptions, board: ProgressBoard) -> ReplayReport:
    """Rank the log against a region of its own; the region is down when this returns or raises.

    Raises DemoError, also for a model that was trained on what it would rank; VersionDamaged.
    """
    searches = source.searches[: options.searches]
    bulk = 0 if options.last is None else max(len(searches) - options.last, 0)
    if options.model is not None:
        check_frontier(options.model, searches[bulk].time_ms if bulk < len(searches) else 0)
    options.home.mkdir(parents=True, exist_ok=True)
    board.say("starting a region: Kafka, inference worker, processor, gateway")
    # One app asks for everything at once here, so the gateway's upper bound of a deadline is raised to its time-out.
    with running_region(options.home / "region") as region:
        if options.model is not None:
            board.say(f"its champion is {_champion(region, options.model)}, from {options.model}")
        replay = ReplayOptions(
            gateways=[region.addresses["gateway"]],
            limit=options.searches,
            bulk_searches=bulk,
            rank=True,
            player=PlayerSettings(wave_searches=options.wave_searches, ranking_timeout_ms=options.ranking_timeout_ms),
        )
        return asyncio.run(Replay(source, replay, board).run())


def check_frontier(model: Path, first_ranked_ms: int) -> None:
    """Raise DemoError unless a version says that its training ended before this time (milliseconds since the epoch)."""
    frontier = read_manifest(model)[0].frontier
    last_ms = frontier.get("last_time_ms")
    if not isinstance(last_ms, int):
        raise DemoError(f"{model} does not say which events it was trained on: `meridian models train` writes it down")
    if last_ms >= first_ranked_ms:
        raise DemoError(
            f"{model} was trained on events up to {last_ms} ms, and the first search that it would rank is of "
            f"{first_ranked_ms} ms: rank fewer searches with --last, or train it with --end on fewer rows"
        )


def _champion(region: DemoRegion, model: Path) -> str:
    """Push a version and make it the champion; returns its number. Raises DemoError."""
    number = str(_verb(region, "push", str(model.absolute()))["version"])
    _verb(region, "promote", number)
    return number


def _verb(region: DemoRegion, *words: str) -> dict[str, object]:
    done = region.command("models", *words, "--data-dir", str(region.home), "--json")
    if done.returncode != 0:
        raise DemoError(f"`meridian models {words[0]}` ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    found: dict[str, object] = json.loads(done.stdout)
    return found
