"""Bodies of the protocol: what is written is read again, and nothing malformed becomes an array."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from services.inference.codec import (
    DTYPES,
    InferRequest,
    OutputWanted,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from services.inference.errors import BadRequest, BadTensor, RequestProblem

Array = NDArray[Any]


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, Array]:
    """A few tensors of any protocol type and small shape, empty ones included."""
    names = draw(st.lists(st.text(max_size=8), max_size=4, unique=True))
    shapes = arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    return {name: draw(arrays_of.arrays(draw(st.sampled_from(list(DTYPES.values()))), shapes)) for name in names}


def body(header: dict[str, Any], binary: bytes = b"") -> tuple[bytes, str]:
    """A body by hand."""
    encoded = json.dumps(header).encode()
    return encoded + binary, str(len(encoded))


def tensor(**fields: Any) -> dict[str, Any]:
    """An FP32 [1, 2] input with what differs."""
    return {"name": "x", "datatype": "FP32", "shape": [1, 2], **fields}


@given(tensors(), st.none() | st.integers(0, 2**62))
def test_a_binary_request_comes_back(inputs: dict[str, Array], deadline_unix_ms: int | None) -> None:
    """Every dtype, shape and value survives, and so does the deadline."""
    encoded = encode_request(inputs, deadline_unix_ms=deadline_unix_ms)
    decoded = decode_request(encoded.content, str(encoded.header_length))
    assert decoded.deadline_unix_ms == deadline_unix_ms
    assert decoded.binary_default
    assert list(decoded.inputs) == list(inputs)
    for name, array in inputs.items():
        np.testing.assert_array_equal(decoded.inputs[name], array)
        assert decoded.inputs[name].dtype == array.dtype


@given(outputs=tensors(), binary=st.booleans())
def test_an_answer_comes_back(outputs: dict[str, Array], *, binary: bool) -> None:
    """Binary outputs in every dtype; JSON outputs for the values that JSON can say."""
    if not binary:
        outputs = {name: np.zeros_like(array) for name, array in outputs.items()}
    request = InferRequest("id-7", {}, (), binary, None, None)
    encoded = encode_response("ranker", "3", request, outputs)
    length = None if encoded.header_length is None else str(encoded.header_length)
    assert (length is not None) == (binary and bool(outputs))
    decoded = decode_response(encoded.content, length)
    assert (decoded.model_name, decoded.model_version, decoded.id) == ("ranker", "3", "id-7")
    for name, array in outputs.items():
        np.testing.assert_array_equal(decoded.outputs[name], array)


@given(st.binary(max_size=200), st.none() | st.text(max_size=6) | st.integers(-3, 250).map(str))
@settings(max_examples=300)
def test_any_bytes_are_refused_or_read(content: bytes, header_length: str | None) -> None:
    """Nothing but a RequestProblem ever comes out."""
    with contextlib.suppress(RequestProblem):
        decode_request(content, header_length)


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_request_is_refused_or_read(data: st.DataObject) -> None:
    """One byte changed or cut off anywhere in a good request: refused by name, or another request, never a crash."""
    good = encode_request({"x": np.arange(6, dtype=np.float32).reshape(1, 6)}, deadline_unix_ms=1)
    content = bytearray(good.content)
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] = data.draw(st.integers(0, 255))
    else:
        del content[place]
    with contextlib.suppress(RequestProblem):
        decode_request(bytes(content), str(good.header_length))


@pytest.mark.parametrize(
    ("fields", "binary", "says"),
    [
        ({"parameters": {"binary_data_size": 8}}, b"1234", "only 4 are left"),
        ({"parameters": {"binary_data_size": 4}}, b"1234", "needs 8 bytes"),
        ({"parameters": {"binary_data_size": 8}}, b"123456789", "9 bytes follow"),
        ({"parameters": {"binary_data_size": -8}}, b"", "whole number of bytes"),
        ({"parameters": {"binary_data_size": 8.5}}, b"", "whole number of bytes"),
        ({"parameters": {"binary_data_size": "NaN"}}, b"", "whole number of bytes"),
        ({"parameters": {"binary_data_size": True}}, b"", "whole number of bytes"),
        ({"parameters": {"shared_memory_region": "r"}}, b"", "shared memory"),
        ({"parameters": {"binary_data_size": 8}, "data": [1, 2]}, b"12345678", "both data"),
        ({"shape": [1, -2], "data": [1, 2]}, b"", "negative"),
        ({"shape": [1] * 9, "data": [1]}, b"", "dimensions"),
        ({"shape": [2, 2], "data": [1, 2]}, b"", "needs 4"),
        ({"shape": [1 << 40, 1 << 40], "data": [1, 2]}, b"", "needs"),
        ({"datatype": "BYTES", "data": ["a", "b"]}, b"", "datatype 'BYTES'"),
        ({"datatype": "FP32", "data": ["1", "2"]}, b"", "not such values"),
        ({"datatype": "FP32", "data": [1, None]}, b"", "not such values"),
        ({"datatype": "FP32", "data": [[1], [2, 3]]}, b"", "not an array"),
        ({"datatype": "INT32", "data": [1.5, 2]}, b"", "not such values"),
        ({"datatype": "INT32", "data": [1 << 40, 2]}, b"", "outside INT32"),
        ({"datatype": "UINT8", "data": [-1, 2]}, b"", "outside UINT8"),
        ({"datatype": "BOOL", "data": [0, 1]}, b"", "not such values"),
        ({}, b"", "has no data"),
    ],
)
def test_a_wrong_tensor_is_named(fields: dict[str, Any], binary: bytes, says: str) -> None:
    """Each mistake has its own sentence, and names the input or the sizes."""
    with pytest.raises(BadTensor) as caught:
        decode_request(*body({"inputs": [tensor(**fields)]}, binary))
    assert says in caught.value.cause


@pytest.mark.parametrize("length", ["", "-1", "0", "1e3", "NaN", "99999", "9" * 40, "²"])
def test_a_wrong_header_length_is_refused(length: str) -> None:
    """The length of the JSON part is checked before anything is read."""
    content, _ = body({"inputs": []})
    with pytest.raises(BadRequest):
        decode_request(content, length)


@pytest.mark.parametrize(
    "parameters", [{"timeout": "5"}, {"timeout": -1}, {"deadline_unix_ms": 1.5}, {"binary_data_output": 1}]
)
def test_a_wrong_parameter_is_refused(parameters: dict[str, Any]) -> None:
    """A time limit that cannot be read must not become none."""
    with pytest.raises(BadRequest, match=next(iter(parameters))):
        decode_request(*body({"inputs": [], "parameters": parameters}))


def test_deeply_nested_data_is_refused() -> None:
    """A small body cannot exhaust the stack."""
    content = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}"
    with pytest.raises(BadRequest):
        decode_request(content, None)


def test_json_data_may_be_nested_or_flat() -> None:
    """Both ways of writing a [2, 2] tensor give the same array."""
    flat = decode_request(*body({"inputs": [tensor(shape=[2, 2], data=[1, 2, 3, 4])]}))
    nested = decode_request(*body({"inputs": [tensor(shape=[2, 2], data=[[1, 2], [3, 4]])]}))
    np.testing.assert_array_equal(flat.inputs["x"], nested.inputs["x"])


def test_outputs_are_written_as_each_was_asked_for() -> None:
    """One output in binary, one in JSON, in the order of the request; others are left out."""
    wanted = (OutputWanted("b", binary=True), OutputWanted("a", binary=False))
    request = InferRequest("", {}, wanted, False, None, None)
    outputs: dict[str, Array] = {
        "a": np.array([1.5], np.float32),
        "b": np.array([2], np.int64),
        "c": np.array([3], np.int64),
    }
    encoded = encode_response("m", "1", request, outputs)
    decoded = decode_response(encoded.content, str(encoded.header_length))
    assert list(decoded.outputs) == ["b", "a"]
    assert decoded.outputs["a"] == np.float32(1.5)
