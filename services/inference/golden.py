"""Proof that a loaded version scores as it did where it was trained.

"It loaded" says nothing: a swapped file, a float library on another processor or a wrong export all load. So each
version ships inputs with the scores they must give, and `models.registry` says what counts as the same: every score
within 1e-4, and the same ten best in the same order.

What is decided here is how they are run: in batches of different sizes, padded to the buckets. So a version whose
real scores depend on padded places, or that was exported for one number of rows, is refused here and not noticed in
rankings.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import GoldenMismatch
from models.registry import TOP, Golden, compare_golden
from services.inference.engine import BatchItem, Session
from services.inference.errors import BadTensor, ModelRefused, ModelRunFailed
from services.inference.signature import Buckets, bucket_of

NEVER_EDIT = "Never edit a version: make the next one"
_REMEDY = "Train and export the version again, or restore its folder from where it was built"

Array = NDArray[Any]


def prove(session: Session, golden: Golden, buckets: Buckets, output: str) -> None:
    """Run the golden set; raises ModelRefused that names the row, the candidate and the difference."""
    rows = _checked_rows(golden)
    sizes = [*(size for size in buckets.rows if size <= rows), max(1, buckets.rows[-1] - 1)]
    parts: list[Array] = []
    first = 0
    while first < rows:
        size = min(sizes[len(parts) % len(sizes)], rows - first)
        parts.append(_score(session, golden, first, size, buckets, output))
        first += size
    try:
        compare_golden(golden, np.concatenate(parts))
    except GoldenMismatch as mismatch:
        raise ModelRefused(f"it does not score as it was shipped: {mismatch}", NEVER_EDIT) from mismatch


def _checked_rows(golden: Golden) -> int:
    """How many rows there are; the set's own arrays must fit each other before anything is compared with them."""
    if golden.scores.ndim != 2 or not golden.scores.size:
        raise ModelRefused("golden.npz holds no rows of scores", _REMEDY)
    rows, candidates = golden.scores.shape
    if golden.top10.shape != (rows, min(TOP, candidates)) or not np.isin(golden.top10, np.arange(candidates)).all():
        raise ModelRefused("golden.npz: top10 does not name places of its scores", _REMEDY)
    for name, array in golden.inputs.items():
        if array.ndim == 0 or len(array) != rows:
            raise ModelRefused(f"golden.npz: input {name!r} does not have {rows} rows", _REMEDY)
    return int(rows)


def _score(session: Session, golden: Golden, first: int, rows: int, buckets: Buckets, output: str) -> Array:
    where = f"golden rows {first} to {first + rows - 1}"
    inputs = {name: np.ascontiguousarray(array[first : first + rows]) for name, array in golden.inputs.items()}
    try:
        item = BatchItem(inputs, session.signature.check(inputs))
        answer = session.split(session.run(session.stack_padded([item], *_padded(item, buckets))), [item])[0]
    except (BadTensor, ModelRunFailed) as problem:
        raise ModelRefused(f"{where}: {problem.cause}", _REMEDY) from problem
    if isinstance(answer, ModelRunFailed):
        raise ModelRefused(f"{where}: {answer.cause}", _REMEDY)
    scores = answer.get(output)
    if scores is None:
        raise ModelRefused(f"it has no output {output!r}", _REMEDY)
    if scores.shape != (rows, golden.scores.shape[1]):
        expected = [rows, golden.scores.shape[1]]
        raise ModelRefused(f"{where}: scores have shape {list(scores.shape)}, not {expected}", _REMEDY)
    return scores


def _padded(item: BatchItem, buckets: Buckets) -> tuple[int, int]:
    """One place more than there is where the largest bucket allows it, so that padding is always among the places."""
    candidates = item.shape.candidates
    if not candidates:
        return bucket_of(item.shape.rows, buckets.rows) or item.shape.rows, 0
    if bucket_of(candidates, buckets.candidates) is None:
        raise ModelRefused(f"golden.npz has {candidates} candidates a row, over the largest bucket", _REMEDY)
    wider = bucket_of(candidates + 1, buckets.candidates) or candidates
    return bucket_of(item.shape.rows, buckets.rows) or item.shape.rows, wider
