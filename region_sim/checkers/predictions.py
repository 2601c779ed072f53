"""The restored model predicts the same: before the first fault and at the end, and in every region.

The same fixed questions are put to every region's model, so nothing of the live state is in the answers. Scores are
float32 in the model and lists of JSON numbers here, one for each item, best first. Two scores are close when
`|a - b| <= 1e-6 + 1e-4 |b|` (numpy's allclose, with what the golden set allows). All items, so the ten best too, must
be the same in the same order; only items whose scores are close may change places, also with one that fell off the end.
"""

from __future__ import annotations

import math
from typing import Final

from region_sim.checkers.base import Finding
from region_sim.checkers.recorded import Recorded
from region_sim.evidence import Prediction, PredictionsSeen

CHECK = "the restored model predicts the same"
RELATIVE: Final = 1e-4
ABSOLUTE: Final = 1e-6
EXAMPLES_MAX = 10


def check(recorded: Recorded) -> Finding:
    """See the module."""
    seen: dict[tuple[str, str], tuple[int, PredictionsSeen]] = {}
    for entry, piece in recorded.evidenced(PredictionsSeen):
        seen[piece.region, piece.when] = (entry.index, piece)
    regions = recorded.plan.regions
    for region in regions:
        for when in ("before", "after"):
            found = seen.get((region, when))
            if found is None or not found[1].predictions:
                sentence = f"nothing is proven: what {region} predicted {when} the faults is not known"
                return Finding(check=CHECK, verdict="unknown", sentence=sentence)
    problems: list[tuple[str, int]] = []
    pairs = [((region, "before"), (region, "after")) for region in regions]
    pairs += [((regions[0], "after"), (other, "after")) for other in regions[1:]]
    for one, other in pairs:
        index, after = seen[other]
        words = f"{one[0]} {one[1]} and {other[0]} {other[1]}"
        problems += [(f"{words}: {problem}", index) for problem in differences(seen[one][1], after)]
    if problems:
        return Finding(
            check=CHECK,
            verdict="invalid",
            sentence=problems[0][0],
            examples=[sentence for sentence, _ in problems[:EXAMPLES_MAX]],
            first_index=problems[0][1],
        )
    first = seen[regions[0], "before"][1].predictions
    asked = len(first)
    if all(max(one.scores) - min(one.scores) <= ABSOLUTE for one in first):
        sentence = "nothing is proven: the model gave all items of every question one score"
        return Finding(check=CHECK, verdict="unknown", sentence=sentence)
    model = seen[regions[0], "after"][1].model
    sentence = f"{model} gave the same scores and ranks to {asked} questions, before and after, everywhere"
    return Finding(check=CHECK, verdict="valid", sentence=sentence)


def differences(one: PredictionsSeen, other: PredictionsSeen) -> list[str]:
    """What differs between two sets of predictions."""
    found = []
    if one.model != other.model:
        found.append(f"the model is {other.model}, and was {one.model}")
    before = {prediction.question: prediction for prediction in one.predictions}
    after = {prediction.question: prediction for prediction in other.predictions}
    if before.keys() != after.keys():
        found.append(f"other questions were asked: {sorted(before.keys() ^ after.keys())[:3]}")
    for question, prediction in before.items():
        if question in after:
            problem = _differs(prediction, after[question])
            found += [f"question {question!r}: {problem}"] if problem is not None else []
    return found


def are_close(one: float, other: float) -> bool:
    """See the module; what is no number is close to nothing."""
    return math.isfinite(one) and math.isfinite(other) and abs(one - other) <= ABSOLUTE + RELATIVE * abs(other)


def _differs(one: Prediction, other: Prediction) -> str | None:
    """What differs between two answers to one question; None when nothing does."""
    for prediction in (one, other):
        if len(prediction.items) != len(prediction.scores) or len(set(prediction.items)) != len(prediction.items):
            return "items and scores do not belong together"
    if len(one.items) != len(other.items) or not one.items:
        return f"{len(other.items)} items, and there were {len(one.items)}"
    before = dict(zip(one.items, one.scores, strict=True))
    after = dict(zip(other.items, other.scores, strict=True))
    for item, score in before.items():
        # The last of a list may be tied with one that fell off it.
        if not are_close(score, after.get(item, other.scores[-1])):
            return f"{item} has the score {after[item]!r}, and had {score!r}" if item in after else f"{item} is gone"
    for item, score in after.items():
        if item not in before and not are_close(one.scores[-1], score):
            return f"{item} was not there"
    for place, (had, has) in enumerate(zip(one.scores, other.scores, strict=True)):
        if not are_close(had, has):
            return f"place {place + 1} is {other.items[place]}, and was {one.items[place]}"
    return None
