"""Graphs in fewer bits, and what a graph does: its scores, how steady they are, how long it takes.

All by ONNX Runtime on the CPU with one thread, as the worker opens it.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.cases import Cases
from models.compression.gate import Scored
from models.encode import FEATURE, Tensors
from models.export import OUTPUT

BATCHES: Final = (1, 8)
CANDIDATES: Final = 100
CALIBRATION_ROWS: Final = 256
_SCORED_AT_ONCE: Final = 64
_STEADY_ROWS: Final = 128
_STEADY_BATCHES: Final = (1, 7)
_RUNS: Final = 60
_TABLE_ROWS_MIN: Final = 1024
"""A table of fewer rows is not worth a node more."""
_ENDS: Final = ("/outer/", "/direct/", "/pool/")
"""Layers with one output: eight bits save nothing there, and a score would take one of 256 values."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of one thread's CPU time for a batch, medians of runs that took turns with the parent's."""

    batch: int
    candidates: int
    ms: float
    parent_ms: float
    ratio: float
    """Median of the pairs' ratios; below 1: faster than the parent."""


def opened(graph: bytes) -> Any:
    """An ONNX Runtime session."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def scored(session: Any, cases: Cases) -> Scored:
    """Scores (n, K) of all cases, and how far they depend on the size of the batch."""
    size = _SCORED_AT_ONCE
    parts = [session.run([OUTPUT], cases.tensors(slice(at, at + size)))[0] for at in range(0, len(cases), size)]
    scores: npt.NDArray[np.float32] = np.concatenate(parts).astype(np.float32)
    checked = min(len(cases), _STEADY_ROWS)
    real = cases.candidate_items[:checked] != 0
    unsteady = 0.0
    for size in _STEADY_BATCHES:
        again = [session.run([OUTPUT], cases.tensors(slice(at, min(at + size, checked))))[0]
                 for at in range(0, checked, size)]  # fmt: skip
        unsteady = max(unsteady, float(np.abs(np.concatenate(again) - scores[:checked])[real].max(initial=0.0)))
    return Scored(scores, unsteady)


def paces(child: Any, parent: Any, cases: Cases, thread_seconds: Callable[[], float]) -> list[Pace]:
    """How long both take for the same batches, run by turns: a busy machine then slows both alike."""
    width = min(CANDIDATES, cases.width)
    order = np.argsort(-cases.candidate_feats[:, :, FEATURE["blend"]].astype(np.float32), axis=1, kind="stable")
    narrow = cases.take(slice(0, max(BATCHES) * _RUNS)).with_candidates(order[: max(BATCHES) * _RUNS, :width])
    found = []
    for batch in BATCHES:
        took = np.zeros((_RUNS, 2))
        for run in range(-2, _RUNS):
            at = max(run, 0) * batch % max(len(narrow) - batch, 1)
            tensors = narrow.tensors(slice(at, at + batch))
            turns = ((0, child), (1, parent)) if run % 2 else ((1, parent), (0, child))
            for place, session in turns:
                started = thread_seconds()
                session.run([OUTPUT], tensors)
                took[max(run, 0), place] = 1000 * (thread_seconds() - started)
        ours, theirs = np.median(took, axis=0).tolist()
        ratio = float(np.median(took[:, 0] / took[:, 1]))
        found.append(Pace(batch=batch, candidates=width, ms=ours, parent_ms=theirs, ratio=ratio))
    return found


def halved(graph: bytes, *, tables_only: bool) -> bytes:
    """The graph in fp16, inputs and scores still fp32; with `tables_only` its embedding tables alone."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load_from_string(graph)
    if tables_only:
        _halve_tables(model)
        return _serialised(model)
    # Left in fp32, the last node writes -65504 for padding, the lowest that fp16 has, and no infinity.
    last = [node.name for node in model.graph.node if OUTPUT in node.output]
    return _serialised(convert_float_to_float16(model, keep_io_types=True, node_block_list=last))


def _halve_tables(model: Any) -> None:
    """In place: the tables in fp16, each row back in fp32 when it has been looked up."""
    from onnx import TensorProto, helper, numpy_helper

    chosen = set(_tables(model))
    nodes, tables = [], set()
    for node in model.graph.node:
        nodes.append(node)
        if node.name in chosen:
            tables.add(node.input[0])
            whole, half = node.output[0], f"{node.output[0]}_half"
            node.output[0] = half
            nodes.append(helper.make_node("Cast", [half], [whole], name=f"{node.name}_whole", to=TensorProto.FLOAT))
    for constant in model.graph.initializer:
        if constant.name in tables:
            half_table = numpy_helper.to_array(constant).astype(np.float16)
            constant.CopyFrom(numpy_helper.from_array(half_table, constant.name))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def in_eight_bits(graph: bytes, way: str, calibration: Cases) -> bytes:
    """The graph with weights in int8.

    `tables`: the embedding tables alone; `calibrated`: the layers too, the ranges of what goes into them fixed by
    `calibration`; `dynamic`: the layers too, with ranges taken from each batch as it comes.
    """
    import onnx
    from onnxruntime import quantization as q

    model = onnx.load_from_string(graph)
    tables, kept = _tables(model), _not_layers(model)
    with tempfile.TemporaryDirectory() as folder:
        source, halfway, result = (Path(folder) / name for name in ("source.onnx", "tables.onnx", "result.onnx"))
        source.write_bytes(graph)
        if way == "dynamic":
            chosen = [*tables, *_layers(model, kept)]
            q.quantize_dynamic(
                source, result, op_types_to_quantize=["Gather", "MatMul", "Gemm"], nodes_to_quantize=chosen
            )
            return result.read_bytes()
        q.quantize_dynamic(source, halfway, op_types_to_quantize=["Gather"], nodes_to_quantize=tables or ["(none)"])
        if way == "tables":
            return halfway.read_bytes()
        q.quantize_static(
            halfway,
            result,
            _Reader(calibration),
            quant_format=q.QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=kept,
            per_channel=True,
            activation_type=q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
        )
        return result.read_bytes()


class _Reader:
    """Batches to calibrate by, in the shape that the quantiser asks for."""

    def __init__(self, cases: Cases) -> None:
        self._batches: Iterator[Tensors] = (
            cases.tensors(slice(at, at + 32)) for at in range(0, min(len(cases), CALIBRATION_ROWS), 32)
        )

    def get_next(self) -> Tensors | None:
        """The next batch; None when there are no more."""
        return next(self._batches, None)


def _constants(model: Any) -> dict[str, list[int]]:
    return {constant.name: list(constant.dims) for constant in model.graph.initializer}


def _tables(model: Any) -> list[str]:
    """Nodes that look rows up in a large table."""
    sizes = _constants(model)
    return [
        node.name for node in model.graph.node
        if node.op_type == "Gather" and (sizes.get(node.input[0]) or [0])[0] >= _TABLE_ROWS_MIN
        and sizes[node.input[0]][-1] > 1
    ]  # fmt: skip


def _not_layers(model: Any) -> list[str]:
    """Products of two activations, and layers with one output."""
    constants = _constants(model).keys()
    return [
        node.name for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm")
        and (node.input[1] not in constants or any(end in node.name for end in _ENDS))
    ]  # fmt: skip


def _layers(model: Any, kept: list[str]) -> list[str]:
    return [n.name for n in model.graph.node if n.op_type in ("MatMul", "Gemm") and n.name not in kept]


def _serialised(model: Any) -> bytes:
    made: bytes = model.SerializeToString(deterministic=True)
    return made
