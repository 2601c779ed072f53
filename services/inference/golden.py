"""Proof that a loaded version scores as it did where it was trained.

"It loaded" says nothing: a swapped file, a float library on another processor or a wrong export all load. So each
version ships inputs with the scores they must give. Two levels, because numbers differ between processors: every
score within `SCORE_TOLERANCE`, and the same ten best in the same order; only candidates whose expected scores are
closer than `TIE_TOLERANCE`, float32's own noise, may change places.

The rows run in batches of different sizes through the same padding as requests do, so a version whose real scores
depend on padded places, or that was exported with a frozen batch axis, is refused here and not noticed in the
rankings.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.inference.engine import BatchItem, Session
from services.inference.errors import BadTensor, ModelRefused, ModelRunFailed
from services.inference.signature import Buckets, bucket_of

SCORE_TOLERANCE = 1e-4
TIE_TOLERANCE = 1e-6
TOP = 10
_REMEDY = "Train and export the version again, or restore its folder from where it was built"

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """Inputs [N, ...] by name, the scores [N, K] they must give, and the indices [N, <=10] of the best ones."""

    inputs: dict[str, Array]
    scores: Array
    top: Array

    @property
    def rows(self) -> int:
        """N."""
        return int(self.scores.shape[0])


def prove(session: Session, golden: GoldenSet, buckets: Buckets, output: str) -> None:
    """Run the golden set; raises ModelRefused that names the row, the candidate and the difference."""
    _check_set(golden)
    sizes = [*(size for size in buckets.rows if size <= golden.rows), max(1, buckets.rows[-1] - 1)]
    first = 0
    turn = 0
    while first < golden.rows:
        rows = min(sizes[turn % len(sizes)], golden.rows - first)
        scores = _score(session, golden, first, rows, buckets, output)
        for row in range(rows):
            _compare(golden, first + row, scores[row])
        first += rows
        turn += 1


def _check_set(golden: GoldenSet) -> None:
    shapes_fit = golden.scores.ndim == 2 and golden.top.ndim == 2 and len(golden.top) == golden.rows
    if not golden.rows or not shapes_fit:
        raise ModelRefused("golden.npz holds no usable rows of scores and top places", _REMEDY)
    for name, array in golden.inputs.items():
        if array.ndim == 0 or len(array) != golden.rows:
            raise ModelRefused(f"golden.npz: input {name!r} does not have {golden.rows} rows", _REMEDY)


def _score(session: Session, golden: GoldenSet, first: int, rows: int, buckets: Buckets, output: str) -> Array:
    inputs = {name: np.ascontiguousarray(array[first : first + rows]) for name, array in golden.inputs.items()}
    try:
        item = BatchItem(inputs, session.signature.check(inputs))
        rows_bucket = bucket_of(rows, buckets.rows)
        candidates = bucket_of(item.shape.candidates, buckets.candidates) if item.shape.candidates else 0
        if rows_bucket is None or candidates is None:
            raise ModelRefused(
                f"golden.npz has {item.shape.candidates} candidates a row, over the largest bucket", _REMEDY
            )
        answer = session.split(session.run(session.stack_padded([item], rows_bucket, candidates)), [item])[0]
    except (BadTensor, ModelRunFailed) as problem:
        raise ModelRefused(f"golden set, rows {first} to {first + rows - 1}: {problem.cause}", _REMEDY) from problem
    if isinstance(answer, ModelRunFailed):
        raise ModelRefused(f"golden set, rows {first} to {first + rows - 1}: {answer.cause}", _REMEDY)
    scores = answer.get(output)
    if scores is None:
        raise ModelRefused(f"it has no output {output!r}", _REMEDY)
    if scores.shape != (rows, golden.scores.shape[1]):
        expected = [rows, golden.scores.shape[1]]
        raise ModelRefused(f"golden set, row {first}: scores have shape {list(scores.shape)}, not {expected}", _REMEDY)
    return scores


def _compare(golden: GoldenSet, row: int, scores: Array) -> None:
    expected = golden.scores[row]
    delta = np.abs(scores.astype(np.float64) - expected)
    worst = int(np.argmax(delta))
    if not delta[worst] <= SCORE_TOLERANCE:
        difference = f"is {scores[worst]:.6f}, expected {expected[worst]:.6f} (differs by {delta[worst]:.2e})"
        raise ModelRefused(f"golden set, row {row}: candidate {worst}'s score {difference}", _REMEDY)
    top = np.argsort(-scores, kind="stable")[: golden.top.shape[1]]
    swapped = [
        place for place, (a, b) in enumerate(zip(top, golden.top[row], strict=False)) if not _tie(expected, a, b)
    ]
    if swapped:
        found = f"place {swapped[0] + 1} is candidate {int(top[swapped[0]])}"
        raise ModelRefused(f"golden set, row {row}: {found}, expected {int(golden.top[row][swapped[0]])}", _REMEDY)


def _tie(expected: Array, found: Any, wanted: Any) -> bool:
    if not 0 <= int(wanted) < len(expected):
        return False
    return bool(found == wanted) or abs(float(expected[found]) - float(expected[wanted])) <= TIE_TOLERANCE
