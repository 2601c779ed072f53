"""What an operator can set on the inference worker (`[inference]`, `MERIDIAN_INFERENCE_...`)."""

from pathlib import Path
from typing import Annotated, ClassVar, Final

import msgspec

from services.common.region_settings import RegionSettings
from services.common.settings import ServiceSettings
from services.inference.batch_queue import BatchLimits
from services.inference.engine_options import Device, EngineOptions

_Whole = Annotated[int, msgspec.Meta(ge=1)]
_Seconds = Annotated[float, msgspec.Meta(ge=0.0)]
_Period = Annotated[float, msgspec.Meta(gt=0.0)]

SHIPPED: Final = Path(__file__).resolve().parents[2] / "models" / "repository"
"""The versions that come with this release."""
NO_STANDBY: Final = "none"


class InferenceSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The worker's own; its port is the region's `inference_port`."""

    TABLE: ClassVar[str] = "inference"

    model_repository: Path = SHIPPED
    """Triton's layout: `<model>/config.pbtxt` and `<model>/<version>/`. Left as it is, the region has a repository of
    its own (`models` in its data directory), which is filled from these shipped versions; set, it is used itself."""
    model: str = "ranker"
    """The model that ranks."""
    model_version: str = ""
    """The version to serve; empty: the one that the alias `champion` names, and the newest one without an alias."""
    also: tuple[str, ...] = ("similar",)
    """Further models, each served as soon as its own alias `champion` names a version. The region is ready without."""
    standby_version: str = ""
    """What answers when the champion cannot; empty: the smallest other version of at most half its size; or `none`."""
    standby_reserve_seconds: _Seconds = 0.005
    """How long before a request's deadline the standby is asked, beside the time that its run takes."""
    alias_poll_seconds: _Period = 1.0
    """How often the aliases are looked at."""
    retry_seconds_max: _Period = 60.0
    """A version that could not be had is tried again after 1 s, doubling up to this."""
    version_bytes_max: _Whole = 2 << 30
    """A version that is larger is not fetched from a peer."""
    fetch_silence_seconds: _Period = 10.0
    """A peer that sends nothing for so long is given up."""
    fetch_seconds_max: _Period = 300.0
    """After so long the next peer is asked for the rest of a version, however steadily this one sends."""
    device: Device = Device.AUTO
    """What runs it. `auto`: a GPU if there is one; a device that is named is insisted on."""
    intra_op_threads: Annotated[int, msgspec.Meta(ge=0)] = 1
    """Threads inside a run; 0: as many as the process may use cores."""
    gpu_memory_bytes_max: _Whole = 2 << 30
    """What ONNX Runtime may take of the GPU."""
    batch_buckets: tuple[_Whole, ...] = (1, 2, 4, 8, 16, 32)
    """Row counts that runs are padded to; the last is the largest batch."""
    candidate_buckets: tuple[_Whole, ...] = (64, 128, 256, 512)
    """Candidate counts that runs are padded to; more than the last are refused."""
    batch_delay_seconds: _Seconds = 0.001
    """How long a request that came during a run waits for company."""
    queue_rows_max: _Whole = 256
    """Rows that may wait; more are refused with 429."""
    slack_margin_seconds: _Seconds = 0.002
    """What it takes to get an answer out after its run: a batch starts that much before the earliest deadline."""
    body_bytes_max: _Whole = 8 << 20
    """The largest request."""
    drain_seconds: _Seconds = 10.0
    """How long a replaced version, and a stopping worker, waits for requests under way."""
    stuck_run_seconds: _Seconds = 5.0
    """A run that takes longer makes the worker not ready."""

    def check(self) -> str | None:
        """Buckets must rise, and the queue must hold a full batch."""
        for name, buckets in (("batch_buckets", self.batch_buckets), ("candidate_buckets", self.candidate_buckets)):
            if not buckets or list(buckets) != sorted(set(buckets)):
                return f"{name} must name at least one size, ascending, each once"
        if self.queue_rows_max < self.batch_buckets[-1]:
            return "queue_rows_max must be at least the largest batch bucket"
        return None

    def repository_of(self, region: RegionSettings) -> Path:
        """Return where this region's versions are: the worker serves from there, and `meridian models` writes there."""
        return region.model_repository if self.model_repository == SHIPPED else self.model_repository

    @property
    def batch_limits(self) -> BatchLimits:
        """The batcher's bounds."""
        return BatchLimits(
            delay_seconds=self.batch_delay_seconds,
            queue_rows_max=self.queue_rows_max,
            slack_margin_seconds=self.slack_margin_seconds,
        )

    @property
    def engine_options(self) -> EngineOptions:
        """How sessions are opened."""
        return EngineOptions(self.device, self.intra_op_threads, self.gpu_memory_bytes_max)
