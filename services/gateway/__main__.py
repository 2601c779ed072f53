"""`python -m services.gateway`: settings from environment and file, then serve until asked to stop."""

import asyncio
from typing import cast

from services.common.exit_codes import ExitCode
from services.common.process import LoadedSettings, main_exit, run_service
from services.common.region_settings import RegionSettings
from services.common.tracing_settings import TracingSettings
from services.coordination.region_record import KeyMismatch
from services.coordination.settings import CoordinationSettings
from services.gateway.errors import LogCut
from services.gateway.serve import serve
from services.gateway.settings import GatewaySettings


async def _serve(loaded: LoadedSettings, stop: asyncio.Event) -> None:
    region = cast("RegionSettings", loaded[RegionSettings])
    coordination = cast("CoordinationSettings", loaded[CoordinationSettings])
    tracing = cast("TracingSettings", loaded[TracingSettings])
    await serve(region, cast("GatewaySettings", loaded[GatewaySettings]), coordination, tracing, stop)


def main() -> int:
    """Run the gateway; the exit code says what an operator must mend."""
    return run_service(
        "gateway",
        [RegionSettings, GatewaySettings, CoordinationSettings, TracingSettings],
        _serve,
        exit_codes={LogCut: ExitCode.LOG_TRUNCATED_OR_GAP, KeyMismatch: ExitCode.KEY_MISMATCH},
    )


if __name__ == "__main__":
    main_exit(main())
