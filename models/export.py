"""From learned weights to an ONNX graph with the full ranker's inputs, and to its Triton configuration.

The graph is spelled out node by node: it is ten nodes, and the same weights give the same bytes, which a tracing
exporter does not promise. Inputs that the small model does not look at are declared all the same, so that callers
send one set of tensors whatever model serves. Where `candidate_items` is 0 there is no candidate but padding, and it
scores far below everything.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.encode import FEATURE_NAMES, QUERY_TOKENS
from models.retrieval import HISTORY_MAX

PADDING_SCORE: Final = -1e9
OUTPUT: Final = "scores"
BATCH, CANDIDATES = "batch", "candidates"
INPUTS: Final[dict[str, tuple[str, tuple[int | str, ...]]]] = {
    "query_tokens": ("INT32", (BATCH, QUERY_TOKENS)),
    "history_items": ("INT64", (BATCH, HISTORY_MAX)),
    "history_types": ("INT32", (BATCH, HISTORY_MAX)),
    "history_gap": ("INT32", (BATCH, HISTORY_MAX)),
    "candidate_items": ("INT64", (BATCH, CANDIDATES)),
    "candidate_feats": ("FP32", (BATCH, CANDIDATES, len(FEATURE_NAMES))),
}
"""Name -> type and shape of each input."""
_OPSET: Final = 17
_IR_VERSION: Final = 8
_FP32: Final = np.float32
Float = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Weights:
    """A linear score plus one hidden layer: x·direct + tanh(x·inner + bias)·outer."""

    direct: Float
    """Shape (F,)."""
    inner: Float
    """Shape (F, H)."""
    bias: Float
    """Shape (H,)."""
    outer: Float
    """Shape (H,)."""

    def score(self, features: Float) -> Float:
        """Scores of shape features.shape[:-1]."""
        hidden = np.tanh(features @ self.inner + self.bias)
        scores: Float = features @ self.direct + hidden @ self.outer
        return scores


def graph_bytes(weights: Weights) -> bytes:
    """The serialised ONNX model. Needs the package `onnx` (extra `train-small`)."""
    from onnx import TensorProto, checker, helper, numpy_helper

    types = {"INT32": TensorProto.INT32, "INT64": TensorProto.INT64, "FP32": TensorProto.FLOAT}
    constants: dict[str, npt.NDArray[Any]] = {
        "inner": weights.inner.astype(_FP32),
        "bias": weights.bias.astype(_FP32),
        "outer": weights.outer.astype(_FP32)[:, None],
        "direct": weights.direct.astype(_FP32)[:, None],
        "last_axis": np.array([2], np.int64),
        "no_item": np.array(0, np.int64),
        "padding_score": np.array(PADDING_SCORE, _FP32),
    }
    nodes = [
        helper.make_node("MatMul", ["candidate_feats", "inner"], ["projected"]),
        helper.make_node("Add", ["projected", "bias"], ["shifted"]),
        helper.make_node("Tanh", ["shifted"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "outer"], ["bent"]),
        helper.make_node("MatMul", ["candidate_feats", "direct"], ["straight"]),
        helper.make_node("Add", ["bent", "straight"], ["summed"]),
        helper.make_node("Squeeze", ["summed", "last_axis"], ["raw_scores"]),
        helper.make_node("Equal", ["candidate_items", "no_item"], ["is_padding"]),
        helper.make_node("Where", ["is_padding", "padding_score", "raw_scores"], [OUTPUT]),
    ]
    graph = helper.make_graph(
        nodes,
        "ranker",
        [helper.make_tensor_value_info(name, types[kind], shape) for name, (kind, shape) in INPUTS.items()],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, CANDIDATES])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph,
        producer_name="meridian",
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    model.metadata_props.add(key="features", value=" ".join(FEATURE_NAMES))
    checker.check_model(model)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def triton_config(name: str) -> str:
    """`config.pbtxt` of the model: what Triton, and this project's worker, would serve it with."""
    lines = [f'name: "{name}"', 'backend: "onnxruntime"', "max_batch_size: 64"]
    for input_name, (kind, shape) in INPUTS.items():
        sizes = ", ".join(str(size) if isinstance(size, int) else "-1" for size in shape[1:])
        lines.append(f'input {{ name: "{input_name}" data_type: TYPE_{kind} dims: [ {sizes} ] }}')
    lines.append(f'output {{ name: "{OUTPUT}" data_type: TYPE_FP32 dims: [ -1 ] }}')
    lines.append("dynamic_batching { max_queue_delay_microseconds: 1000 }")
    lines.append("version_policy: { all { } }")
    return "\n".join(lines) + "\n"
