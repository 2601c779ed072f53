"""Splitting a log by time, so that nothing that is learned from knows anything of what is judged.

The rows before an edge are learned from, those after it are judged. Two kinds of rows stand on both sides of an edge
and are left out of the earlier part, never of the later one: a search whose click was made after the edge, and a search
of a session that goes on after it. (Moving the edge to a moment at which no session is open was turned down: a busy
shop has none.) What is left out is still told to the counters while the log is walked, for it had happened.

Everything here is a pure function of the records; parts are numbers of searches, ready for `Cases.index`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.cases import Cases
from models.errors import EvaluationImpossible
from models.records import SearchRecord

Numbers = npt.NDArray[np.int64]
FOLDS_MAX: Final = 50


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """Where one part ends and the next one begins."""

    row: int
    """The first search of the later part."""
    time_ms: int
    """When it was made."""
    left_out: int
    """Searches of the earlier part that reach over the edge and are in no part."""


class TimeSplit(msgspec.Struct, frozen=True, kw_only=True):
    """Parts of a log, in order of time; arrays of numbers of searches, ascending."""

    fit: Numbers
    choose: Numbers
    """Settings and epochs are chosen on it; empty when nothing is to be chosen."""
    test: Numbers
    edges: tuple[Edge, ...]
    """Between fit and choose, and between choose and test; only those that there are."""


def before(searches: Sequence[SearchRecord], first: int, row: int) -> tuple[Numbers, Edge]:
    """The searches `first` to `row` (not included) that know nothing of what begins at `row`, and the edge there.

    `searches` are in order of time and numbered from 0.
    """
    if not first <= row < len(searches):
        raise EvaluationImpossible(f"an edge at row {row} is not inside the rows {first} to {len(searches)}")
    time_ms = searches[row].time_ms
    going_on = {_session(search) for search in searches[row:]}
    kept = [
        search.index
        for search in searches[first:row]
        if search.time_ms < time_ms
        and not (search.clicked and search.click_time_ms >= time_ms)
        and _session(search) not in going_on
    ]
    return np.array(kept, np.int64), Edge(row=row, time_ms=time_ms, left_out=row - first - len(kept))


def time_split(
    searches: Sequence[SearchRecord], *, choose: int, test: int, first: int = 0, end: int | None = None
) -> TimeSplit:
    """Cut the searches `first` to `end` into fit, choose and test parts, the last two of so many rows each.

    Nothing in fit or choose reaches into a later part. Raises EvaluationImpossible when nothing is left to fit on.
    """
    end = len(searches) if end is None else min(end, len(searches))
    known = searches[:end]
    test_row, choose_row = end - test, end - test - choose
    if min(choose, test) < 0 or choose_row <= first:
        raise EvaluationImpossible(
            f"{end - first} rows cannot give {choose} to choose by and {test} to test on. Next: give more rows"
        )
    edges: list[Edge] = []
    chosen = np.arange(choose_row, test_row, dtype=np.int64)
    if test:
        chosen, edge = before(known, choose_row, test_row)
        edges.append(edge)
    fit = np.arange(first, choose_row, dtype=np.int64)
    if choose + test:
        fit, edge = before(known, first, choose_row)
        if choose:
            edges.insert(0, edge)
        else:
            edges = [edge]
    if not len(fit):
        raise EvaluationImpossible("every row before the edge reaches over it. Next: give more rows, or another edge")
    return TimeSplit(fit=fit, choose=chosen, test=np.arange(test_row, end, dtype=np.int64), edges=tuple(edges))


def time_blocks(searches: Sequence[SearchRecord], folds: int, *, choose_share: float = 0.0) -> list[TimeSplit]:
    """Cross-validation by time: `folds` + 1 blocks of rows; each but the first is tested, with all before it to fit on.

    The window expands, and never contains anything later than what it is tested on. Of the rows before each test block
    the last `choose_share` chooses. Raises EvaluationImpossible when a block would be empty.
    """
    if not 1 <= folds <= FOLDS_MAX:
        raise EvaluationImpossible(f"{folds} folds: give 1 to {FOLDS_MAX}")
    if not 0 <= choose_share < 1:
        raise EvaluationImpossible(f"a share of {choose_share:g} to choose by leaves nothing: give 0 to below 1")
    rows = [len(searches) * block // (folds + 1) for block in range(folds + 2)]
    if min(np.diff(rows)) < 1:
        raise EvaluationImpossible(f"{len(searches)} rows are too few for {folds} folds. Next: give fewer folds")
    return [
        time_split(searches, choose=int(start * choose_share), test=end - start, end=end)
        for start, end in pairwise(rows[1:])
    ]


def cases_of(cases: Cases, numbers: Numbers) -> Cases:
    """The cases of these searches (several of one search, where there are)."""
    return cases.take(np.isin(cases.index, numbers))


def _session(search: SearchRecord) -> tuple[str, str]:
    """Sessions are a user's own; a search without one stands alone with its user and moment."""
    return search.user, search.session or f"#{search.time_ms}"
