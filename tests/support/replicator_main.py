"""A replicator whose list of lives is a file: what a test kills and starts again without an etcd.

    python -m tests.support.replicator_main STORE.json

Everything else comes from the environment, as in a region.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

from services.common.clock import SystemClock
from services.common.process import LoadedSettings, main_exit, run_service
from services.common.region_settings import RegionSettings
from services.coordination.file import FileStore
from services.replicator.lives_feed import OnLives, read_lives
from services.replicator.serve import ReplicatorProcess
from services.replicator.settings import ReplicatorSettings


async def _serve(loaded: LoadedSettings, stop: asyncio.Event) -> None:
    region = cast("RegionSettings", loaded[RegionSettings])
    settings = cast("ReplicatorSettings", loaded[ReplicatorSettings])
    clock = SystemClock()
    store = FileStore(Path(sys.argv[1]))

    async def feed(on_lives: OnLives) -> None:
        await read_lives(store, on_lives, clock, 0.2)

    await ReplicatorProcess(region, region.load_deployment(), settings, clock).run(feed, stop)


if __name__ == "__main__":
    main_exit(run_service("replicator", [RegionSettings, ReplicatorSettings], _serve, arguments=[]))
