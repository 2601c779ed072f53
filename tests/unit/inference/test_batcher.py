"""The batching shell with an engine that runs when the test says so."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from services.common.clock import SystemClock
from services.inference.batch_queue import BatchLimits, Pace
from services.inference.batcher import Answer, Batcher
from services.inference.engine import BatchItem, Session
from services.inference.errors import DeadlineExpired, ModelRunFailed, QueueFull
from services.inference.loading import ProvenVersion
from services.inference.metrics import InferenceMetrics
from services.inference.serving import ServedVersion
from services.inference.signature import Buckets, RequestShape
from services.inference.statistics import VersionStatistics
from tests.support.poll import wait_until_async

Array = NDArray[Any]
LIMITS = BatchLimits(delay_seconds=0.0, queue_rows_max=8)


class HeldSession:
    """Scores are the inputs; a run waits until `go`, and raises when `broken`."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.broken = False
        self.rows: list[int] = []

    def stack(self, items: list[BatchItem], _: Buckets) -> dict[str, Array]:
        """All rows under each other."""
        return {"x": np.concatenate([item.inputs["x"] for item in items])}

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Hold, then echo."""
        self.rows.append(len(inputs["x"]))
        assert self.go.wait(10)
        if self.broken:
            raise ModelRunFailed("broken on purpose")
        return {"scores": inputs["x"]}

    def split(self, outputs: dict[str, Array], items: list[BatchItem]) -> list[Answer | ModelRunFailed]:
        """One row each; a negative one is a failure of its own."""
        rows = [outputs["scores"][place : place + 1] for place in range(len(items))]
        return [ModelRunFailed("negative") if row[0, 0] < 0 else {"scores": row} for row in rows]


@pytest.fixture
def session() -> HeldSession:
    """The engine."""
    return HeldSession()


@pytest.fixture
def served(session: HeldSession) -> ServedVersion:
    """A version on it, four rows a run."""
    proven = ProvenVersion("sum", cast("Session", session), {0: Pace(4, 0.0)})
    return ServedVersion("ranker", "1", proven, Buckets((1, 4), (64,)), VersionStatistics())


@pytest.fixture
async def batcher() -> AsyncIterator[Batcher]:
    """The batcher under test."""
    made = Batcher(LIMITS, InferenceMetrics(CollectorRegistry()), SystemClock().monotonic)
    yield made
    made.close()


def submit(batcher: Batcher, served: ServedVersion, value: float, deadline: float = math.inf) -> asyncio.Future[Answer]:
    """One row."""
    item = BatchItem({"x": np.array([[value]], np.float32)}, RequestShape(1, 0))
    return asyncio.ensure_future(batcher.submit(served, item, deadline))


async def test_what_comes_during_a_run_shares_the_next_one(
    batcher: Batcher, served: ServedVersion, session: HeldSession
) -> None:
    """The first goes alone and at once; six more make a full batch and a rest, each with its own score."""
    calls = [submit(batcher, served, 0.0)]
    await wait_until_async(lambda: session.rows == [1], what="the first run")
    calls += [submit(batcher, served, float(number)) for number in range(1, 7)]
    await asyncio.sleep(0)
    assert session.rows == [1]
    session.go.set()
    answers = await asyncio.gather(*calls)
    assert session.rows == [1, 4, 2]
    assert [float(answer["scores"][0, 0]) for answer in answers] == [0, 1, 2, 3, 4, 5, 6]
    assert served.statistics.pending == 0
    assert served.statistics.inferences == 7


async def test_a_failed_run_fails_its_own_requests_only(
    batcher: Batcher, served: ServedVersion, session: HeldSession
) -> None:
    """The next run goes on."""
    session.go.set()
    session.broken = True
    with pytest.raises(ModelRunFailed, match="on purpose"):
        await submit(batcher, served, 1.0)
    session.broken = False
    assert (await submit(batcher, served, 2.0))["scores"] == 2.0


async def test_one_bad_answer_in_a_batch_fails_alone(
    batcher: Batcher, served: ServedVersion, session: HeldSession
) -> None:
    """Its neighbours are answered."""
    first = submit(batcher, served, 0.0)
    await wait_until_async(lambda: session.rows == [1], what="the first run")
    calls = [submit(batcher, served, value) for value in (1.0, -1.0, 3.0)]
    await asyncio.sleep(0)
    session.go.set()
    found = await asyncio.gather(first, *calls, return_exceptions=True)
    assert [isinstance(answer, ModelRunFailed) for answer in found] == [False, False, True, False]
    assert session.rows == [1, 3]


async def test_a_queue_that_is_full_refuses_and_expiry_does_not_wait_for_the_run(
    batcher: Batcher, served: ServedVersion, session: HeldSession
) -> None:
    """Both are told while the engine is held."""
    running = submit(batcher, served, 0.0)
    await wait_until_async(lambda: session.rows == [1], what="the first run")
    late = submit(batcher, served, 1.0, SystemClock().monotonic() + 0.05)
    waiting = [submit(batcher, served, 1.0) for _ in range(7)]
    with pytest.raises(QueueFull) as full:
        await submit(batcher, served, 1.0)
    assert full.value.retry_after_seconds == 1
    with pytest.raises(DeadlineExpired):
        await late
    assert batcher.stuck_seconds() >= 0.05
    assert not running.done()
    session.go.set()
    await asyncio.gather(running, *waiting)
    assert batcher.stuck_seconds() == 0
    assert session.rows == [1, 4, 3]


async def test_a_cancelled_caller_leaves_the_queue(
    batcher: Batcher, served: ServedVersion, session: HeldSession
) -> None:
    """Its row is in no run, and the version is free of it."""
    running = submit(batcher, served, 0.0)
    await wait_until_async(lambda: session.rows == [1], what="the first run")
    gone = submit(batcher, served, 1.0)
    kept = submit(batcher, served, 2.0)
    await asyncio.sleep(0)
    gone.cancel()
    session.go.set()
    assert (await kept)["scores"] == 2.0
    await running
    assert session.rows == [1, 1]
    await asyncio.wait_for(served.drained(), 1)


async def test_a_version_that_was_forgotten_too_early_still_answers(
    batcher: Batcher, served: ServedVersion, session: HeldSession
) -> None:
    """It did not drain in time; what it took is not lost for that."""
    running = submit(batcher, served, 0.0)
    await wait_until_async(lambda: session.rows == [1], what="the first run")
    waiting = submit(batcher, served, 1.0)
    await asyncio.sleep(0)
    batcher.forget(served)
    session.go.set()
    answers = await asyncio.gather(running, waiting)
    assert len(answers) == 2 and all(answer is not None for answer in answers)
    assert session.rows == [1, 1], "both were really run"
