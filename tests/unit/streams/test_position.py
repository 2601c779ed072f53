"""The reader rule and the frontier."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.position import Frontier, Position, Verdict, judge


@pytest.mark.parametrize(("offset", "verdict"), [(6, Verdict.DUPLICATE), (7, Verdict.ACCEPTED), (8, Verdict.GAP)])
def test_the_reader_rule(offset: int, verdict: Verdict) -> None:
    """Below the frontier is a duplicate, at it is taken, above it something is missing."""
    assert judge(7, offset) is verdict


ROWS = st.dictionaries(st.tuples(st.sampled_from("ab"), st.integers(0, 3)), st.integers(1, 9))


@given(ROWS)
def test_a_frontier_survives_its_json_form(next_offsets: dict[tuple[str, int], int]) -> None:
    """Rows are the form that travels; nothing is lost in them."""
    frontier = Frontier(next_offsets)
    again = Frontier.from_rows(frontier.to_rows())
    assert again == frontier
    assert hash(again) == hash(frontier)
    assert "x" not in again


@given(ROWS, ROWS)
def test_covering_a_frontier_is_covering_each_of_its_records(
    mine: dict[tuple[str, int], int], theirs: dict[tuple[str, int], int]
) -> None:
    """`covers_all` says the same as asking for every single record behind the other frontier."""
    frontier, other = Frontier(mine), Frontier(theirs)
    each = all(
        frontier.covers(Position(log, partition, offset))
        for (log, partition), next_offset in theirs.items()
        for offset in range(next_offset)
    )
    assert frontier.covers_all(other) == each
