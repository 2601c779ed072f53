"""Each baseline by hand, and the exact-query table against the one that quality runs keep."""

import math

import numpy as np
import pytest

from models import baselines as streaming
from models.evaluation.counting import Bm25, Popularity, QueryTable, then_by
from models.evaluation.metrics import Values
from models.evaluation.neighbours import ItemKnn, Vsknn
from models.evaluation.questions import Element, Question, Shelf, Visits
from models.records import ItemRecord, OutcomeRecord, SearchRecord
from models.shop import ShopSettings, generate
from models.walk import Walk, steps

TITLES = {"a": "Red Shoe", "b": "Blue Shoe", "c": "Blue Blue Hat", "d": "Green Coat of a long long name"}
ENTRIES = [ItemRecord(time_ms=0, item=item, title=title) for item, title in TITLES.items()]
_MOMENT = Walk().ask(SearchRecord(index=0, time_ms=1, user="u", query=""))


def shelf_of(entries: list[ItemRecord] = ENTRIES) -> Shelf:
    """A shelf with everything on it."""
    shelf = Shelf(entries)
    for entry in entries:
        shelf.put(entry)
    return shelf


def click(item: str, *, query: str = "q", user: str = "u", session: str = "s", index: int = 0) -> OutcomeRecord:
    """A click."""
    search = SearchRecord(index=index, time_ms=0, user=user, session=session, query=query, clicked=item)
    return OutcomeRecord(search=search, kind="click", time_ms=0)


def asked(query: str, *, visit: tuple[Element, ...] = (), clicked: tuple[int, ...] = (), session: str = "") -> Question:
    """A question; its tensors are of no shop."""
    search = SearchRecord(index=9, time_ms=9, user="u", session=session, query=query)
    return Question(search, streaming.normalised(query), visit, clicked, _MOMENT, _MOMENT)


def order(shelf: Shelf, scores: Values) -> list[str]:
    """Items by score, equal ones by name."""
    return [shelf.ids[column] for column in np.argsort(-scores, kind="stable")]


def test_popularity_counts_clicks_alone() -> None:
    """Searches, carts and items that the catalogue never had count nothing."""
    shelf = shelf_of()
    popularity = Popularity(shelf)
    for step in (click("b"), click("b"), click("a"), click("nowhere"), click("a").search, ENTRIES[0]):
        popularity.learn(step)
    popularity.learn(OutcomeRecord(search=click("c").search, kind="cart", time_ms=0))
    assert popularity.scores(asked("q")).tolist() == [1, 2, 0, 0]


def test_the_table_ranks_as_the_one_that_quality_runs_keep() -> None:
    """On a whole made-up shop, first ten places; among equal counts the two go by different rules."""
    source = generate(ShopSettings(seed=8, items=60, searches=400, users=60, days=6))
    shelf = shelf_of(source.items)
    mine, theirs = QueryTable(shelf), streaming.QueryTable()
    compared = 0
    for step in steps(source):
        if isinstance(step, SearchRecord) and step.index % 7 == 0:
            scores = mine.scores(asked(step.query))
            others = [scores[shelf.column(item)] for item in theirs.rank(step.query)]
            level = np.floor(others).tolist()
            assert level == sorted(level, reverse=True)
            assert np.floor(np.sort(scores)[::-1][: len(others)]).tolist() == level
            compared += 1
        elif isinstance(step, OutcomeRecord) and step.kind == "click":
            theirs.update(step.search.query, step.search.clicked)
        mine.learn(step)
    assert compared > 50


def test_ties_of_the_first_scores_are_broken_by_the_second_and_no_more() -> None:
    """However large the second scores are, they never lift an item over a better first score."""
    first, second = np.array([0.0, 1e-12, 1e-12, 0.0]), np.array([1e9, 0.0, 3.0, 0.0])
    assert np.argsort(-then_by(first, second)).tolist() == [2, 1, 0, 3]


def test_bm25_is_the_formula() -> None:
    """k1 = 1.2, b = 0.75, idf = ln(1 + (N - n + 0.5) / (n + 0.5)), checked for one word and for two."""
    shelf = shelf_of()
    titles = Bm25(shelf)
    for entry in ENTRIES:
        titles.learn(entry)
    lengths = [len(title.split()) for title in TITLES.values()]
    mean = sum(lengths) / len(lengths)

    def one(word: str) -> list[float]:
        counts = [title.lower().split().count(word) for title in TITLES.values()]
        having = sum(count > 0 for count in counts)
        idf = math.log(1 + (len(counts) - having + 0.5) / (having + 0.5))
        return [
            idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / mean))
            for count, length in zip(counts, lengths, strict=True)
        ]

    assert titles.scores(asked("BLUE")).tolist() == pytest.approx(one("blue"), rel=1e-4)
    both = [blue + shoe for blue, shoe in zip(one("blue"), one("shoe"), strict=True)]
    assert titles.scores(asked("shoe, blue")).tolist() == pytest.approx(both, rel=1e-4)
    assert titles.scores(asked("trousers")).tolist() == titles.scores(asked(" ?! ")).tolist() == [0, 0, 0, 0]


def test_bm25_follows_a_changed_title() -> None:
    """The old words are gone, the new ones found."""
    titles = Bm25(shelf_of())
    for entry in (*ENTRIES, ItemRecord(time_ms=1, item="a", title="Purple Scarf")):
        titles.learn(entry)
    assert np.flatnonzero(titles.scores(asked("red"))).tolist() == []
    assert np.flatnonzero(titles.scores(asked("scarf"))).tolist() == [0]


def test_item_knn_is_the_cosine_of_users() -> None:
    """Items a and b share one user of two and three: 1 / sqrt(6); a second click of the same user counts nothing."""
    shelf = shelf_of()
    knn = ItemKnn(shelf)
    for user, item in (("1", "a"), ("1", "b"), ("1", "b"), ("2", "a"), ("3", "b"), ("4", "b"), ("4", "c")):
        knn.learn(click(item, user=user))
    likeness = knn.scores(asked("whatever", clicked=(shelf.column("a"),)))
    assert order(shelf, likeness) == ["b", "a", "c", "d"]
    assert knn._together[0][1] / np.sqrt(knn._users[0] * knn._users[1]) == pytest.approx(1 / math.sqrt(6))
    assert order(shelf, knn.scores(asked("whatever"))) == ["b", "a", "c", "d"]  # nothing known of the user: popularity


def test_vsknn_weighs_what_came_last_the_most() -> None:
    """Two past sessions, one like the first half of this one, one like its last element: the latter's click leads."""
    shelf = shelf_of()
    knn = Vsknn(shelf)
    for session, query, item in (("old", "shoes", "a"), ("new", "hats", "c")):
        search = click(item, query=query, session=session).search
        knn.learn(search)
        knn.learn(click(item, query=query, session=session))
    visit = (Element(query="shoes"),)
    assert order(shelf, knn.scores(asked("hats", visit=visit)))[:2] == ["c", "a"]
    assert order(shelf, knn.scores(asked("shoes", visit=(Element(query="hats"),))))[:2] == ["a", "c"]


def test_vsknn_takes_the_likest_sessions_and_never_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one neighbour allowed, the newest of the equally like ones votes; the present session does not."""
    monkeypatch.setattr("models.evaluation.neighbours.NEIGHBOURS", 1)
    shelf = shelf_of()
    knn = Vsknn(shelf)
    for session, item in (("1", "a"), ("1b", "a"), ("2", "b"), ("mine", "d")):
        search = click(item, session=session).search
        knn.learn(search)
        knn.learn(click(item, session=session))
    scores = knn.scores(asked("q", session="mine"))
    assert order(shelf, scores)[0] == "b"
    assert order(shelf, knn.scores(asked("never asked")))[0] == "a"  # popularity


def test_visits_know_what_came_before_in_order() -> None:
    """Queries without a letter and items outside the catalogue are no elements."""
    visits = Visits(shelf_of())
    for step in (
        click("a", query="Red!").search,
        click("a"),
        click("b", session="t"),
        click("zzz"),
        click("a", query="!"),
    ):
        visits.tell(step)
    search = SearchRecord(index=1, time_ms=1, user="u", session="s", query="x")
    assert visits.session(search) == (Element(query="red"), Element(column=0), Element(column=0))
    assert visits.clicked(search) == (0, 1, 0)
