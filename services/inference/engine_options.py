"""How the engine is set, apart from the engine: the settings, and what reads them, need no ONNX Runtime."""

from dataclasses import dataclass
from enum import StrEnum


class Device(StrEnum):
    """What the settings may ask for."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How sessions are opened. `intra_op_threads` 0 means as many as this process may use cores."""

    device: Device = Device.AUTO
    intra_op_threads: int = 1
    gpu_memory_bytes_max: int = 2 << 30
