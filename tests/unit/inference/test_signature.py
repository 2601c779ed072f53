"""Shapes: what a request must have, and that padding is cut off again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.inference.errors import BadTensor
from services.inference.signature import RequestShape, Signature, TensorSpec, bucket_of, cut, stack

FEATS = TensorSpec("feats", "FP32", (None, None, 3))
HISTORY = TensorSpec("history", "INT64", (None, 2))
SCORES = TensorSpec("scores", "FP32", (None, None))
SIGNATURE = Signature((FEATS, HISTORY), (SCORES,))


def inputs(rows: int = 2, candidates: int = 5) -> dict[str, NDArray[Any]]:
    """Inputs that fit."""
    return {"feats": np.ones((rows, candidates, 3), np.float32), "history": np.zeros((rows, 2), np.int64)}


def test_a_request_that_fits_has_a_shape() -> None:
    """Rows from the first axis, candidates from the open one."""
    assert SIGNATURE.check(inputs()) == RequestShape(2, 5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"history": None}, "'history' is missing"),
        ({"other": np.zeros((2, 1), np.int64)}, "'other' is unknown"),
        ({"feats": np.ones((2, 5, 3), np.float64)}, "dtype float64"),
        ({"feats": np.ones((2, 5, 4), np.float32)}, "shape [2, 5, 4]; the model takes [-1, -1, 3]"),
        ({"feats": np.ones((2, 5), np.float32)}, "shape [2, 5]"),
        ({"feats": np.float32(1)}, "shape []"),
        ({"history": np.zeros((3, 2), np.int64)}, "has 3 rows, others have 2"),
        ({"feats": np.full((2, 5, 3), np.nan, np.float32)}, "not a finite number"),
        ({"feats": np.full((2, 5, 3), np.inf, np.float32)}, "not a finite number"),
        ({"feats": np.ones((2, 0, 3), np.float32)}, "nothing to score"),
        ({"feats": np.ones((0, 5, 3), np.float32), "history": np.zeros((0, 2), np.int64)}, "nothing to score"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], says: str) -> None:
    """Names, dtypes, shapes, numbers that are none: each refused with what was expected."""
    changed = {name: np.asarray(array) for name, array in {**inputs(), **change}.items() if array is not None}
    with pytest.raises(BadTensor) as caught:
        SIGNATURE.check(changed)
    assert says in caught.value.cause


def test_buckets_round_up_and_end() -> None:
    """The smallest that holds it, or none."""
    assert [bucket_of(size, (1, 4, 8)) for size in (1, 2, 4, 8, 9)] == [1, 4, 4, 8, None]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 6)), min_size=1, max_size=5))
def test_stacking_and_cutting_give_each_request_its_own(shapes: list[tuple[int, int]]) -> None:
    """Requests of different sizes share a padded batch; each gets back what it put in, the rest is zeros."""
    random = np.random.default_rng(3)
    arrays = [random.normal(size=(rows, candidates, 3)).astype(np.float32) for rows, candidates in shapes]
    stacked = stack(FEATS, arrays, 16, 8)
    assert stacked.shape == (16, 8, 3)
    first = 0
    for array in arrays:
        own = cut(FEATS, stacked, first, RequestShape(*array.shape[:2]))
        np.testing.assert_array_equal(own, array)
        first += array.shape[0]
    assert not stacked[first:].any()
    assert np.count_nonzero(stacked) == sum(np.count_nonzero(array) for array in arrays)
