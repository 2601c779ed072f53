"""Tiny ranking models in the repository's layout, for tests that must not depend on the shipped one.

`score = bias + candidate_feats . weights`, so a test knows what to expect. `layers` adds matrix products that change
nothing but take time; `uses_mean` makes each score depend on all candidates, padded ones included (a bad export).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FEATURES = 4
WEIGHTS = np.array([0.5, -1.0, 2.0, 0.25], dtype=np.float32)
WIDTH = 256

Array = NDArray[Any]


def write_version(
    repository: Path,
    version: str = "1",
    *,
    model: str = "ranker",
    bias: float = 0.0,
    layers: int = 0,
    uses_mean: bool = False,
    with_items: bool = False,
    golden_rows: int = 70,
    golden_shift: float = 0.0,
) -> Path:
    """Make `<repository>/<model>/<version>/`; `golden_shift` makes one expected score of the golden set wrong."""
    folder = repository / model / version
    folder.mkdir(parents=True)
    (repository / model / "config.pbtxt").write_text(f'name: "{model}"\nbackend: "onnxruntime"\n')
    onnx.save(_graph(bias, layers, uses_mean=uses_mean, with_items=with_items), str(folder / "model.onnx"))
    inputs = request_inputs(golden_rows, 40, seed=7, with_items=with_items)
    scores = expected_scores(inputs, bias)
    scores[-1, 3] += golden_shift
    top = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    arrays = {f"input.{name}": array for name, array in inputs.items()}
    np.savez(folder / "golden.npz", **arrays, scores=scores, top10=top)  # type: ignore[arg-type]
    (folder / "metrics.json").write_text("{}\n")
    write_manifest(folder)
    return folder


def write_manifest(folder: Path) -> None:
    """Sums of what is there now."""
    names = sorted(path.name for path in folder.iterdir() if path.name != "manifest.json")
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / "manifest.json").write_text(json.dumps(sums, indent=1))


def request_inputs(rows: int, candidates: int, *, seed: int = 1, with_items: bool = False) -> dict[str, Array]:
    """Inputs that the tiny model takes."""
    random = np.random.default_rng(seed)
    feats = random.normal(size=(rows, candidates, FEATURES)).astype(np.float32)
    inputs: dict[str, Array] = {"candidate_feats": feats}
    if with_items:
        inputs["candidate_items"] = random.integers(0, 99, size=(rows, candidates)).astype(np.int64)
    return inputs


def expected_scores(inputs: dict[str, Array], bias: float = 0.0) -> Array:
    """What the tiny model gives, computed here."""
    scores = inputs["candidate_feats"].astype(np.float64) @ WEIGHTS.astype(np.float64) + bias
    if "candidate_items" in inputs:
        scores = scores + inputs["candidate_items"]
    return scores.astype(np.float32)


def _graph(bias: float, layers: int, *, uses_mean: bool, with_items: bool) -> onnx.ModelProto:
    feats = helper.make_tensor_value_info("candidate_feats", TensorProto.FLOAT, ["batch", "candidates", FEATURES])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", "candidates"])
    inputs = [feats]
    constants: dict[str, Array] = {
        "weights": WEIGHTS.reshape(FEATURES, 1),
        "bias": np.array([bias], dtype=np.float32),
        "last": np.array([2], dtype=np.int64),
        "middle": np.array([1], dtype=np.int64),
        "zero": np.zeros(1, dtype=np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["candidate_feats", "weights"], ["product"]),
        helper.make_node("Squeeze", ["product", "last"], ["flat"]),
        helper.make_node("Add", ["flat", "bias"], ["scored"]),
    ]
    result = "scored"
    if layers:
        constants["widen"] = np.full((FEATURES, WIDTH), 0.01, dtype=np.float32)
        constants["square"] = np.full((WIDTH, WIDTH), 1.0 / WIDTH, dtype=np.float32)
        nodes.append(helper.make_node("MatMul", ["candidate_feats", "widen"], ["wide0"]))
        chain = [helper.make_node("MatMul", [f"wide{n}", "square"], [f"wide{n + 1}"]) for n in range(layers)]
        nodes.extend(chain)
        nodes.append(helper.make_node("ReduceMean", [f"wide{layers}", "last"], ["slow"], keepdims=0))
        nodes.append(helper.make_node("Mul", ["slow", "zero"], ["nothing"]))
        nodes.append(helper.make_node("Add", [result, "nothing"], ["waited"]))
        result = "waited"
    if uses_mean:
        nodes.append(helper.make_node("ReduceMean", [result, "middle"], ["mean"], keepdims=1))
        nodes.append(helper.make_node("Add", [result, "mean"], ["centred"]))
        result = "centred"
    if with_items:
        inputs.append(helper.make_tensor_value_info("candidate_items", TensorProto.INT64, ["batch", "candidates"]))
        nodes.append(helper.make_node("Cast", ["candidate_items"], ["items"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Add", [result, "items"], ["with_items"]))
        result = "with_items"
    nodes.append(helper.make_node("Identity", [result], ["scores"]))
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, [scores], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
