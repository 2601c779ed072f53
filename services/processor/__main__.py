"""`python -m services.processor`: the region's processor."""
# ruff: noqa: E402 - what libraries load must be settled before they are imported

import os

# Before NumPy is imported: its linear algebra would start a thread a core, and this process never uses it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import gc
import sys

# Nothing that is imported or replayed is garbage: looking for some costs 0.3 s of each start. `server` switches it on.
gc.disable()
# numba loads SciPy's linear algebra where it finds it: 0.3 s and 15 MB at each start that nothing here uses.
sys.modules["scipy"] = None  # type: ignore[assignment]

import asyncio
import logging
from typing import Final, NoReturn

from services.common.exit_codes import ExitCode
from services.common.process import LoadedSettings, log_end, run_service
from services.common.region_settings import RegionSettings
from services.common.tracing_settings import TracingSettings
from services.coordination.region_record import KeyMismatch
from services.coordination.settings import CoordinationSettings
from services.processor.server import serve
from services.processor.settings import ProcessorSettings
from streams.errors import LogGap, LogTruncated, UnknownFrameVersion

EXIT_CODES: Final[dict[type[Exception], ExitCode]] = {
    UnknownFrameVersion: ExitCode.UNKNOWN_FRAME_VERSION,
    LogTruncated: ExitCode.LOG_TRUNCATED_OR_GAP,
    LogGap: ExitCode.LOG_TRUNCATED_OR_GAP,
    KeyMismatch: ExitCode.KEY_MISMATCH,
}


async def serve_or_end(loaded: LoadedSettings, stop: asyncio.Event) -> None:
    """Serve; whatever fails ends the process here and now.

    A crashed Faust restarts its agents as often as they are cancelled, so leaving the event loop in good order would
    never end, and threads of client libraries that wait for a dead broker would hold up the restart.
    """
    try:
        await serve(loaded, stop)
    except Exception as error:  # noqa: BLE001 - the outermost loop
        end_process(log_end("processor", error, EXIT_CODES))


def end_process(code: int) -> NoReturn:
    """Flush what was logged and leave, without waiting for any thread."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code))


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    return run_service(
        "processor",
        [RegionSettings, CoordinationSettings, ProcessorSettings, TracingSettings],
        serve_or_end,
        exit_codes=EXIT_CODES,
    )


if __name__ == "__main__":
    end_process(main())
