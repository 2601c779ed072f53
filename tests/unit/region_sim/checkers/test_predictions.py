"""The restored model predicts the same: before and after, and in every region."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from region_sim.checkers.predictions import are_close
from region_sim.evidence import Prediction, PredictionsSeen
from tests.support.judged import found_by
from tests.support.planted_history import Planted, history, predictions

NAME = "same-predictions"
Change = Callable[[Prediction], Prediction]


def changed(change: Change, region: str = "east") -> list[PredictionsSeen]:
    """What all regions predict at the end, one of them otherwise in its second question."""
    made = []
    for name in ("east", "west"):
        seen = predictions(name, "after")
        if name == region:
            one, two = seen.predictions
            seen = msgspec.structs.replace(seen, predictions=[one, change(two)])
        made.append(seen)
    return made


def judged(found: list[PredictionsSeen]) -> str:
    """The verdict over these predictions of the end."""

    def end(planted: Planted) -> None:
        planted.predictions = found

    return found_by(NAME, history(end=end)).verdict


def with_scores(change: Callable[[int, float], float]) -> Change:
    """Scores changed by their place."""
    return lambda p: msgspec.structs.replace(p, scores=[change(place, score) for place, score in enumerate(p.scores)])


def swapped(one: int, other: int, *, tied: bool) -> Change:
    """Two items change places; tied: they have one score, but for a hair."""

    def change(prediction: Prediction) -> Prediction:
        items, scores = list(prediction.items), list(prediction.scores)
        items[one], items[other] = items[other], items[one]
        if tied:
            scores[other] = scores[one] * (1 - 1e-6)
        return msgspec.structs.replace(prediction, items=items, scores=scores)

    return change


def test_the_same_predictions_are_valid() -> None:
    """And say of which model, and how many questions."""
    found = found_by(NAME, history())
    assert (found.verdict, "ranker 3" in found.sentence, "2 questions" in found.sentence) == ("valid", True, True)


@pytest.mark.parametrize(
    "change",
    [
        with_scores(lambda place, score: score + (0.01 if place == 0 else 0)),
        with_scores(lambda place, score: float("nan") if place == 11 else score),
        swapped(0, 1, tied=False),
        swapped(9, 10, tied=False),
        lambda p: msgspec.structs.replace(p, items=[*p.items[:3], "another", *p.items[4:]]),
        lambda p: msgspec.structs.replace(p, items=p.items[:9], scores=p.scores[:9]),
        lambda p: msgspec.structs.replace(p, items=[], scores=[]),
        lambda p: msgspec.structs.replace(p, scores=p.scores[:-1]),
        lambda p: msgspec.structs.replace(p, question="another"),
    ],
)
@pytest.mark.parametrize("region", ["east", "west"])
def test_other_scores_ranks_items_or_questions_are_found(change: Change, region: str) -> None:
    """In whichever region."""
    assert judged(changed(change, region)) == "invalid"


def test_another_model_is_found() -> None:
    """It gives the same scores to these questions; it is another one all the same."""
    other = [predictions(region, "after", model="ranker 4") for region in ("east", "west")]
    assert judged(other) == "invalid"


def test_scores_within_the_tolerance_are_the_same() -> None:
    """Another processor rounds otherwise."""
    assert judged(changed(with_scores(lambda _, score: score * (1 + 5e-5)))) == "valid"


def test_items_that_are_tied_may_change_places() -> None:
    """Before the faults too, or it is no tie."""
    flat = with_scores(lambda place, score: 0.5 if place in (3, 4) else score)
    both = with_scores(lambda place, score: 0.5 * (1 - 1e-6 * (place == 4)) if place in (3, 4) else score)

    def before(planted: Planted) -> None:
        for place, entry in enumerate(planted.entries):
            if isinstance(entry.evidence, PredictionsSeen):
                one, two = entry.evidence.predictions
                seen = msgspec.structs.replace(entry.evidence, predictions=[one, flat(two)])
                planted.entries[place] = msgspec.structs.replace(entry, evidence=seen)

    def end(planted: Planted) -> None:
        planted.predictions = changed(lambda p: swapped(3, 4, tied=False)(both(p)))
        one, two = planted.predictions[1].predictions
        planted.predictions[1] = msgspec.structs.replace(planted.predictions[1], predictions=[one, flat(two)])

    assert found_by(NAME, history(before=before, end=end)).verdict == "valid"


@pytest.mark.parametrize("region", ["east", "west"])
def test_a_region_that_was_not_asked_proves_nothing(region: str) -> None:
    """Before or after."""
    after = [seen for seen in changed(lambda p: p) if seen.region != region]
    assert judged(after) == "unknown"
    assert judged([*after, predictions(region, "after", predictions=[])]) == "unknown"
    unasked = [
        msgspec.structs.replace(entry, evidence=None)
        if isinstance(entry.evidence, PredictionsSeen)
        and (entry.evidence.region, entry.evidence.when) == (region, "before")
        else entry
        for entry in history()
    ]
    assert found_by(NAME, unasked).verdict == "unknown"


def test_what_is_no_number_is_close_to_nothing() -> None:
    """Not even to itself."""
    assert are_close(0.0, 0.0)
    assert not are_close(float("nan"), float("nan"))
    assert not are_close(float("inf"), float("inf"))
