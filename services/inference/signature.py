"""What a model's tensors must look like, and how requests are padded to shapes that were warmed.

CUDA plans memory and compiles per shape: the first run of a new shape can take ten times as long, amid traffic. So
on a GPU only a few shapes ever run: rows are padded up to a batch bucket and candidates to a candidate bucket, all
of them run once before the version serves. A CPU has no such cost and pays for every padded place (200 candidates
padded to 256 took 25 % longer), so there a batch is padded only to its own longest request. Padding is zeros, and
what it scores is cut off; the golden set runs through the buckets on both, so a model whose real scores depend on
padded places is refused, not served.

Axis 0 of every tensor is the batch. Every other axis that the model leaves open is the candidate axis, the same
number in all tensors of a request; a model with two differently named open axes is refused.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.inference.codec import DTYPES
from services.inference.errors import BadTensor, ModelRefused

Array = NDArray[Any]

_ONNX_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. `shape` has None for the batch axis and for open (candidate) axes."""

    name: str
    datatype: str
    shape: tuple[int | None, ...]

    @property
    def candidate_axes(self) -> tuple[int, ...]:
        """Open axes beside the batch axis."""
        return tuple(axis for axis, size in enumerate(self.shape) if axis > 0 and size is None)


@dataclass(frozen=True, slots=True)
class RequestShape:
    """Rows and candidates of one request; candidates are 0 for a model without an open axis."""

    rows: int
    candidates: int


@dataclass(frozen=True, slots=True)
class Buckets:
    """The sizes that requests are sorted into, and padded to where that pays; ascending."""

    rows: tuple[int, ...]
    candidates: tuple[int, ...]

    def round_up(self, rows: int, candidates: int) -> tuple[int, int]:
        """The padded shape; a size over the largest bucket stays as it is."""
        return bucket_of(rows, self.rows) or rows, (
            bucket_of(candidates, self.candidates) or candidates
        ) if candidates else 0


@dataclass(frozen=True, slots=True)
class Signature:
    """A model's inputs and outputs."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def has_candidates(self) -> bool:
        """Whether any input has an open axis beside the batch."""
        return any(spec.candidate_axes for spec in self.inputs)

    def check(self, inputs: dict[str, Array]) -> RequestShape:
        """The request's shape; raises BadTensor that names the tensor and what was expected of it."""
        self._check_names(inputs)
        rows: int | None = None
        candidates: int | None = None
        for spec in self.inputs:
            array = inputs[spec.name]
            _check_tensor(spec, array)
            if rows is not None and array.shape[0] != rows:
                raise BadTensor(f"input {spec.name!r} has {array.shape[0]} rows, others have {rows}")
            rows = array.shape[0]
            for axis in spec.candidate_axes:
                if candidates is not None and array.shape[axis] != candidates:
                    found = f"input {spec.name!r} has {array.shape[axis]} candidates"
                    raise BadTensor(f"{found}, others have {candidates}")
                candidates = array.shape[axis]
        if not rows or candidates == 0:
            raise BadTensor("there is nothing to score: a request needs at least one row and one candidate")
        return RequestShape(rows, candidates or 0)

    def _check_names(self, inputs: dict[str, Array]) -> None:
        declared = {spec.name for spec in self.inputs}
        missing = sorted(declared - inputs.keys())
        if missing:
            raise BadTensor(f"input {missing[0]!r} is missing; the model takes {sorted(declared)}")
        unknown = sorted(inputs.keys() - declared)
        if unknown:
            raise BadTensor(f"input {unknown[0][:60]!r} is unknown; the model takes {sorted(declared)}")


def signature_of(session: Any) -> Signature:
    """Read a session's signature. Raises ModelRefused when this worker cannot batch it."""
    remedy = "Export it with a batch axis first and at most one other open axis, the candidates"
    inputs = tuple(_spec(node, remedy) for node in session.get_inputs())
    outputs = tuple(_spec(node, remedy) for node in session.get_outputs())
    names = {size for node in session.get_inputs() for size in node.shape[1:] if not isinstance(size, int)}
    if len(names) > 1:
        raise ModelRefused(f"its inputs have several open axes: {sorted(map(str, names))}", remedy)
    if not inputs or not outputs:
        raise ModelRefused("it has no inputs or no outputs", remedy)
    return Signature(inputs, outputs)


def bucket_of(size: int, buckets: tuple[int, ...]) -> int | None:
    """The smallest bucket that holds `size`; None when none does."""
    return next((bucket for bucket in buckets if bucket >= size), None)


def stack(spec: TensorSpec, arrays: list[Array], rows_bucket: int, candidate_bucket: int) -> Array:
    """Put the requests' tensors under each other, padded with zeros to the two buckets."""
    shape = [rows_bucket, *(candidate_bucket if size is None else size for size in spec.shape[1:])]
    if len(arrays) == 1 and list(arrays[0].shape) == shape:
        return arrays[0]
    stacked = np.zeros(shape, dtype=DTYPES[spec.datatype])
    row = 0
    for array in arrays:
        places = (slice(row, row + array.shape[0]), *(slice(0, size) for size in array.shape[1:]))
        stacked[places] = array
        row += array.shape[0]
    return stacked


def cut(spec: TensorSpec, stacked: Array, first_row: int, shape: RequestShape) -> Array:
    """One request's part of an output, without the padding."""
    places = [slice(first_row, first_row + shape.rows)]
    for axis in range(1, stacked.ndim):
        open_axis = axis < len(spec.shape) and spec.shape[axis] is None
        places.append(slice(0, shape.candidates) if open_axis else slice(None))
    return stacked[tuple(places)]


def filler(signature: Signature, rows: int, candidates: int) -> dict[str, Array]:
    """Zeros of one bucket's shape, for the warm-up."""
    return {spec.name: stack(spec, [], rows, candidates) for spec in signature.inputs}


def _spec(node: Any, remedy: str) -> TensorSpec:
    datatype = _ONNX_DATATYPES.get(node.type)
    if datatype is None:
        raise ModelRefused(f"tensor {node.name!r} has type {node.type}, which the protocol cannot carry", remedy)
    if not node.shape or isinstance(node.shape[0], int):
        raise ModelRefused(f"tensor {node.name!r} has shape {node.shape}: its batch axis is fixed", remedy)
    sizes = tuple(size if isinstance(size, int) else None for size in node.shape)
    return TensorSpec(node.name, datatype, sizes)


def _check_tensor(spec: TensorSpec, array: Array) -> None:
    if array.dtype != DTYPES[spec.datatype]:
        raise BadTensor(f"input {spec.name!r} has dtype {array.dtype}; the model takes {spec.datatype}")
    declared = [-1 if size is None else size for size in spec.shape]
    fits = len(array.shape) == len(spec.shape) and all(
        want is None or want == size for want, size in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise BadTensor(f"input {spec.name!r} has shape {list(array.shape)}; the model takes {declared}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BadTensor(f"input {spec.name!r} has a value that is not a finite number")
