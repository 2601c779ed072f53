"""A copy of the ranking model that is no model any more, or one that predicts something else."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from models.registry import MANIFEST_FILE, MODEL_FILE, versions
from region_sim.errors import DrillBroken


def copy_newest(repository: Path, model: str, place: Path) -> Path:
    """Put the newest version of a model into another repository, alone there; returns its folder. Blocks.

    Alone, or a worker that refuses it would serve an older one. Raises DrillBroken.
    """
    numbers = versions(repository, model)
    if not numbers:
        raise DrillBroken(f"{repository / model} has no version that could be damaged")
    shutil.rmtree(place, ignore_errors=True)
    newest = str(numbers[-1])
    folder = shutil.copytree(repository / model / newest, place / model / newest)
    for config in (repository / model).glob("*.pbtxt"):
        shutil.copy2(config, place / model)
    return folder


def damage(folder: Path, how: Literal["corrupt", "wrong"]) -> str:
    """Change the graph of a version; says what was done. Blocks. Raises DrillBroken.

    A wrong model's manifest is made to fit it, so that only the golden set can tell.
    """
    path = folder / MODEL_FILE
    before = path.read_bytes()
    if how == "corrupt":
        half = len(before) // 2
        path.write_bytes(before[:half] + bytes(byte ^ 0xFF for byte in before[half : half + 64]))
        return f"{path.name} cut to {half + 64} of {len(before)} bytes, the last 64 of them inverted"
    path.write_bytes(mistaken(before))
    manifest = folder / MANIFEST_FILE
    sums = msgspec.json.decode(manifest.read_bytes(), type=dict[str, str])
    sums[MODEL_FILE] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_bytes(msgspec.json.format(msgspec.json.encode(sums), indent=1) + b"\n")
    return f"all weights of {path.name} negated, its manifest made to fit"


def mistaken(graph: bytes) -> bytes:
    """The ONNX graph with every matrix of weights negated: the same signature, other scores. Raises DrillBroken."""
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise DrillBroken("refused: a wrong model is made with onnx: pip install 'meridian[train-small]'") from error
    model = onnx.load_model_from_string(graph)
    changed = 0
    for weights in model.graph.initializer:
        array = numpy_helper.to_array(weights)
        if array.ndim >= 2 and np.issubdtype(array.dtype, np.floating):
            weights.CopyFrom(numpy_helper.from_array(-array, weights.name))
            changed += 1
    if not changed:
        raise DrillBroken("the model has no matrix of weights: nothing was changed")
    return bytes(model.SerializeToString())
