"""Splits by time: nothing that is learned from reaches into what is judged, and nothing judged is lost."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.splits import Edge, before, cases_of, time_blocks, time_split
from models.errors import EvaluationImpossible
from models.records import SearchRecord
from tests.support.small_cases import small_cases


def log(count: int, seed: int, *, users: int, grain: int) -> list[SearchRecord]:
    """Searches with ties, sessions of all lengths, and clicks that take their time."""
    rng = np.random.Generator(np.random.PCG64(seed))
    times = np.sort(rng.integers(0, 4 * count, count)) // grain * grain
    return [
        SearchRecord(
            index=index,
            time_ms=int(time_ms),
            user=f"u{rng.integers(users)}",
            query="q",
            session=f"s{rng.integers(3)}" if index % 7 else "",
            clicked="a" if index % 3 else "",
            click_time_ms=int(time_ms + rng.integers(0, 20)),
        )
        for index, time_ms in enumerate(times.tolist())
    ]


def reaches(search: SearchRecord, edge: Edge, later: list[SearchRecord]) -> bool:
    """The rule again, in the plainest words."""
    if search.time_ms >= edge.time_ms or (search.clicked and search.click_time_ms >= edge.time_ms):
        return True
    return any(other.user == search.user and search.session and other.session == search.session for other in later)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(12, 60),
    seed=st.integers(0, 10_000),
    users=st.integers(1, 40),
    grain=st.sampled_from([1, 5, 40]),
    choose=st.integers(0, 4),
    test=st.integers(0, 4),
)
def test_no_part_reaches_into_a_later_one(
    count: int, seed: int, users: int, grain: int, choose: int, test: int
) -> None:
    """Everything before an edge is kept exactly when it knows nothing of what is after it; test rows are all there."""
    searches = log(count, seed, users=users, grain=grain)
    try:
        split = time_split(searches, choose=choose, test=test)
    except EvaluationImpossible:
        return
    choose_row, test_row = count - choose - test, count - test
    assert split.test.tolist() == list(range(test_row, count))
    ends = [(split.fit, 0, choose_row), (split.choose, choose_row, test_row)]
    for part, first, row in ends:
        wanted = set(range(first, row))
        if row < count:
            edge = next(edge for edge in split.edges if edge.row == row) if part is split.fit or test else None
            assert edge is not None
            wanted = {n for n in wanted if not reaches(searches[n], edge, searches[row:])}
            if edge.row == row and row > first:
                assert edge.time_ms == searches[row].time_ms
        assert set(part.tolist()) == wanted


def test_what_reaches_over_an_edge_is_left_out_and_counted() -> None:
    """A late click, a session that goes on, and the edge's own millisecond; the rest of the session goes with it."""

    def search(index: int, time_ms: int, session: str, click_time_ms: int = 0) -> SearchRecord:
        clicked = "a" if click_time_ms else ""
        return SearchRecord(
            index=index,
            time_ms=time_ms,
            user="u",
            query="q",
            session=session,
            clicked=clicked,
            click_time_ms=click_time_ms,
        )

    searches = [
        search(0, 10, "long"),
        search(1, 20, "short", 25),
        search(2, 30, "late", 101),
        search(3, 40, "long", 45),
        search(4, 100, "tie"),
        search(5, 100, "new"),
        search(6, 110, "long"),
    ]
    kept, edge = before(searches, 0, 5)
    assert kept.tolist() == [1]
    assert edge == Edge(row=5, time_ms=100, left_out=4)


def test_blocks_expand_and_are_tested_once() -> None:
    """Every row after the first block is tested exactly once, after rows of earlier blocks alone."""
    searches = log(100, 3, users=80, grain=1)
    splits = time_blocks(searches, 4, choose_share=0.1)
    assert np.concatenate([split.test for split in splits]).tolist() == list(range(20, 100))
    for split, larger in pairwise(splits):
        assert len(split.choose)
        assert split.fit.max() < split.choose.min() < split.test.min()
        assert len(larger.fit) > len(split.fit)


def test_cases_of_a_part_are_those_of_its_searches() -> None:
    """By the numbers of the searches, not by their places among the cases."""
    cases = small_cases(20, first=100)
    assert cases_of(cases, np.array([103, 119, 300])).index.tolist() == [103, 119]


def test_what_cannot_be_split_is_refused() -> None:
    """Too few rows, all of one session, folds without rows."""
    searches = log(20, 1, users=20, grain=1)
    with pytest.raises(EvaluationImpossible, match="cannot give"):
        time_split(searches, choose=10, test=10)
    one = [SearchRecord(index=n, time_ms=n, user="u", query="q", session="s") for n in range(10)]
    with pytest.raises(EvaluationImpossible, match="reaches over"):
        time_split(one, choose=0, test=5)
    for folds in (0, 20, 51):
        with pytest.raises(EvaluationImpossible, match="folds"):
            time_blocks(searches, folds)
