"""The Open Inference Protocol's bodies, as bytes and as arrays; both sides of the wire in one place.

A body is JSON, or JSON followed by the tensors' raw bytes (Triton's binary extension): the header `Inference-
Header-Content-Length` says where the JSON ends, and each tensor's `parameters.binary_data_size` how many of the
bytes are its own, in order, row-major and little-endian. Every length comes from outside, so each is checked
against what is really there before an array is made of it: a wrong one is a `BadRequest` that names the tensor.
Binary tensors are views of the body, never copies; a 200-candidate request decodes in about 30 microseconds,
against milliseconds for JSON numbers.

protobuf/gRPC, the protocol's other half, was turned down: the callers are aiohttp processes on the same host.
"""

import math
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.inference.errors import BadRequest, BadTensor

HEADER_LENGTH = "Inference-Header-Content-Length"
BINARY_CONTENT_TYPE = "application/octet-stream"
JSON_CONTENT_TYPE = "application/json"

Array = NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
DATATYPES: dict[np.dtype[Any], str] = {dtype: name for name, dtype in DTYPES.items()}

# A tensor of a ranking request has two or three dimensions; more than this is a mistake or an attack.
DIMENSIONS_MAX = 8


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int] = []
    datatype: str = ""
    parameters: dict[str, Any] = {}
    data: msgspec.Raw = msgspec.Raw()


class _Message(msgspec.Struct):
    inputs: list[_Tensor] = []
    outputs: list[_Tensor] = []
    id: str = ""
    parameters: dict[str, Any] = {}
    model_name: str = ""
    model_version: str = ""


_MESSAGE = msgspec.json.Decoder(_Message)
_ANY = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class OutputWanted:
    """One output that the caller asks for, as raw bytes or as JSON numbers."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A decoded request. No `outputs` means all of them, in binary when `binary_default`."""

    id: str
    inputs: dict[str, Array]
    outputs: tuple[OutputWanted, ...]
    binary_default: bool
    timeout_us: int | None
    deadline_unix_ms: int | None


@dataclass(frozen=True, slots=True)
class InferResponse:
    """A decoded answer."""

    model_name: str
    model_version: str
    id: str
    outputs: dict[str, Array]
    stands_in_for: str = ""
    """The version that was asked, when another one answered in its stead."""


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes for the wire; `header_length` is None when all of it is JSON."""

    content: bytes
    header_length: int | None

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that go with it."""
        if self.header_length is None:
            return {"Content-Type": JSON_CONTENT_TYPE}
        return {"Content-Type": BINARY_CONTENT_TYPE, HEADER_LENGTH: str(self.header_length)}


def decode_request(content: bytes, header_length: str | None) -> InferRequest:
    """Read a request body. `header_length` is the HTTP header's text, or None without it.

    Raises BadRequest or BadTensor, whose text names the field and what is wrong with it.
    """
    message, binary = _split(content, header_length)
    parameters = message.parameters
    return InferRequest(
        id=message.id,
        inputs=_decode_tensors(message.inputs, binary, "input"),
        outputs=tuple(_output_wanted(tensor) for tensor in message.outputs),
        binary_default=_flag(parameters, "binary_data_output"),
        timeout_us=_whole_number(parameters, "timeout"),
        deadline_unix_ms=_whole_number(parameters, "deadline_unix_ms"),
    )


def encode_request(inputs: dict[str, Array], *, deadline_unix_ms: int | None = None) -> Body:
    """Write a request with binary tensors in both directions."""
    parameters: dict[str, Any] = {"binary_data_output": True}
    if deadline_unix_ms is not None:
        parameters["deadline_unix_ms"] = deadline_unix_ms
    chunks: list[bytes] = []
    tensors = [_binary_tensor(name, array, chunks) for name, array in inputs.items()]
    message: dict[str, Any] = {"inputs": tensors, "parameters": parameters}
    return _join(message, chunks)


def decode_response(content: bytes, header_length: str | None) -> InferResponse:
    """Read an answer's body. Raises BadRequest when it is not one (the client reports it as the worker's fault)."""
    message, binary = _split(content, header_length)
    outputs = _decode_tensors(message.outputs, binary, "output")
    stands_in_for = message.parameters.get("stands_in_for", "")
    return InferResponse(message.model_name, message.model_version, message.id, outputs, str(stands_in_for))


def encode_response(
    model: str, version: str, request: InferRequest, outputs: dict[str, Array], parameters: dict[str, Any] | None = None
) -> Body:
    """Write the answer to `request`: its outputs, each as it was asked for."""
    wanted = request.outputs or tuple(OutputWanted(name, request.binary_default) for name in outputs)
    chunks: list[bytes] = []
    tensors: list[dict[str, Any]] = []
    for output in wanted:
        array = outputs[output.name]
        if output.binary:
            tensors.append(_binary_tensor(output.name, array, chunks))
        else:
            described = {"name": output.name, "datatype": DATATYPES[array.dtype], "shape": list(array.shape)}
            tensors.append({**described, "data": array.ravel().tolist()})
    message: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": tensors}
    if request.id:
        message["id"] = request.id
    if parameters:
        message["parameters"] = parameters
    # Triton names the header's length whenever one output is binary, an empty one included.
    return _join(message, chunks, binary=any(output.binary for output in wanted))


def _join(message: dict[str, Any], chunks: list[bytes], *, binary: bool = True) -> Body:
    header = _ENCODER.encode(message)
    if not binary:
        return Body(header, None)
    return Body(b"".join([header, *chunks]), len(header))


def _binary_tensor(name: str, array: Array, chunks: list[bytes]) -> dict[str, Any]:
    little_endian = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    datatype = DATATYPES.get(little_endian.dtype)
    if datatype is None:
        raise BadTensor(f"tensor {name!r} has dtype {array.dtype}, which the protocol cannot carry")
    raw = little_endian.tobytes()
    chunks.append(raw)
    parameters = {"binary_data_size": len(raw)}
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "parameters": parameters}


def _split(content: bytes, header_length: str | None) -> tuple[_Message, memoryview]:
    whole = memoryview(content)
    end = len(content) if header_length is None else _header_end(header_length, len(content))
    try:
        message = _MESSAGE.decode(whole[:end])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body's first {end} bytes are not a request in JSON: {error}") from None
    return message, whole[end:]


def _header_end(header_length: str, body_length: int) -> int:
    text = header_length.strip()
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise BadRequest(f"header {HEADER_LENGTH} is {header_length[:40]!r}; it must be a whole number of bytes")
    end = int(text)
    if end == 0:
        raise BadRequest(f"{HEADER_LENGTH} 0 (a raw binary request) is not supported: send the JSON part too")
    if end > body_length:
        raise BadRequest(f"{HEADER_LENGTH} is {end}, but the whole body has {body_length} bytes")
    return end


def _decode_tensors(tensors: list[_Tensor], binary: memoryview, side: str) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    start = 0
    for tensor in tensors:
        where = f"{side} {tensor.name!r}"
        if tensor.name in arrays:
            raise BadTensor(f"{where} is given twice")
        dtype = _dtype(tensor, where)
        count = _element_count(tensor, where)
        size = _binary_size(tensor, where)
        if size is None:
            arrays[tensor.name] = _from_json(tensor, dtype, count, where)
            continue
        arrays[tensor.name] = _from_binary(tensor, binary[start:], size, dtype, count, where)
        start += size
    if start != len(binary):
        claimed = f"the tensors' binary_data_size add up to {start} bytes"
        raise BadTensor(f"{claimed}, but {len(binary)} bytes follow the JSON part")
    return arrays


def _dtype(tensor: _Tensor, where: str) -> np.dtype[Any]:
    dtype = DTYPES.get(tensor.datatype)
    if dtype is None:
        raise BadTensor(f"{where} has datatype {tensor.datatype[:40]!r}; known are {', '.join(DTYPES)}")
    return dtype


def _element_count(tensor: _Tensor, where: str) -> int:
    if len(tensor.shape) > DIMENSIONS_MAX:
        raise BadTensor(f"{where} has {len(tensor.shape)} dimensions; the most is {DIMENSIONS_MAX}")
    if any(size < 0 for size in tensor.shape):
        raise BadTensor(f"{where} has shape {tensor.shape}: a dimension cannot be negative")
    return math.prod(tensor.shape)


def _binary_size(tensor: _Tensor, where: str) -> int | None:
    for parameter in tensor.parameters:
        if parameter.startswith("shared_memory"):
            raise BadTensor(f"{where} is in shared memory, which this server does not offer: send its bytes")
    if "binary_data_size" not in tensor.parameters:
        return None
    size = tensor.parameters["binary_data_size"]
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise BadTensor(f"{where} has binary_data_size {str(size)[:40]}; it must be a whole number of bytes")
    return size


def _from_binary(tensor: _Tensor, rest: memoryview, size: int, dtype: np.dtype[Any], count: int, where: str) -> Array:
    if len(tensor.data):
        raise BadTensor(f"{where} has both data and binary_data_size: give one")
    if size != count * dtype.itemsize:
        needed = f"shape {tensor.shape} of {tensor.datatype} needs {count * dtype.itemsize} bytes"
        raise BadTensor(f"{where}: {needed}, binary_data_size says {size}")
    if size > len(rest):
        raise BadTensor(f"{where} says it has {size} bytes, but only {len(rest)} are left in the body")
    return np.frombuffer(rest[:size], dtype=dtype).reshape(tensor.shape)


def _from_json(tensor: _Tensor, dtype: np.dtype[Any], count: int, where: str) -> Array:
    if not len(tensor.data):
        raise BadTensor(f"{where} has no data: give `data`, or bytes with parameters.binary_data_size")
    try:
        found = np.asarray(_ANY.decode(tensor.data))
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError) as error:
        raise BadTensor(f"{where}: its data is not an array of numbers: {error}") from None
    if found.size != count:
        raise BadTensor(f"{where} has {found.size} values, but shape {tensor.shape} needs {count}")
    if count and found.dtype.kind not in {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[dtype.kind]:
        raise BadTensor(f"{where} is {tensor.datatype}, but its data are not such values")
    if dtype.kind in "iu" and count:
        limits = np.iinfo(dtype)
        if int(found.min()) < limits.min or int(found.max()) > limits.max:
            raise BadTensor(f"{where} has a value outside {tensor.datatype}'s range")
    with np.errstate(over="ignore"):  # an overflow becomes infinite, and the model's own check refuses that by name
        return found.astype(dtype).reshape(tensor.shape)


def _output_wanted(tensor: _Tensor) -> OutputWanted:
    if "classification" in tensor.parameters:
        raise BadRequest(f"output {tensor.name!r} asks for classification, which a ranker does not offer")
    return OutputWanted(tensor.name, _flag(tensor.parameters, "binary_data"))


def _flag(parameters: dict[str, Any], name: str) -> bool:
    found = parameters.get(name, False)
    if not isinstance(found, bool):
        raise BadRequest(f"parameter {name} is {str(found)[:40]!r}; it must be true or false")
    return found


def _whole_number(parameters: dict[str, Any], name: str) -> int | None:
    found = parameters.get(name)
    if found is None:
        return None
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 1 << 63:
        raise BadRequest(f"parameter {name} is {str(found)[:40]!r}; it must be a whole number, 0 or more")
    return found
