"""Ranking every search of a log, as fast as it goes: `make quality`.

Searches are ranked in waves, in the order of the stream. A wave of consecutive searches is ranked together, before any
of their clicks is published; the next wave waits until the region has taken in what happened during the last one.
So our rankings know up to one wave less than the baselines, which are told every click in its place.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from models.records import Source
from services.demo.region import running_region
from services.replay.player import PlayerSettings
from services.replay.progress import ProgressBoard
from services.replay.report import ReplayReport
from services.replay.run import Replay, ReplayOptions


@dataclass(frozen=True, slots=True)
class QualityOptions:
    """Sizes of a quality run."""

    home: Path
    searches: int | None = None
    wave_searches: int = 16
    ranking_timeout_ms: int = 10_000
    """Nobody waits here, so a busy moment is no failure."""


def run_quality(source: Source, options: QualityOptions, board: ProgressBoard) -> ReplayReport:
    """Rank the log against a region of its own; the region is down when this returns or raises."""
    options.home.mkdir(parents=True, exist_ok=True)
    board.say("starting a region: Kafka, inference worker, processor, gateway")
    # One app asks for everything at once here, so the gateway's upper bound of a deadline is raised to its time-out.
    with running_region(options.home / "region") as region:
        replay = ReplayOptions(
            gateways=[region.addresses["gateway"]],
            limit=options.searches,
            rank=True,
            player=PlayerSettings(wave_searches=options.wave_searches, ranking_timeout_ms=options.ranking_timeout_ms),
        )
        return asyncio.run(Replay(source, replay, board).run())
