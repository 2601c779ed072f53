"""`python -m services.processor`: the region's processor."""

import os

# Before NumPy is imported: its linear algebra would start a thread a core, and this process never uses it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from services.common.exit_codes import ExitCode
from services.common.process import run_service
from services.common.region_settings import RegionSettings
from services.coordination.region_record import KeyMismatch
from services.processor.server import serve
from services.processor.settings import ProcessorSettings
from streams.errors import LogGap, LogTruncated, UnknownFrameVersion


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    return run_service(
        "processor",
        [RegionSettings, ProcessorSettings],
        serve,
        exit_codes={
            UnknownFrameVersion: ExitCode.UNKNOWN_FRAME_VERSION,
            LogTruncated: ExitCode.LOG_TRUNCATED_OR_GAP,
            LogGap: ExitCode.LOG_TRUNCATED_OR_GAP,
            KeyMismatch: ExitCode.KEY_MISMATCH,
        },
    )


if __name__ == "__main__":
    from services.processor.ending import end_process

    end_process(main())
