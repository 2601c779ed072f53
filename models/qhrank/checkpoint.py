"""Where a training stood between two epochs: on disk whole, or as it was before.

Read back without unpickling anything but tensors and plain values. A mark, made of all that decides the outcome, keeps
a training from going on from another one's file.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
import xxhash

from models.cases import Cases
from models.errors import CheckpointUnfit


@dataclass(slots=True)
class Checkpoint:
    """Everything that changes while training goes on."""

    model: dict[str, Any]
    best: dict[str, Any]
    """Weights of the stage's best epoch."""
    stage: int = 0
    done: int = 0
    """Epochs of the stage."""
    stale: int = 0
    """Epochs since the best one."""
    best_merit: float = 0.0
    best_epoch: int = 0
    judged: str = ""
    """Figures of the head's best epoch, as JSON."""
    optimizer: dict[str, Any] = field(default_factory=dict)
    """Empty before the stage's first epoch, as is the schedule."""
    schedule: dict[str, Any] = field(default_factory=dict)
    text_epoch: int = 0
    head_epoch: int = 0
    head_epochs: int = 0


def mark_of(parts: Sequence[Cases], settings: msgspec.Struct, base: Mapping[str, npt.NDArray[Any]]) -> str:
    """Names a training by all that decides its outcome."""
    digest = xxhash.xxh3_128(msgspec.json.encode(settings))
    for cases in parts:
        for column in fields(cases):
            digest.update(np.ascontiguousarray(getattr(cases, column.name)).view(np.uint8).data)
    for name, array in sorted(base.items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write_checkpoint(path: Path, state: Checkpoint, mark: str) -> None:
    """Replace the file at once: a kill at any moment leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with half.open("wb") as sink:
            torch.save({"mark": mark, **asdict(state)}, sink)
            sink.flush()
            os.fsync(sink.fileno())
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def read_checkpoint(path: Path, mark: str) -> Checkpoint:
    """What `write_checkpoint` wrote. Raises CheckpointUnfit when it is damaged or of another training."""
    try:
        held = torch.load(path, weights_only=True)
        found = held.pop("mark")
        state = Checkpoint(**held)
    except Exception as error:  # torch raises pickle's, zipfile's and its own errors alike
        raise CheckpointUnfit(f"{path} is no checkpoint ({error}); remove it to train from the start") from error
    if found != mark:
        raise CheckpointUnfit(
            f"{path} is of a training with other data or settings; name another file, or remove it to start anew"
        )
    return state
