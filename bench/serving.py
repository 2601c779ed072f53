"""What one core serves of each model version: rankings a second, latency at a steady rate, the protocol's cost.

    python -m bench.serving [FOLDER ...] [--candidates 100] [--seconds 3] [--rate 100]

FOLDERs are version folders (`repository/ranker/3`); without one, the newest that is shipped. For each, in this run:

* `bare`: ONNX Runtime alone, one thread, on a batch that is stacked already: the peer that nothing can beat;
* `ours`: what the worker does for such a batch: stack the requests, run, cut the answers. The two take turns, so what
  else the machine does hits both. `cpu` counts the process's own time on a core, which other processes do not change;
* `inside`: a worker in this process is given `--rate` requests a second, whether or not earlier ones were answered, and
  the time from when each was due to its scores is taken: queue, batching and threads, without HTTP;
* `protocol`: what reading a request and writing its answer takes, and what a request through HTTP to a worker process
  adds (queue and threads included), as shares of a bare run of one ranking.

The process is kept on one core but for the worker process, which is free. Prints one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import numpy as np
import onnxruntime

from bench.inference import Inputs, figures, plain_loop, requests_of, running_worker, through_worker
from models.registry import MODEL_FILE
from services.common.clock import SystemClock
from services.coordination import FileStore
from services.inference.codec import InferRequest, decode_request, encode_request, encode_response
from services.inference.engine import BatchItem, Session
from services.inference.repository import Repository
from services.inference.server import new_worker
from services.inference.settings import NO_STANDBY, InferenceSettings
from services.inference.signature import Buckets
from services.inference.worker import Worker

BATCHES = (1, 8, 16, 32)
ROUNDS = 20
CLOCK = SystemClock()


def settings_of(folder: Path) -> InferenceSettings:
    """A worker of this version alone, as it is set by default."""
    return InferenceSettings(
        model_repository=folder.parents[1],
        model=folder.parent.name,
        model_version=folder.name,
        standby_version=NO_STANDBY,
        intra_op_threads=1,
    )


def by_batch(folder: Path, requests: list[Inputs], seconds: float) -> dict[str, dict[str, float]]:
    """Rankings a second of ONNX Runtime alone and of the worker's own way, taking turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    bare = onnxruntime.InferenceSession(str(folder / MODEL_FILE), options, providers=["CPUExecutionProvider"])
    settings = settings_of(folder)
    ours = Session(folder / MODEL_FILE, settings.engine_options)
    buckets = Buckets(settings.batch_buckets, settings.candidate_buckets)
    names = [spec.name for spec in ours.signature.inputs]
    outputs = [node.name for node in bare.get_outputs()]
    found: dict[str, dict[str, float]] = {}
    for rows in BATCHES:
        chosen = [requests[place % len(requests)] for place in range(rows)]
        items = [BatchItem(inputs, ours.signature.check(inputs)) for inputs in chosen]
        stacked = {name: np.concatenate([inputs[name] for inputs in chosen]) for name in names}

        def peer(stacked: Inputs = stacked) -> object:
            return bare.run(outputs, stacked)

        def own(items: list[BatchItem] = items) -> object:
            return ours.split(ours.run(ours.stack(items, buckets)), items)

        found[str(rows)] = _turns(peer, own, rows, seconds)
    return found


def _turns(peer: Callable[[], object], own: Callable[[], object], rows: int, seconds: float) -> dict[str, float]:
    """Both for half of `seconds`, in `ROUNDS` turns each."""
    took: dict[str, list[float]] = {"bare": [], "bare_cpu": [], "ours": [], "ours_cpu": []}
    for work in (peer, own):
        work()
    for _ in range(ROUNDS):
        for name, work in (("bare", peer), ("ours", own)):
            started, cpu, runs = perf_counter(), process_time(), 0
            while not runs or perf_counter() - started < seconds / (2 * ROUNDS):
                work()
                runs += 1
            took[name].append((perf_counter() - started) / (runs * rows))
            took[f"{name}_cpu"].append((process_time() - cpu) / (runs * rows))
    per_ranking = {name: float(np.median(times)) for name, times in took.items()}
    rates = {f"{name}_per_second": round(1 / each, 1) for name, each in per_ranking.items()}
    return {**rates, "ratio_cpu": round(per_ranking["bare_cpu"] / per_ranking["ours_cpu"], 3)}


async def inside(folder: Path, requests: list[Inputs], rate: float, seconds: float) -> dict[str, float]:
    """Latency of a worker in this process under a steady rate."""
    with TemporaryDirectory() as directory:
        repository = Repository(folder.parents[1], folder.parents[1])

        async def nobody() -> list[str]:
            return []

        store = FileStore(Path(directory) / "coordination.json")
        worker, _ = new_worker(settings_of(folder), repository, store, nobody, CLOCK)
        try:
            await worker.start()
            return await _steady(worker, folder.parent.name, requests, rate, seconds)
        finally:
            await worker.close()


async def _steady(worker: Worker, model: str, requests: list[Inputs], rate: float, seconds: float) -> dict[str, float]:
    served = worker.table.find(model, None)
    took: list[float] = []

    async def ask(number: int, due: float) -> None:
        inputs = requests[number % len(requests)]
        await worker.infer(served, InferRequest("", inputs, (), True, None, None), by_number=True)
        took.append(perf_counter() - due)

    began = perf_counter()
    asking: list[asyncio.Task[None]] = []
    for number in range(round(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - perf_counter()))
        asking.append(asyncio.ensure_future(ask(number, due)))
    await asyncio.gather(*asking)
    return {**figures(took, perf_counter() - began), "runs": served.statistics.executions}


def codec(folder: Path, requests: list[Inputs]) -> float:
    """Seconds on the core to read one request and write its answer."""
    wanted = {spec.name for spec in Session(folder / MODEL_FILE, settings_of(folder).engine_options).signature.inputs}
    bodies = [encode_request({name: inputs[name] for name in wanted}) for inputs in requests]
    scores = {"scores": np.zeros((1, requests[0]["candidate_feats"].shape[1]), np.float32)}
    times: list[float] = []
    for _ in range(ROUNDS):
        cpu = process_time()
        for body in bodies:
            request = decode_request(body.content, str(body.header_length))
            encode_response("ranker", "1", request, scores)
        times.append((process_time() - cpu) / len(bodies))
    return float(np.median(times))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Everything about one version."""
    folder = folder.resolve()
    requests = requests_of(folder, options.candidates)
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        batches = by_batch(folder, requests, options.seconds)
        steady = asyncio.run(inside(folder, requests, options.rate, options.seconds))
        seconds = codec(folder, requests)
        floor = plain_loop(folder / MODEL_FILE, requests, options.seconds)
    finally:
        os.sched_setaffinity(0, everywhere)
    alone = {"model_version": folder.name, "standby_version": NO_STANDBY}
    with running_worker(folder.parents[1], folder.parent.name, **alone) as url:
        wire = asyncio.run(through_worker(url, folder.parent.name, requests, 1, options.seconds))
    bare_ms = 1000 / batches["1"]["bare_cpu_per_second"]
    return {
        "graph_bytes": (folder / MODEL_FILE).stat().st_size,
        "by_batch": batches,
        "inside": steady,
        "protocol": {
            "bare_ms": round(bare_ms, 4),
            "codec_ms": round(seconds * 1000, 4),
            "codec_share": round(seconds * 1000 / bare_ms, 3),
            "http_adds_p50_ms": round(wire["p50_ms"] - floor["p50_ms"], 3),
            "http_adds_share": round((wire["p50_ms"] - floor["p50_ms"]) / floor["p50_ms"], 3),
        },
    }


def show(name: str, found: dict[str, Any]) -> None:
    """A table for people."""
    print(f"{name}: {found['graph_bytes']} bytes of graph")
    print(f"  {'rows a run':>12}{'bare /s':>10}{'ours /s':>10}{'bare /cpu s':>13}{'ours /cpu s':>13}{'ours:bare':>11}")
    for rows, each in found["by_batch"].items():
        keys = ("bare_per_second", "ours_per_second", "bare_cpu_per_second", "ours_cpu_per_second", "ratio_cpu")
        widths = (10, 10, 13, 13, 11)
        print(f"  {rows:>12}" + "".join(f"{each[key]:>{width}}" for key, width in zip(keys, widths, strict=True)))
    print("  inside the worker: " + ", ".join(f"{key} {value}" for key, value in found["inside"].items()))
    print("  protocol: " + ", ".join(f"{key} {value}" for key, value in found["protocol"].items()))


def main() -> None:
    """Print a table a version, then the JSON line."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving")
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="version folders")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second inside the worker")
    options = parser.parse_args()
    shipped = InferenceSettings().model_repository
    newest = Repository(shipped, shipped).versions("ranker")[:1]
    folders = options.folders or [shipped / "ranker" / number for number in newest]
    report: dict[str, Any] = {"candidates": options.candidates, "load_before": round(os.getloadavg()[0], 2)}
    for folder in folders:
        name = str(folder)
        report[name] = measure(folder, options)
        show(name, report[name])
    print(json.dumps(report))


if __name__ == "__main__":
    sys.exit(main())
