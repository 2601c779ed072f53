"""The questions that every region's model is asked, and how its answers are written down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from region_sim.predictions import QUESTIONS_MAX, NotPredicted, ask_model, predictions_of, questions
from services.common.clock import SystemClock
from services.inference.client import Scored


def test_the_questions_are_rows_of_the_shipped_golden_set() -> None:
    """Always the same, and few."""
    first, second = questions(), questions()
    assert first.keys() == second.keys()
    assert {len(array) for array in first.values()} == {QUESTIONS_MAX}
    assert all(np.array_equal(array, second[name]) for name, array in first.items())


def test_no_model_is_no_question(tmp_path: Path) -> None:
    """A checker then has no evidence, and says so."""
    with pytest.raises(NotPredicted, match="no version of a model"):
        questions(tmp_path)


def test_an_answer_is_written_down_best_first() -> None:
    """Ties in order of place; each score beside its candidate."""
    scores = np.array([[0.5, 2.0, -1.0, 0.5]], dtype=np.float32)
    (found,) = predictions_of(Scored(scores, "ranker/1"))
    assert found.items == ["candidate-1", "candidate-0", "candidate-3", "candidate-2"]
    assert found.scores == [2.0, 0.5, 0.5, -1.0]


async def test_a_worker_that_never_answers_is_no_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a bounded wait."""
    monkeypatch.setattr("region_sim.predictions.PATIENCE_SECONDS", 0.0)
    with pytest.raises(NotPredicted):
        await ask_model("east", "before", "http://127.0.0.1:9", SystemClock())
