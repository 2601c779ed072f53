"""`python -m services.replicator`: copies every other life's logs into this region's Kafka."""

import asyncio
from typing import cast

from services.common.process import LoadedSettings, main_exit, run_service
from services.common.region_settings import RegionSettings
from services.coordination.settings import CoordinationSettings
from services.replicator.serve import serve
from services.replicator.settings import ReplicatorSettings


async def _serve(loaded: LoadedSettings, stop: asyncio.Event) -> None:
    await serve(
        cast("RegionSettings", loaded[RegionSettings]),
        cast("ReplicatorSettings", loaded[ReplicatorSettings]),
        cast("CoordinationSettings", loaded[CoordinationSettings]),
        stop,
    )


def main() -> int:
    """Copy until told to stop; returns the exit code."""
    return run_service("replicator", [RegionSettings, ReplicatorSettings, CoordinationSettings], _serve)


if __name__ == "__main__":
    main_exit(main())
