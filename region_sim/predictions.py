"""The same questions to every region's model, before the first fault and at the end.

The questions are rows of the golden set that is shipped with the model, put from outside to each region's inference
worker over its own protocol: what a region says afterwards must be what it said before, whatever was lost meanwhile.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.registry import GOLDEN_FILE
from region_sim.evidence import Prediction, PredictionsSeen
from services.common.clock import Clock
from services.inference.client import InferenceClient, InferenceFailed, Scored

REPOSITORY = Path(__file__).parents[1] / "models" / "repository" / "ranker"
QUESTIONS_MAX = 8
ANSWER_SECONDS = 5.0
PATIENCE_SECONDS = 20.0
AGAIN_SECONDS = 0.5
_INPUT = "input."
Arrays = dict[str, NDArray[Any]]


class NotPredicted(Exception):
    """A region's model did not answer; the message says why."""


def questions(repository: Path = REPOSITORY) -> Arrays:
    """The inputs of a few rows of the newest version's golden set. Raises NotPredicted."""
    versions = [folder for folder in repository.glob("*") if re.fullmatch(r"\d+", folder.name)]
    if not versions:
        raise NotPredicted(f"there is no version of a model in {repository}: no questions to put")
    newest = max(versions, key=lambda folder: int(folder.name))
    with np.load(newest / GOLDEN_FILE, allow_pickle=False) as arrays:
        return {
            name.removeprefix(_INPUT): arrays[name][:QUESTIONS_MAX] for name in arrays.files if name.startswith(_INPUT)
        }


async def ask_model(region: str, when: Literal["before", "after"], url: str, clock: Clock) -> PredictionsSeen:
    """Put the questions to one region's model. Raises NotPredicted."""
    inputs = questions()
    deadline = clock.monotonic() + PATIENCE_SECONDS
    async with InferenceClient(url, clock=clock) as client:
        while True:
            try:
                scored = await client.infer(inputs, clock.unix_ms() + int(ANSWER_SECONDS * 1000))
                break
            except InferenceFailed as failure:
                if clock.monotonic() >= deadline:
                    raise NotPredicted(str(failure)) from failure
            await clock.sleep(AGAIN_SECONDS)
    return PredictionsSeen(region=region, when=when, model=scored.model_version, predictions=predictions_of(scored))


def predictions_of(scored: Scored) -> list[Prediction]:
    """An answer as a history holds it: for each question all candidates, best first, with their scores."""
    found = []
    for row, scores in enumerate(scored.scores):
        order = np.argsort(-scores, kind="stable")
        items = [f"candidate-{place}" for place in order]
        found.append(
            Prediction(question=f"golden-{row}", items=items, scores=[round(float(scores[p]), 7) for p in order])
        )
    return found
