"""Nothing that happens later can change how a search was ranked, and a leak would be seen."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.cases import collect_cases
from models.encode import popularity_score
from models.evaluation.counting import Popularity
from models.evaluation.entrants import Entrant, baselines, models
from models.evaluation.questions import Question, Shelf
from models.evaluation.trial import Judged, Trial
from models.records import Source
from models.shop import ShopSettings, generate
from models.sources import open_source

SHOP = ShopSettings(seed=12, items=60, searches=260, users=40, days=6, follow_up_share=0.4)
SPLIT = 200
Asked = dict[str, list[np.ndarray]]
"""Entrant -> its scores for each question, in order."""
Entrants = Callable[[Shelf], list[Entrant]]


def everybody(shelf: Shelf) -> list[Entrant]:
    """All baselines, and a model that needs no file."""
    return [*baselines(shelf), *models({"model": popularity_score}, shelf)]


def run(source: Source, entrants: Entrants = everybody) -> tuple[Judged, Asked]:
    """Walk a source and note what everybody said."""
    said: Asked = {}

    def noted(shelf: Shelf) -> list[Entrant]:
        return [replace(entrant, scores=listening(entrant)) for entrant in entrants(shelf)]

    def listening(entrant: Entrant) -> Callable[[Question], np.ndarray]:
        def scores(question: Question) -> np.ndarray:
            found = entrant.scores(question)
            said.setdefault(entrant.name, []).append(found.copy())
            return found

        return scores

    return Trial(source, SPLIT, noted, with_typos=False).run(), said


def with_other_clicks(source: Source, first: int) -> Source:
    """The same log, with another item clicked in every row from `first` on."""
    ids = sorted({entry.item for entry in source.items})
    searches = [
        msgspec.structs.replace(search, clicked=ids[(ids.index(search.clicked) + 1) % len(ids)])
        if search.index >= first
        else search
        for search in source.searches
    ]
    return msgspec.structs.replace(source, searches=searches)


def first_change(one: list[np.ndarray], other: list[np.ndarray]) -> int:
    """The first question for which two lists of scores differ; their length when there is none."""
    pairs = enumerate(zip(one, other, strict=True))
    return next((place for place, (left, right) in pairs if not np.array_equal(left, right)), len(one))


def leaks(source: Source, entrants: Entrants) -> list[str]:
    """Frozen entrants whose scores change when only clicks of the test part do, for users not seen before in it."""
    _, said = run(source, entrants)
    _, other = run(with_other_clicks(source, SPLIT), entrants)
    seen: set[str] = set()
    new: list[int] = []
    for place, search in enumerate(source.searches[SPLIT:]):
        if search.user not in seen:
            new.append(place)
        seen.add(search.user)
    assert len(new) >= 20
    return [
        name
        for name in said
        if not name.endswith("+stream")
        and any(not np.array_equal(said[name][place], other[name][place]) for place in new)
    ]


def test_no_click_of_the_test_part_changes_a_frozen_ranker() -> None:
    """Every click after the split is another one: whoever has learned nothing since says the same to every new user.

    (What a user did in the test part is part of the question when that user asks again.)
    """
    assert leaks(generate(SHOP), everybody) == []


def test_a_ranker_that_learns_on_is_caught() -> None:
    """A frozen popularity that is told clicks all the same: the check above sees it."""

    def leaky(shelf: Shelf) -> list[Entrant]:
        popularity = Popularity(shelf)
        fed = Entrant("fed+stream", True, False, popularity.scores, popularity.learn)
        return [fed, Entrant("leaky", False, False, popularity.scores), *baselines(shelf)]

    assert leaks(generate(SHOP), leaky) == ["leaky"]


def test_a_click_changes_nobody_before_it_was_made() -> None:
    """Another click in row `changed` and later: the fed ones say the same up to it too, and something else after it."""
    source, changed = generate(SHOP), SPLIT + 30
    judged, said = run(source)
    _, other = run(with_other_clicks(source, changed))
    asked_until = next(place for place, search in enumerate(judged.searches) if search.index > changed)
    for name, scores in said.items():
        assert first_change(scores, other[name]) >= asked_until, name
    assert first_change(said["popularity+stream"], other["popularity+stream"]) < len(judged.searches)
    assert first_change(said["counters+stream"], other["counters+stream"]) < len(judged.searches)


def test_nobody_is_shown_the_click_that_is_asked_for() -> None:
    """Neither the question nor the moments of the model's inputs hold it."""

    def peeking(shelf: Shelf) -> list[Entrant]:
        def scores(question: Question) -> np.ndarray:
            for search in (question.search, question.fed.search, question.frozen.search):
                assert (search.clicked, search.click_time_ms, search.position) == ("", 0, 0)
            return np.zeros(len(shelf))

        return [Entrant("peeking", False, False, scores)]

    judged, _ = run(generate(SHOP), peeking)
    assert len(judged.searches) == SHOP.searches - SPLIT


def test_training_cases_know_nothing_of_the_test_part() -> None:
    """Cases up to the split are the same whatever is clicked after it."""
    source = generate(SHOP)
    one = collect_cases(source, end=SPLIT)
    other = collect_cases(with_other_clicks(source, SPLIT), end=SPLIT)
    assert one.index.max() == SPLIT - 1
    assert np.array_equal(one.candidate_feats, other.candidate_feats)
    assert np.array_equal(one.clicked, other.clicked)


def written(source: Source, path: Path, order: np.ndarray) -> Source:
    """The source by way of a CSV file whose rows are in another order."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time", "user", "query", "item", "click_time", "session"])
        for place in order.tolist():
            one = source.searches[place]
            rows.writerow([one.time_ms, one.user, one.query, one.clicked, one.click_time_ms, one.session])
    return open_source(path)


@pytest.mark.parametrize("first", [SPLIT, 0])
def test_the_order_of_rows_in_the_file_changes_nothing(tmp_path: Path, first: int) -> None:
    """Rows of the test part, or all of them, shuffled: sources are sorted by time."""
    source = generate(SHOP)
    assert len({search.time_ms for search in source.searches}) == len(source.searches)
    order = np.arange(len(source.searches))
    plain, _ = run(written(source, tmp_path / "plain.csv", order))
    np.random.default_rng(4).shuffle(order[first:])
    shuffled, _ = run(written(source, tmp_path / "shuffled.csv", order))
    for name, places in plain.places.items():
        assert np.array_equal(places.better, shuffled.places[name].better), name
        assert np.array_equal(places.tied, shuffled.places[name].tied), name


def test_frozen_counters_stand_still_and_fed_ones_do_not() -> None:
    """The same shop once more in the test part: popularity of the frozen model's features never changes for a user."""
    judged, said = run(generate(SHOP))
    frozen, fed = said["popularity"], said["popularity+stream"]
    assert all(np.array_equal(frozen[0], scores) for scores in frozen)
    assert fed[-1].sum() > frozen[-1].sum()
    assert len(fed) == len(judged.searches)
