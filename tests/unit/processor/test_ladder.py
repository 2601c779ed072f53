"""The ladder: whatever happens to the worker, an answer comes from the next rung, and says so."""

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from services.inference.client import InferenceExpired, InferenceRefused, InferenceUnavailable
from services.processor.ladder import Infer, Ladder, Scored, Scores, StepDown, Tensors, first_of
from streams.kinds import Rung


@dataclass
class Answer:
    """What the inference client returns."""

    scores: Scores
    model_version: str = "ranker/3"


def ladder(
    answer: Answer | Exception | None, counters: list[float] | None = None, popularity: list[float] | None = None
) -> Ladder:
    """A ladder over a worker that answers, raises, or (None) never comes back."""

    async def infer(_tensors: Tensors, _deadline_ms: int) -> Scored:
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer

    return Ladder(
        infer,
        lambda _: np.array(counters if counters is not None else [0.0, 1.0], np.float32),
        lambda _: np.array(popularity if popularity is not None else [3.0, 2.0], np.float32),
    )


async def climb(under_test: Ladder, count: int = 2, budget_ms: int = 50) -> SimpleNamespace:
    """Score `count` candidates with a budget."""
    outcome = await under_test.score({}, count, deadline_ms=1_000 + budget_ms, now_ms=1_000)
    return SimpleNamespace(
        rung=outcome.rung,
        why=outcome.step_down,
        scores=outcome.scores.tolist(),
        reason=outcome.reason,
        version=outcome.model_version,
    )


async def test_the_model_answers() -> None:
    """The first rung; nothing to explain."""
    found = await climb(ladder(Answer(np.array([[0.5, 0.25]], np.float32))))
    assert (found.rung, found.why, found.reason, found.version) == (Rung.MODEL, StepDown.NONE, "", "ranker/3")
    assert found.scores == [0.5, 0.25]


@pytest.mark.parametrize(
    ("problem", "why"),
    [
        (InferenceUnavailable("connection refused"), StepDown.UNAVAILABLE),
        (InferenceRefused("wrong tensor"), StepDown.REFUSED),
        (InferenceExpired("too late"), StepDown.EXPIRED),
    ],
)
async def test_each_failure_of_the_worker_leads_to_the_counters(problem: Exception, why: StepDown) -> None:
    """Dead, wrong and late are told apart, and all are answered."""
    found = await climb(ladder(problem))
    assert (found.rung, found.why, found.reason) == (Rung.COUNTERS, why, str(problem))


async def test_a_worker_that_hangs_costs_the_budget_and_no_more() -> None:
    """A client that forgot its time-out cannot hold an answer back."""
    found = await climb(ladder(None), budget_ms=20)
    assert (found.rung, found.why) == (Rung.COUNTERS, StepDown.EXPIRED)


@pytest.mark.parametrize("scores", [[0.1], [0.1, float("nan")], [0.1, 0.2, 0.3]])
async def test_scores_that_cannot_be_right_are_not_used(scores: list[float]) -> None:
    """A wrong count or not a number: the counters answer."""
    found = await climb(ladder(Answer(np.array([scores], np.float32))))
    assert (found.rung, found.why) == (Rung.COUNTERS, StepDown.BAD_SCORES)


async def test_counters_that_know_nothing_leave_it_to_popularity() -> None:
    """The last rung."""
    found = await climb(ladder(InferenceUnavailable("dead"), counters=[0.0, 0.0]))
    assert (found.rung, found.scores) == (Rung.POPULARITY, [3.0, 2.0])


async def test_no_candidates_is_an_empty_answer_without_asking_the_worker() -> None:
    """Nothing fits the filter: that is an answer."""
    found = await climb(ladder(InferenceUnavailable("must not be asked")), count=0)
    assert (found.rung, found.why, found.scores) == (Rung.POPULARITY, StepDown.NO_CANDIDATES, [])


async def test_lower_rungs_name_the_version_that_answered_last() -> None:
    """So that their clicks are counted beside it."""
    under_test = ladder(Answer(np.array([[0.5, 0.25]], np.float32), "ranker/9"))
    await climb(under_test)
    assert under_test.step_down({}, 2, StepDown.OVERLOADED, "full").model_version == "ranker/9"


def model(name: str, problem: Exception | None = None) -> Infer:
    """A model that answers by its name, or raises."""

    async def infer(_tensors: Tensors, _deadline_ms: int) -> Scored:
        if problem is not None:
            raise problem
        return Answer(np.array([[0.5, 0.25]], np.float32), name)

    return infer


@pytest.mark.parametrize(
    ("problem", "version"),
    [(None, "similar/1"), (InferenceRefused("not known here"), "ranker/3"), (InferenceUnavailable("dead"), "ranker/3")],
)
async def test_a_special_model_is_asked_first(problem: Exception | None, version: str) -> None:
    """The general one stands in where the special one does not serve."""
    answer = await first_of(model("similar/1", problem), model("ranker/3"))({}, 2_000)
    assert answer.model_version == version


async def test_who_is_too_late_asks_nobody_else() -> None:
    """The time is over."""
    with pytest.raises(InferenceExpired):
        await first_of(model("similar/1", InferenceExpired("late")), model("ranker/3"))({}, 2_000)
