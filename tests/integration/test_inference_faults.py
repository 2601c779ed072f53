"""A worker that hangs, dies, is full, or is given a version that must not serve."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from models.registry import verify_manifest
from services.common.exit_codes import ExitCode
from services.coordination import FileStore
from services.inference.breaker import BreakerLimits
from services.inference.client import (
    ClientLimits,
    InferenceClient,
    InferenceExpired,
    InferenceRefused,
    InferenceUnavailable,
)
from services.inference.codec import encode_request
from tests.support.inference_parts import promote
from tests.support.inference_worker import InferenceWorker, deadline_in
from tests.support.poll import wait_until, wait_until_async
from tests.support.tiny_model import expected_scores, request_inputs, write_manifest, write_version

StartWorker = Callable[..., InferenceWorker]

# Few shapes, so that a model that is slow on purpose is warm soon.
SLOW = {"batch_buckets": "2", "candidate_buckets": "64", "queue_rows_max": 4}
SLOW_LAYERS = 2400


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    """Starts workers over `tmp_path / "repository"` and ends them, hurt as they may be."""
    started: list[InferenceWorker] = []

    def start(*, wait: bool = True, **settings: object) -> InferenceWorker:
        worker = InferenceWorker(tmp_path, tmp_path / "repository", **settings)
        started.append(worker)
        return worker.start(wait=wait)

    yield start
    for worker in started:
        worker.stop()


def load(worker: InferenceWorker, version: str = "") -> tuple[int, dict[str, Any]]:
    """POST .../load; status and answer."""
    body = json.dumps({"parameters": {"version": version}} if version else {}).encode()
    request = urllib.request.Request(worker.url + "/v2/repository/models/ranker/load", data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read())


def index(worker: InferenceWorker) -> dict[str, tuple[str, str]]:
    """State and reason of each version."""
    request = urllib.request.Request(worker.url + "/v2/repository/index", data=b"", method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return {line["version"]: (line["state"], line["reason"]) for line in json.loads(answer.read())}


async def test_a_stopped_worker_costs_only_the_deadline_and_then_nothing(
    tmp_path: Path, start_worker: StartWorker
) -> None:
    """SIGSTOP: the first requests end at their deadline, the next at once, and after SIGCONT all is well again."""
    write_version(tmp_path / "repository")
    worker = start_worker()
    inputs = request_inputs(1, 50)
    limits = ClientLimits(breaker=BreakerLimits(failures_max=3, open_seconds=0.2))
    async with InferenceClient(worker.url, limits=limits) as client:
        await client.infer(inputs, deadline_in(10.0))
        worker.signal(signal.SIGSTOP)
        for _ in range(3):
            asked = time.monotonic()
            with pytest.raises(InferenceExpired):
                await client.infer(inputs, deadline_in(0.15))
            assert 0.1 < time.monotonic() - asked < 0.8
        asked = time.monotonic()
        with pytest.raises(InferenceUnavailable, match="3 requests in a row failed"):
            await client.infer(inputs, deadline_in(10.0))
        assert time.monotonic() - asked < 0.5
        worker.signal(signal.SIGCONT)

        async def answered() -> bool:
            try:
                return (await client.infer(inputs, deadline_in(1.0))).model_version == "ranker/1"
            except (InferenceUnavailable, InferenceExpired):
                return False

        await wait_until_async(answered, 10, "the probe to be answered")
    # Requests that waited in the socket had expired when the worker woke up: they were not scored.
    assert worker.metric('meridian_inference_drops_total{reason="expired_on_arrival"}') >= 1


async def test_a_killed_worker_is_unavailable_at_once_and_again_there_after_a_restart(
    tmp_path: Path, start_worker: StartWorker
) -> None:
    """By kill -9: no waiting for the deadline; the same client goes on with the next process."""
    write_version(tmp_path / "repository")
    worker = start_worker()
    inputs = request_inputs(1, 50)
    async with InferenceClient(worker.url) as client:
        await client.infer(inputs, deadline_in(10.0))
        worker.signal(signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL
        asked = time.monotonic()
        with pytest.raises(InferenceUnavailable):
            await client.infer(inputs, deadline_in(5.0))
        assert time.monotonic() - asked < 2.0
        await asyncio.to_thread(worker.start)
        scored = await client.infer(inputs, deadline_in(10.0))
        np.testing.assert_allclose(scored.scores, expected_scores(inputs), atol=1e-4)


async def test_a_restarted_worker_costs_no_failure_at_all(tmp_path: Path, start_worker: StartWorker) -> None:
    """A kept connection that the old process closed is replaced without the caller noticing."""
    write_version(tmp_path / "repository")
    worker = start_worker()
    inputs = request_inputs(1, 50)
    async with InferenceClient(worker.url) as client:
        await client.infer(inputs, deadline_in(10.0))
        assert await asyncio.to_thread(worker.stop) == 0
        await asyncio.to_thread(worker.start)
        assert (await client.infer(inputs, deadline_in(10.0))).model_version == "ranker/1"


async def test_a_full_queue_answers_429_and_an_expired_wait_504(tmp_path: Path, start_worker: StartWorker) -> None:
    """The bound holds, Retry-After is there, and who waits too long hears it at the deadline, not after the run."""
    write_version(tmp_path / "repository", layers=SLOW_LAYERS, golden_rows=2)
    worker = start_worker(**SLOW)
    url = worker.url + "/v2/models/ranker/infer"

    async def ask(http: aiohttp.ClientSession, seconds: float) -> tuple[int, str | None, str]:
        body = encode_request(request_inputs(2, 60), deadline_unix_ms=deadline_in(seconds))
        async with http.post(url, data=body.content, headers=body.headers) as answer:
            content = await answer.read()
            code = "" if answer.status == 200 else json.loads(content)["code"]
            return answer.status, answer.headers.get("Retry-After"), code

    async with aiohttp.ClientSession() as http:
        answers = await asyncio.gather(*(ask(http, 20.0) for _ in range(12)))
        refused = [answer for answer in answers if answer[0] != 200]
        assert len(answers) - len(refused) >= 2, "what fits in the queue is scored"
        assert refused, "what does not is refused"
        assert set(refused) == {(429, "1", "queue_full")}
        assert worker.metric('meridian_inference_drops_total{reason="queue_full"}') == len(refused)
        running = asyncio.ensure_future(ask(http, 20.0))
        await wait_until_async(
            lambda: asyncio.to_thread(lambda: worker.metric("nv_inference_pending_request_count" + LABELS) >= 1),
            5,
            "a run to be under way",
        )
        status, _, code = await ask(http, 0.01)
        assert (status, code) == (504, "deadline_expired")
        assert not running.done(), "it was told at its deadline, while the run went on"
        assert (await running)[0] == 200
    assert worker.metric('meridian_inference_drops_total{reason="expired_in_queue"}') >= 1


LABELS = '{model="ranker",version="1"}'


async def test_a_caller_that_hangs_up_is_not_scored(tmp_path: Path, start_worker: StartWorker) -> None:
    """Its request leaves the queue instead of taking a place in a run."""
    write_version(tmp_path / "repository", layers=SLOW_LAYERS, golden_rows=2)
    worker = start_worker(**{**SLOW, "queue_rows_max": 8})
    body = encode_request(request_inputs(2, 60))
    url = worker.url + "/v2/models/ranker/infer"
    async with aiohttp.ClientSession() as http:
        calls = [asyncio.ensure_future(http.post(url, data=body.content, headers=body.headers)) for _ in range(3)]
        pending = "nv_inference_pending_request_count" + LABELS
        await wait_until_async(lambda: asyncio.to_thread(lambda: worker.metric(pending) == 3), 5, "all three to wait")
        calls[2].cancel()
        await asyncio.gather(*calls[:2])
        cancelled = 'meridian_inference_drops_total{reason="cancelled"}'
        await wait_until_async(lambda: asyncio.to_thread(lambda: worker.metric(cancelled) == 1), 5, "the withdrawal")
    assert worker.metric("nv_inference_count" + LABELS) == 4


async def test_a_run_that_does_not_end_makes_the_worker_not_ready(tmp_path: Path, start_worker: StartWorker) -> None:
    """The reason names how long; once it ended all is well again."""
    write_version(tmp_path / "repository", layers=SLOW_LAYERS, golden_rows=2)
    worker = start_worker(**SLOW, stuck_run_seconds=0.02)
    async with InferenceClient(worker.url) as client:
        call = asyncio.ensure_future(client.infer(request_inputs(2, 60), deadline_in(10.0)))
        said: list[tuple[int, str]] = []
        while not call.done():
            said.append(await asyncio.to_thread(worker.get, "/readyz?verbose"))
        await call
    assert any(status == 503 and "a run of the engine has not ended" in text for status, text in said)
    assert worker.get("/readyz")[0] == 200


async def test_a_term_signal_drains(tmp_path: Path, start_worker: StartWorker) -> None:
    """What was taken is answered, and the process ends by itself with code 0."""
    write_version(tmp_path / "repository", layers=SLOW_LAYERS, golden_rows=2)
    worker = start_worker(**SLOW)
    inputs = request_inputs(2, 60)
    async with InferenceClient(worker.url) as client:
        await client.infer(inputs, deadline_in(10.0))
        under_way = [asyncio.ensure_future(client.infer(inputs, deadline_in(10.0))) for _ in range(2)]
        pending = "nv_inference_pending_request_count" + LABELS
        await wait_until_async(lambda: asyncio.to_thread(lambda: worker.metric(pending) == 2), 5, "both to be taken")
        worker.signal(signal.SIGTERM)
        for scored in await asyncio.gather(*under_way):
            np.testing.assert_allclose(scored.scores, expected_scores(inputs), atol=1e-4)
    assert await asyncio.to_thread(worker.wait) == 0


def test_without_any_good_version_it_ends_with_68_and_says_why(tmp_path: Path, start_worker: StartWorker) -> None:
    """One flipped byte in the only version: the log's last line names the file and the next step."""
    path = write_version(tmp_path / "repository") / "model.onnx"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    worker = start_worker(wait=False)
    assert worker.wait() == ExitCode.MODEL_REFUSED
    last = json.loads(worker.log_text().strip().splitlines()[-1])
    assert "model.onnx has sha256" in last["reason"]
    assert "Never edit a version" in last["reason"]
    assert last["exit_code"] == 68


def test_an_empty_repository_ends_with_68_and_the_command_that_fills_it(
    tmp_path: Path, start_worker: StartWorker
) -> None:
    """Nothing to serve is a matter for an operator too."""
    (tmp_path / "repository").mkdir()
    worker = start_worker(wait=False)
    assert worker.wait() == ExitCode.MODEL_REFUSED
    assert "python -m models.train" in worker.log_text()


def test_cuda_on_a_machine_without_it_ends_with_68(tmp_path: Path, start_worker: StartWorker) -> None:
    """device=cuda never means the CPU."""
    write_version(tmp_path / "repository")
    worker = start_worker(wait=False, device="cuda")
    assert worker.wait() == ExitCode.MODEL_REFUSED
    assert "device=cuda was asked for" in worker.log_text()


def test_a_wrong_setting_ends_with_64(tmp_path: Path, start_worker: StartWorker) -> None:
    """Buckets that do not rise are a mistake in a setting, not in a model."""
    write_version(tmp_path / "repository")
    worker = start_worker(wait=False, batch_buckets="8,4")
    assert worker.wait() == ExitCode.BAD_SETTINGS


def test_at_start_the_newest_good_version_serves_instead_of_a_bad_one(
    tmp_path: Path, start_worker: StartWorker
) -> None:
    """A proven older model ranks better than none; that it is not the one asked for shows."""
    write_version(tmp_path / "repository", "1")
    write_version(tmp_path / "repository", "2", golden_shift=0.01)
    worker = start_worker()
    assert index(worker)["1"] == ("READY", "")
    state, reason = index(worker)["2"]
    assert state == "UNAVAILABLE"
    assert "golden row 69" in reason
    assert worker.metric("meridian_inference_degraded") == 1
    assert worker.metric('meridian_inference_model_loads_total{model="ranker",outcome="refused"}') == 1


async def test_the_champion_alias_decides_which_version_serves(tmp_path: Path, start_worker: StartWorker) -> None:
    """At start and at each load; a setting overrides it."""
    folders = {version: write_version(tmp_path / "repository", version) for version in ("1", "2", "3")}
    (tmp_path / "var").mkdir()
    store = FileStore(tmp_path / "var" / "coordination.json")
    await promote(store, "2", verify_manifest(folders["2"]))
    worker = await asyncio.to_thread(start_worker)
    assert index(worker)["2"][0] == "READY"
    await promote(store, "1", verify_manifest(folders["1"]))
    assert (await asyncio.to_thread(load, worker))[1]["version"] == "1"
    other = await asyncio.to_thread(lambda: start_worker(model_version="3"))
    assert index(other)["3"][0] == "READY"


@pytest.mark.parametrize("damage", ["byte", "golden"])
def test_a_refused_load_leaves_the_old_version_serving(tmp_path: Path, start_worker: StartWorker, damage: str) -> None:
    """A changed file or a wrong golden set: 409 with the reason, and version 1 answers as before."""
    write_version(tmp_path / "repository", "1")
    worker = start_worker()
    folder = write_version(tmp_path / "repository", "2", golden_shift=0.01 if damage == "golden" else 0.0)
    if damage == "byte":
        content = bytearray((folder / "model.onnx").read_bytes())
        content[100] ^= 1
        (folder / "model.onnx").write_bytes(content)
    status, answer = load(worker)
    assert (status, answer["code"]) == (409, "model_refused")
    assert ("model.onnx has sha256" if damage == "byte" else "golden row 69, candidate 3") in answer["error"]
    assert index(worker)["1"][0] == "READY"
    assert index(worker)["2"][0] == "UNAVAILABLE"
    assert worker.get("/readyz")[0] == 200
    write_manifest(folder)
    if damage == "golden":
        write_version(tmp_path / "repository", "3")
        assert load(worker)[1]["version"] == "3"


async def test_the_client_follows_a_version_with_other_inputs(tmp_path: Path, start_worker: StartWorker) -> None:
    """More tensors than version 1 takes are given; version 2 takes one more, and gets it without a failed call."""
    write_version(tmp_path / "repository", "1")
    worker = start_worker()
    inputs = request_inputs(1, 50, with_items=True)
    only_feats = {"candidate_feats": inputs["candidate_feats"]}
    async with InferenceClient(worker.url) as client:
        first = await client.infer(inputs, deadline_in(10.0))
        np.testing.assert_allclose(first.scores, expected_scores(only_feats), atol=1e-4)
        write_version(tmp_path / "repository", "2", with_items=True)
        assert (await asyncio.to_thread(load, worker))[0] == 200
        second = await client.infer(inputs, deadline_in(10.0))
        assert second.model_version == "ranker/2"
        np.testing.assert_allclose(second.scores, expected_scores(inputs), atol=1e-4)
        with pytest.raises(InferenceRefused, match="'candidate_items', which was not given"):
            await client.infer(only_feats, deadline_in(10.0))


async def test_twenty_reloads_under_traffic_fail_nothing_and_keep_no_memory(
    tmp_path: Path, start_worker: StartWorker
) -> None:
    """Each swap happens between two requests, and what an old version held goes back."""
    for version in ("1", "2"):
        write_version(tmp_path / "repository", version, bias=float(version), layers=40, golden_rows=4)
    worker = start_worker(batch_buckets="1,8", candidate_buckets="64")
    inputs = request_inputs(1, 50)
    seen: set[str] = set()
    stop = asyncio.Event()

    async def traffic(client: InferenceClient) -> None:
        while not stop.is_set():
            scored = await client.infer(inputs, deadline_in(5.0))
            seen.add(scored.model_version)
            expected = expected_scores(inputs, bias=float(scored.model_version.removeprefix("ranker/")))
            np.testing.assert_allclose(scored.scores, expected, atol=1e-4)

    async with InferenceClient(worker.url) as client:
        callers = [asyncio.ensure_future(traffic(client)) for _ in range(2)]
        sizes: list[int] = []
        for number in range(24):
            assert (await asyncio.to_thread(load, worker, str(1 + number % 2)))[0] == 200
            sizes.append(worker.rss_kib())
        stop.set()
        await asyncio.gather(*callers)
    assert seen == {"ranker/1", "ranker/2"}
    wait_until(lambda: worker.rss_kib() < sizes[3] + (8 << 10), 5, "the memory of replaced versions to come back")
    failures = [line for line in worker.get("/metrics")[1].splitlines() if line.startswith("nv_inference_request_fail")]
    assert failures == []
