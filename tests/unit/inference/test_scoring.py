"""When the champion cannot answer, the standby does, in time and under its own name."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.signing import sign
from services.coordination import MemoryStore
from services.inference.client import InferenceClient, InferenceExpired, InferenceRefused
from services.inference.codec import InferRequest
from services.inference.engine import Session
from services.inference.errors import DeadlineExpired, ModelRunFailed, QueueFull
from services.inference.serving import STANDBY
from tests.support.inference_parts import KEY, MODEL, NO_PEERS, Region, own_repository, region
from tests.support.inference_worker import deadline_in
from tests.support.poll import wait_until_async
from tests.support.tiny_model import expected_scores, request_inputs, write_version

Array = NDArray[Any]
INPUTS = request_inputs(1, 50)


class Hurt:
    """A session whose runs raise, or wait until `go`."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.broken = False
        self.not_finite = False
        self.go = threading.Event()
        self.go.set()
        self.runs = 0

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        self.runs += 1
        assert self.go.wait(10)
        if self.broken:
            raise ModelRunFailed("broken on purpose")
        found = self.session.run(inputs)
        if self.not_finite:
            found["scores"][...] = np.nan
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


@pytest.fixture
async def east(tmp_path: Path) -> AsyncIterator[Region]:
    """Version 2, large, is champion; version 1 stands by."""
    repository = own_repository(tmp_path, "east")
    sign(write_version(repository.path, "2", layers=1, bias=2.0), KEY)
    async with region(repository, MemoryStore(), NO_PEERS, queue_rows_max=2) as found:
        await found.look()
        assert found.serving == "2"
        assert found.worker.table.current(MODEL, STANDBY) is not None
        yield found


def hurt(found: Region) -> Hurt:
    """The champion's session, ready to be hurt."""
    served = found.worker.table.find(MODEL, None)
    served.session = Hurt(served.session)  # type: ignore[assignment]
    return served.session  # type: ignore[return-value]


def answered_by_standby(found: Region, reason: str) -> float:
    """How often, by why."""
    return float(found.worker.metrics.standby_answers.labels(reason)._value.get())


@pytest.mark.parametrize("how", ["broken", "not_finite"])
async def test_a_failing_run_is_answered_by_the_standby_and_the_champion_comes_back(east: Region, how: str) -> None:
    """The answer names the version that scored; the worker says what is wrong until it is not."""
    session = hurt(east)
    async with InferenceClient(east.url) as client:
        setattr(session, how, True)
        scored = await client.infer(INPUTS, deadline_in(10.0))
        assert scored.model_version == "ranker/1"
        np.testing.assert_allclose(scored.scores, expected_scores(INPUTS, 1.0), atol=1e-4)
        assert "version 2 does not answer" in (east.worker.degraded_reason() or "")
        assert answered_by_standby(east, "model_run_failed") == 1
        assert east.worker.table.statistics_of(MODEL, "2").failures == {"model_run_failed": 1}
        setattr(session, how, False)
        assert (await client.infer(INPUTS, deadline_in(10.0))).model_version == "ranker/2"
        assert east.worker.degraded_reason() is None


async def test_a_champion_that_is_too_slow_is_not_waited_for(east: Region) -> None:
    """At the last moment at which the standby can still answer it is asked; also while the run hangs on."""
    session = hurt(east)
    east.worker.scorer._reserve_seconds = 2.8  # a busy machine takes its time
    async with InferenceClient(east.url) as client:
        await client.infer(INPUTS, deadline_in(10.0))
        session.go.clear()
        for _ in range(2):
            scored = await client.infer(INPUTS, deadline_in(3.0))
            assert scored.model_version == "ranker/1"
        assert answered_by_standby(east, "deadline_expired") == 2
        session.go.set()

        async def champion_again() -> bool:
            return (await client.infer(INPUTS, deadline_in(10.0))).model_version == "ranker/2"

        await wait_until_async(champion_again, 10, "the run to end")


async def test_a_run_that_hangs_for_long_costs_nobody_the_wait(east: Region) -> None:
    """Once the worker calls it stuck, the standby is asked at once."""
    session = hurt(east)
    east.worker.scorer._stuck_run_seconds = 0.0
    east.worker.scorer._reserve_seconds = 2.8  # a busy machine takes its time
    async with InferenceClient(east.url) as client:
        session.go.clear()
        first = await client.infer(INPUTS, deadline_in(3.0))
        second = await client.infer(INPUTS, deadline_in(3600.0))
        assert (first.model_version, second.model_version) == ("ranker/1", "ranker/1")
        assert answered_by_standby(east, "model_run_failed") == 1
        session.go.set()


async def test_a_full_queue_is_answered_by_the_standby(east: Region) -> None:
    """It has a queue and a thread of its own."""
    session = hurt(east)
    session.go.clear()
    served = east.worker.table.find(MODEL, None)
    waiting = InferRequest("", request_inputs(2, 50), (), True, None, None)
    asked = [asyncio.ensure_future(east.worker.infer(served, waiting, by_number=True))]
    await wait_until_async(lambda: session.runs == 1, 10, "a run to be under way")
    asked.append(asyncio.ensure_future(east.worker.infer(served, waiting, by_number=True)))
    await wait_until_async(lambda: east.worker.batcher.rows_waiting == 2, 10, "the queue to be full")
    with pytest.raises(QueueFull):
        await east.worker.infer(served, waiting, by_number=True)
    scored = await east.worker.infer(served, waiting)
    assert (scored.served.version, scored.stands_in_for) == ("1", "2")
    assert answered_by_standby(east, "queue_full") == 1
    session.go.set()
    await asyncio.gather(*asked)


async def test_whoever_names_a_version_gets_that_one_or_nothing(east: Region) -> None:
    """A comparison of versions must not compare the standby with itself."""
    hurt(east).broken = True
    async with InferenceClient(east.url) as client:
        client._address += "/versions/2"
        with pytest.raises(InferenceRefused, match="broken on purpose"):
            await client.infer(INPUTS, deadline_in(10.0))
    assert answered_by_standby(east, "model_run_failed") == 0


async def test_what_the_standby_cannot_take_is_refused_as_the_champion_refused_it(east: Region) -> None:
    """The champion's reason is the one that is told."""
    hurt(east).broken = True
    standby = east.worker.table.current(MODEL, STANDBY)
    assert standby is not None
    signature = standby.session.signature
    other = replace(signature.inputs[0], name="something_else")
    standby.session.signature = replace(signature, inputs=(other,))
    served = east.worker.table.find(MODEL, None)
    with pytest.raises(ModelRunFailed, match="broken on purpose"):
        await east.worker.infer(served, InferRequest("", INPUTS, (), True, None, None))


async def test_an_expired_request_is_nobody_s(east: Region) -> None:
    """Its deadline was over when it came."""
    served = east.worker.table.find(MODEL, None)
    with pytest.raises(DeadlineExpired):
        await east.worker.infer(served, InferRequest("", INPUTS, (), True, None, 1000))
    assert answered_by_standby(east, "deadline_expired") == 0
    async with InferenceClient(east.url) as client:
        with pytest.raises(InferenceExpired):
            await client.infer(INPUTS, deadline_in(-1.0))


async def test_a_standby_s_answer_does_not_make_the_client_read_the_metadata_again(east: Region) -> None:
    """Or every answer of an hour without the champion would cost a second request."""
    hurt(east).broken = True
    async with InferenceClient(east.url) as client:
        await client.infer(INPUTS, deadline_in(10.0))
        declared = client._declared
        assert declared is not None and declared.version == "2"
        await client.infer(INPUTS, deadline_in(10.0))
        assert client._declared is declared
