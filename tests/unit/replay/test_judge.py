"""Judging: the same searches for every method, the click told after the ranking, hand-computed figures."""

import pytest

from models.records import SearchRecord
from services.replay.judge import Judge


def search(query: str, clicked: str) -> SearchRecord:
    """A search whose user clicked `clicked`."""
    return SearchRecord(index=0, time_ms=0, user="u", query=query, clicked=clicked)


def test_baselines_are_asked_before_the_click_is_told() -> None:
    """The first search of all finds an empty table; the second one knows the first click."""
    judge = Judge()
    assert judge.expect(search("X-Box", "a")).baseline_ranks == (0, 0)
    judge.learn("X-Box", "a")
    judge.learn("tv", "b")
    judge.learn("tv", "b")
    # Popularity puts b first; the table knows "xbox" although it is spelt otherwise.
    assert judge.expect(search("xbox", "a")).baseline_ranks == (2, 1)


def test_figures_by_hand() -> None:
    """MRR@5 of ranks 1, 6 and 2 is (1 + 0 + 1/2) / 3, whatever the order in which the answers came."""
    judge = Judge()
    expected = judge.expect(search("q", "a"))
    judge.take(3, expected, ["x", "a"], "model")
    judge.take(1, expected, ["a"], "model")
    judge.take(2, expected, ["1", "2", "3", "4", "5", "a"], "popularity")
    report = judge.report()
    ours = report.methods["ours"]
    assert report.judged == 3
    assert ours.overall.mrr_at_5 == pytest.approx(0.5)
    assert ours.quarters[-1].mrr_at_5 == pytest.approx(0.5)
    assert report.by_rung["popularity"].mrr_at_5 == 0 and report.by_rung["model"].mrr_at_5 == pytest.approx(0.75)
    assert report.gaps["query_table"].difference == pytest.approx(0.5)


def test_unanswered_and_clickless_searches_are_left_out_for_every_method() -> None:
    """A failed ranking must not be a zero for us and a hit for a baseline, nor the other way round."""
    judge = Judge()
    judge.learn("q", "a")
    answered = judge.expect(search("q", "a"))
    judge.expect(search("q", "a"))  # never answered
    judge.take(0, answered, ["a"], "model")
    judge.take(1, judge.expect(search("q", "")), ["a"], "model")
    report = judge.report()
    assert report.judged == 1
    assert {figures.overall.searches for figures in report.methods.values()} == {1}
    assert set(report.methods) == {"ours", "popularity", "query_table"}
