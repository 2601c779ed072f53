"""`python -m services.inference`: the region's inference worker."""

import os

# Before NumPy is imported: its linear algebra would start a thread a core, and this process never uses it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from services.common.exit_codes import ExitCode
from services.common.process import main_exit, run_service
from services.common.region_settings import RegionSettings
from services.common.tracing_settings import TracingSettings
from services.coordination.settings import CoordinationSettings
from services.inference.errors import ModelRefused
from services.inference.server import serve
from services.inference.settings import InferenceSettings


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    return run_service(
        "inference",
        [RegionSettings, InferenceSettings, CoordinationSettings, TracingSettings],
        serve,
        exit_codes={ModelRefused: ExitCode.MODEL_REFUSED},
    )


if __name__ == "__main__":
    main_exit(main())
