"""The two baselines that every ranking is printed beside."""

from models.baselines import Popularity, QueryTable, normalised


def test_queries_are_letters_and_digits() -> None:
    """Case, spaces and punctuation make no difference; other letters stay."""
    assert normalised("  X-Men: Destiny 2!") == normalised("xmen destiny2") == "xmendestiny2"
    assert normalised("Ōkami") == "ōkami"


def test_popularity_orders_by_count_then_name() -> None:
    """Most clicked first, ties by name, whatever the query."""
    popularity = Popularity()
    for item in ("b", "a", "c", "c"):
        popularity.update("q", item)
    assert popularity.rank("anything") == ["c", "a", "b"]
    assert popularity.rank("anything", size=1) == ["c"]


def test_table_ranks_the_querys_clicks_and_fills_up() -> None:
    """Clicks of the exact query come first, then the most popular others, none twice."""
    table = QueryTable()
    for query, item in (("xbox", "x1"), ("XBOX", "x2"), ("x-box", "x2"), ("halo", "h"), ("halo", "h"), ("halo", "h")):
        table.update(query, item)
    assert table.rank("Xbox") == ["x2", "x1", "h"]
    assert table.rank("xbox", size=1) == ["x2"]
    assert table.rank("never asked") == ["h", "x2", "x1"]


def test_counts_do_not_decay() -> None:
    """An old favourite stays ahead until it is out-clicked."""
    table = QueryTable()
    for _ in range(3):
        table.update("q", "old")
    for _ in range(2):
        table.update("q", "new")
    assert table.rank("q")[:2] == ["old", "new"]
