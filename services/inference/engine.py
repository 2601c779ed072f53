"""ONNX Runtime behind one door: which device a session really runs on, with how many threads, and one padded run.

The GPU wheel imports on a machine without a GPU, lists CUDA as available, and then runs on the CPU without raising.
So `device=cuda` forbids the fallback and checks what the session says it uses; `device=auto` takes what it gets and
reports it (`meridian_inference_device_info`, and a degraded readiness when CUDA is installed but not used).

One intra-op thread by default: a ranking of 200 candidates is too small to split, and spinning threads of several
workers on shared cores cost more than they win. The CPU's arena and memory patterns are off: they keep the largest
batch's memory for ever (110 MB against 61 MB after the warm-up of a 256-wide model), and runs of 1 to 32 rows took the
same time without them, within noise.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from services.inference.engine_options import Device, EngineOptions
from services.inference.errors import DeviceRefused, ModelRefused, ModelRunFailed
from services.inference.signature import Buckets, RequestShape, Signature, cut, signature_of, stack

Array = NDArray[Any]

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One request's tensors inside a batch."""

    inputs: dict[str, Array]
    shape: RequestShape


class Session:
    """An opened model: its signature, the device it runs on, and a run."""

    def __init__(self, model_path: Path, options: EngineOptions) -> None:
        """Open it. Raises ModelRefused when the file is no model, DeviceRefused when the device is not there."""
        self._session = _open(model_path, options)
        self.device = Device.CUDA if self._session.get_providers()[0] == _CUDA else Device.CPU
        if options.device is Device.CUDA and self.device is not Device.CUDA:
            raise DeviceRefused(
                f"device=cuda was asked for, but ONNX Runtime runs on {self._session.get_providers()}",
                "Install onnxruntime-gpu with the CUDA and cuDNN it names, or set device=auto or cpu",
            )
        self.signature: Signature = signature_of(self._session)
        self._output_names = [spec.name for spec in self.signature.outputs]

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Run on tensors as they are. Raises ModelRunFailed."""
        try:
            found = self._session.run(self._output_names, inputs)
        except Exception as error:  # ONNX Runtime's exceptions have no common root
            raise ModelRunFailed(f"ONNX Runtime could not run the model: {error}") from error
        return dict(zip(self._output_names, found, strict=True))

    def stack(self, items: list[BatchItem], buckets: Buckets) -> dict[str, Array]:
        """A batch's inputs. A GPU runs warmed shapes only; a CPU pays for each padded place and takes what there is."""
        rows = sum(item.shape.rows for item in items)
        candidates = max(item.shape.candidates for item in items)
        if self.device is Device.CUDA:
            rows, candidates = buckets.round_up(rows, candidates)
        return self.stack_padded(items, rows, candidates)

    def stack_padded(self, items: list[BatchItem], rows: int, candidates: int) -> dict[str, Array]:
        """A batch's inputs, padded to this many rows and candidates."""
        return {
            spec.name: stack(spec, [item.inputs[spec.name] for item in items], rows, candidates)
            for spec in self.signature.inputs
        }

    def split(self, outputs: dict[str, Array], items: list[BatchItem]) -> list[dict[str, Array] | ModelRunFailed]:
        """Each request's own outputs, or what is wrong with them. Scores that are not finite fail only theirs."""
        answers: list[dict[str, Array] | ModelRunFailed] = []
        row = 0
        for item in items:
            answer = {spec.name: cut(spec, outputs[spec.name], row, item.shape) for spec in self.signature.outputs}
            row += item.shape.rows
            broken = [
                name for name, array in answer.items() if array.dtype.kind == "f" and not np.isfinite(array).all()
            ]
            answers.append(ModelRunFailed(f"output {broken[0]!r} has a value that is not finite") if broken else answer)
        return answers


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and the cgroup's CPU quota if there is one."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    if quota == "max":
        return cores
    return max(1, min(cores, round(int(quota) / int(period))))


def cuda_is_installed() -> bool:
    """Whether this ONNX Runtime has CUDA built in; it says nothing about a GPU being there."""
    return _CUDA in onnxruntime.get_available_providers()


def _open(model_path: Path, options: EngineOptions) -> Any:
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = options.intra_op_threads or usable_cores()
    session_options.inter_op_num_threads = 1
    session_options.enable_cpu_mem_arena = False
    session_options.enable_mem_pattern = options.device is not Device.CPU and cuda_is_installed()
    session_options.log_severity_level = 3
    session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = [_CPU]
    if options.device is Device.CUDA:
        session_options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        providers = [_cuda_provider(options)]
    elif options.device is Device.AUTO and cuda_is_installed():
        providers = [_cuda_provider(options), _CPU]
    if options.device is Device.CUDA and not cuda_is_installed():
        raise DeviceRefused(
            "device=cuda was asked for, but this ONNX Runtime is built without CUDA",
            "Install the gpu extra instead of cpu, or set device=auto or cpu",
        )
    try:
        return onnxruntime.InferenceSession(str(model_path), session_options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions have no common root
        if options.device is Device.CUDA:
            raise DeviceRefused(
                f"device=cuda was asked for, but a session on CUDA alone does not open: {_first_line(error)}",
                "Check nvidia-smi and the CUDA and cuDNN versions, or set device=auto or cpu",
            ) from error
        raise ModelRefused(
            f"ONNX Runtime cannot open {model_path}: {_first_line(error)}", "Export the version again"
        ) from error


def _cuda_provider(options: EngineOptions) -> tuple[str, dict[str, str]]:
    limits = {"arena_extend_strategy": "kSameAsRequested", "gpu_mem_limit": str(options.gpu_memory_bytes_max)}
    return (_CUDA, limits)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
