"""What the inference worker costs and what its batching wins, against the plainest peer in the same run.

    python -m bench.inference [--repository FOLDER] [--model NAME] [--seconds 3] [--candidates 200]

Three things score the same requests, one after the other on the same machine: a loop that calls ONNX Runtime for one
request at a time (no HTTP, no queue: the floor of latency, and what batching has to beat), the worker with batching
off, and the worker as it is set by default. Requests come closed-loop from 1, 8 and 32 callers in this process, so the
load generator's own work is part of every figure of the worker. Times are noisy: read the ratios. Prints one JSON
object as its last line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

from services.common.clock import SystemClock
from services.inference.client import InferenceClient
from services.inference.engine import Session
from services.inference.loading import read
from services.inference.settings import InferenceSettings

CONCURRENCIES = (1, 8, 32)
CLOCK = SystemClock()

Inputs = dict[str, NDArray[Any]]


def requests_of(folder: Path, candidates: int) -> list[Inputs]:
    """One request a golden row, its candidates repeated or cut to `candidates`."""
    golden = read(folder).golden
    width = golden.scores.shape[1]
    places = np.arange(candidates) % width
    requests: list[Inputs] = []
    for row in range(min(64, len(golden.scores))):
        whole = {name: array[row : row + 1] for name, array in golden.inputs.items()}
        requests.append(
            {
                name: np.ascontiguousarray(array[:, places]) if name.startswith("candidate_") else array
                for name, array in whole.items()
            }
        )
    return requests


def plain_loop(model_path: Path, requests: list[Inputs], seconds: float) -> dict[str, float]:
    """The peer: one ONNX Runtime call a request, nothing else."""
    session = Session(model_path, InferenceSettings().engine_options)
    took: list[float] = []
    end = CLOCK.monotonic() + seconds
    for request in requests:
        session.run(request)
    while (started := CLOCK.monotonic()) < end:
        session.run(requests[len(took) % len(requests)])
        took.append(CLOCK.monotonic() - started)
    return figures(took, sum(took))


async def through_worker(
    url: str, model: str, requests: list[Inputs], callers: int, seconds: float
) -> dict[str, float]:
    """Closed loop: each caller sends its next request when the last is answered."""
    took: list[float] = []
    async with InferenceClient(url, model=model) as client:
        await client.infer(requests[0], CLOCK.unix_ms() + 5000)
        before = await counters(url)
        started = CLOCK.monotonic()
        end = started + seconds

        async def call(number: int) -> None:
            while (sent := CLOCK.monotonic()) < end:
                await client.infer(requests[(number + len(took)) % len(requests)], CLOCK.unix_ms() + 5000)
                took.append(CLOCK.monotonic() - sent)

        await asyncio.gather(*(call(number) for number in range(callers)))
        elapsed = CLOCK.monotonic() - started
        after = await counters(url)
    runs = after["count"] - before["count"]
    return {**figures(took, elapsed), "rows_per_run": round((after["sum"] - before["sum"]) / runs, 2)}


async def counters(url: str) -> dict[str, float]:
    """Sum and count of the batch-size histogram."""
    async with aiohttp.ClientSession() as http, http.get(url + "/metrics") as answer:
        lines = (await answer.text()).splitlines()
    prefix = "meridian_inference_batch_rows_"
    return {
        kind: next(float(line.split()[1]) for line in lines if line.startswith(prefix + kind + " "))
        for kind in ("sum", "count")
    }


def figures(took: list[float], elapsed: float) -> dict[str, float]:
    """Requests a second and latencies."""
    p50, p99 = np.percentile(np.array(took) * 1000, [50, 99])
    return {"per_second": round(len(took) / elapsed, 1), "p50_ms": round(p50, 3), "p99_ms": round(p99, 3)}


@contextmanager
def running_worker(repository: Path, model: str, **settings: object) -> Iterator[str]:
    """A worker process of its own; yields its address once it is ready."""
    with socket.socket() as probe, TemporaryDirectory() as directory:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        changed = {"model_repository": repository, "model": model, **settings}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MERIDIAN_")},
            "MERIDIAN_REGION_INFERENCE_PORT": str(port),
            "MERIDIAN_REGION_DATA_DIR": directory,
            **{f"MERIDIAN_INFERENCE_{name.upper()}": str(value) for name, value in changed.items()},
        }
        command = [sys.executable, "-m", "services.inference", "--log-level", "error"]
        process = subprocess.Popen(command, env=environment)  # noqa: S603 - our own module
        try:
            url = f"http://127.0.0.1:{port}"
            asyncio.run(until_ready(url, process))
            yield url
        finally:
            process.terminate()
            process.wait(10)


async def until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait for /readyz, or end when the process did."""
    end = CLOCK.monotonic() + 60
    async with aiohttp.ClientSession() as http:
        while CLOCK.monotonic() < end:
            if process.poll() is not None:
                raise SystemExit(f"the worker ended with code {process.returncode}")
            try:
                async with http.get(url + "/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await CLOCK.sleep(0.05)
    raise SystemExit("the worker was not ready within 60 s")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All of it."""
    versions = sorted((options.repository / options.model).iterdir(), key=lambda found: found.name.zfill(9))
    folder = [found for found in versions if found.name.isdecimal()][-1]
    requests = requests_of(folder, options.candidates)
    report: dict[str, Any] = {"plain_loop": plain_loop(folder / "model.onnx", requests, options.seconds)}
    ways: dict[str, dict[str, object]] = {"worker_without_batching": {"batch_buckets": "1"}, "worker": {}}
    for name, settings in ways.items():
        with running_worker(options.repository, options.model, **settings) as url:
            for callers in CONCURRENCIES:
                found = asyncio.run(through_worker(url, options.model, requests, callers, options.seconds))
                report[f"{name}_{callers}"] = found
    floor = report["plain_loop"]["per_second"]
    report["throughput_ratio_to_plain_loop"] = {
        str(callers): round(report[f"worker_{callers}"]["per_second"] / floor, 3) for callers in CONCURRENCIES
    }
    report["throughput_ratio_to_no_batching"] = {
        str(callers): round(
            report[f"worker_{callers}"]["per_second"] / report[f"worker_without_batching_{callers}"]["per_second"], 3
        )
        for callers in CONCURRENCIES
    }
    report["added_latency_p50_ms"] = round(report["worker_1"]["p50_ms"] - report["plain_loop"]["p50_ms"], 3)
    return report


def main() -> None:
    """Print a table, then the JSON line."""
    parser = argparse.ArgumentParser(prog="python -m bench.inference")
    parser.add_argument("--repository", type=Path, default=InferenceSettings().model_repository)
    parser.add_argument("--model", default="ranker")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--candidates", type=int, default=200)
    report = measure(parser.parse_args())
    print(f"{'':32}{'req/s':>10}{'p50 ms':>10}{'p99 ms':>10}{'rows/run':>10}")
    for name, row in report.items():
        if isinstance(row, dict) and "p50_ms" in row:
            columns = [row["per_second"], row["p50_ms"], row["p99_ms"], row.get("rows_per_run", 1)]
            print(f"{name:32}" + "".join(f"{column:>10}" for column in columns))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
