"""Canaries through real processes and a real broker: to an answer, up to a shut gate, lost where something hangs."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, TopicPartition

from infra.runtime.kafka import KafkaBroker
from models.encode import FEATURE_NAMES
from streams.logs import consumer_settings, events_log, rankings_log
from tests.support import tiny_model
from tests.support.frames import PARTITIONS, FrameWriter, item_rows, make_topics
from tests.support.gateway_process import GatewayProcess
from tests.support.inference_worker import InferenceWorker
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
    """An answer from the model; a dead worker named; a stopped processor as where it was lost; a shut gate as the end.

    The state's digest is the same after all of them.
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
    shut = {"NAME": "canary", "DEPLOYMENT": write_deployment(tmp_path, ("canary", "other")), "CONTROL_PORT": 9}
    try:
        with ProcessorProcess(tmp_path / "open", broker, life, inference_port=worker.port) as processor:
            async with GatewayProcess(tmp_path / "gateway", broker, life, processor_port=processor.port) as gateway:
                before = processor.state()["digest"]
                # The very first question to a worker on a busy machine may be answered from a lower rung.
                tries = [await flown(gateway) for _ in range(3)]
                found = next((found for found in tries if found["rung"] == "model"), tries[-1])
                assert (found["reached"], found["rung"], found["problem"]) == ("answer", "model", "")
                assert set(found["stages_ms"]) == {"acknowledged", "log", "features", "score"}
                assert rankings_in(broker, life) == len(tries)
                os.kill(processor.pid, signal.SIGSTOP)
                found = await flown(gateway, 600)
                os.kill(processor.pid, signal.SIGCONT)
                assert (found["reached"], found["step"]) == ("", "log")
                assert found["problem"].endswith("did not fold it in time (it does not answer)")
                assert (await flown(gateway))["reached"] == "answer", "a lost one is in nobody's way"
                worker.signal(signal.SIGKILL)
                worker.wait()
                found = await flown(gateway)
                assert (found["reached"], found["rung"] != "model") == ("answer", True)
                assert found["reason"]
                assert processor.state()["digest"] == before
        published = rankings_in(broker, life)
        with ProcessorProcess(tmp_path / "shut", broker, life, inference_port=worker.port, region=shut) as processor:
            async with GatewayProcess(tmp_path / "gateway", broker, life, processor_port=processor.port) as gateway:
                found = await flown(gateway)
                assert (found["reached"], found["problem"]) == ("gate", "")
                assert found["stopped_by"]
                assert {"features", "score"} <= set(found["stages_ms"])
                assert rankings_in(broker, life) == published, "nothing left the gate"
                assert processor.state()["digest"] == before
    finally:
        worker.stop()
