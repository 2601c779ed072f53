"""Canaries through real processes and a real broker: to an answer, up to a shut gate, lost where something hangs."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, TopicPartition

from infra.runtime.kafka import KafkaBroker
from models.encode import FEATURE_NAMES
from streams.logs import consumer_settings, events_log, rankings_log
from tests.support import tiny_model
from tests.support.fake_controller import FakeController
from tests.support.frames import PARTITIONS, FrameWriter, item_rows, make_topics
from tests.support.gateway_process import GatewayProcess
from tests.support.inference_worker import InferenceWorker
from tests.support.poll import wait_until_async
from tests.support.processor_process import ProcessorProcess
from tests.support.two_regions import write_deployment

pytestmark = pytest.mark.integration


async def flown(gateway: GatewayProcess, deadline_ms: int = 3_000) -> dict[str, Any]:
    """What became of one canary."""
    status, _, answer = await gateway.ask("/v1/canary", {"deadline_ms": deadline_ms})
    assert status == 200, answer
    return dict(answer)


def rankings_in(bootstrap: str, life: str) -> int:
    """Records in the rankings log of a life."""
    consumer = Consumer(consumer_settings(bootstrap, f"{life}-count"))
    places = [TopicPartition(rankings_log(life), partition) for partition in range(PARTITIONS)]
    ends = [consumer.get_watermark_offsets(place, timeout=10.0)[1] for place in places]
    consumer.close()
    return int(sum(ends))


async def test_a_canary_says_truly_how_far_it_came(
    kafka: KafkaBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer from the model; a stopped processor as where it was lost; a shut gate as the end; a dead worker named.

    All in one region, whose gate a controller opens and shuts. The state's digest is the same after all of them.
    """
    monkeypatch.setattr(tiny_model, "FEATURES", len(FEATURE_NAMES))
    monkeypatch.setattr(tiny_model, "WEIGHTS", np.linspace(1.0, 0.1, len(FEATURE_NAMES), dtype=np.float32))
    life, broker = "canary-1", kafka.bootstrap
    make_topics(broker, life)
    writer = FrameWriter(broker, events_log(life))
    writer.spread(item_rows(40), frame_events=40)
    writer.flush()
    tiny_model.write_version(tmp_path / "repository")
    worker = InferenceWorker(tmp_path, tmp_path / "repository").start()
    deployment = write_deployment(tmp_path, ("canary", "other"))
    try:
        async with FakeController("canary") as controller:
            region = {"NAME": "canary", "DEPLOYMENT": deployment, "CONTROL_PORT": controller.port}
            processor = ProcessorProcess(tmp_path, broker, life, inference_port=worker.port, region=region)
            try:
                await asyncio.to_thread(processor.start)
                async with GatewayProcess(tmp_path, broker, life, processor_port=processor.port) as gateway:
                    controller.give((0, 1))
                    await _flies(gateway, processor, controller, worker, functools.partial(rankings_in, broker, life))
            finally:
                processor.kill()
    finally:
        worker.stop()


async def _flies(
    gateway: GatewayProcess,
    processor: ProcessorProcess,
    controller: FakeController,
    worker: InferenceWorker,
    rankings: Callable[[], int],
) -> None:
    before = (await asyncio.to_thread(processor.state))["digest"]
    # A worker that was just started may be slow for a moment, on a busy machine; a moment, and not for good.
    until = time.monotonic() + 20.0
    while (found := await flown(gateway))["rung"] != "model":
        assert time.monotonic() < until, found
    published = await asyncio.to_thread(rankings)
    found = await flown(gateway)
    assert (found["reached"], found["rung"], found["problem"]) == ("answer", "model", "")
    assert set(found["stages_ms"]) == {"acknowledged", "log", "features", "score"}
    assert await asyncio.to_thread(rankings) == published + 1
    os.kill(processor.pid, signal.SIGSTOP)
    found = await flown(gateway, 600)
    os.kill(processor.pid, signal.SIGCONT)
    assert (found["reached"], found["step"]) == ("", "log")
    assert found["problem"].endswith("did not fold it in time (it does not answer)")
    assert (await flown(gateway))["reached"] == "answer", "a lost one is in nobody's way"
    controller.take(None)
    await wait_until_async(lambda: processor.metric("meridian_gate_open") == 0, 20.0, "the gate to shut")
    published = await asyncio.to_thread(rankings)
    found = await flown(gateway)
    assert (found["reached"], found["rung"], found["problem"]) == ("gate", "model", "")
    assert found["stopped_by"]
    worker.signal(signal.SIGKILL)
    worker.wait()
    found = await flown(gateway)
    assert (found["reached"], found["rung"] != "model") == ("gate", True)
    assert found["reason"]
    assert {"features", "score"} <= set(found["stages_ms"])
    assert await asyncio.to_thread(rankings) == published, "nothing left the gate"
    assert (await asyncio.to_thread(processor.state))["digest"] == before
