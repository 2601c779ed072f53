"""Events a second through HTTP batches into a real broker, and where the time of one event goes.

Gateway, broker and this load generator share the machine; the generator posts batches that were encoded beforehand,
so that what is measured is the gateway. The stages are measured alone, in this process, on the same events.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import psutil
from confluent_kafka.admin import AdminClient, NewTopic

from infra.runtime.kafka import free_ports, running_broker
from services.gateway.packer import FrameLimits, Packer
from streams.cloudevents import CloudEvent, read_batch
from streams.events import EventReader, Received
from streams.frame import encode_frame
from streams.logs import TOPIC_SETTINGS, partition_of, topics_of
from streams.pseudonym import KEY_BYTES, Pseudonyms

ROOT = Path(__file__).parent.parent
INCARNATION = "bench-1"
PARTITIONS = 8
BATCH = {"Content-Type": "application/cloudevents-batch+json"}


def batch(first: int, count: int) -> bytes:
    """Clicks of many users on a shop of 3,000 items, as an app would post them."""
    events = [
        {
            "specversion": "1.0",
            "id": f"click-{number}",
            "source": "/apps/bench",
            "type": "meridian.click.v1",
            "time": "2026-01-01T00:00:00.125Z",
            "datacontenttype": "application/json",
            "data": {
                "user": f"user-{number * 7919 % 50_000}",
                "item": f"item-{number * 31 % 3000}",
                "query": f"query number {number % 500}",
                "position": number % 10 + 1,
            },
        }
        for number in range(first, first + count)
    ]
    return json.dumps(events).encode()


def stages(raw: bytes, count: int) -> dict[str, float]:
    """Microseconds an event spends in each stage, the best of several runs."""
    reader = EventReader(Pseudonyms(bytes(KEY_BYTES)))
    now_ms = 1_800_000_000_000
    envelopes = [event for event in read_batch(raw, count) if isinstance(event, CloudEvent)]
    received = [reader.read(event, now_ms) for event in envelopes]
    rows = [event.row for event in received]

    def pack(events: list[Received]) -> None:
        packer: Packer[int] = Packer(FrameLimits())
        for event in events:
            packer.add(partition_of(event.partition_key, PARTITIONS), event.partition_key, event.row, 0, 0.0)

    work = {
        "envelopes": lambda: read_batch(raw, count),
        "events": lambda: [reader.read(event, now_ms) for event in envelopes],
        "packing": lambda: pack(received),
        "frames_of_125": lambda: [encode_frame(rows[first : first + 125]) for first in range(0, count, 125)],
    }
    return {name: round(_best_seconds(run) * 1e6 / count, 2) for name, run in work.items()}


def _best_seconds(run: Callable[[], object], repeats: int = 15) -> float:
    times = []
    for _ in range(repeats):
        began = time.thread_time()
        run()
        times.append(time.thread_time() - began)
    return min(times)


def start_gateway(directory: str, bootstrap: str) -> tuple[subprocess.Popen[bytes], str]:
    """A gateway process and its address."""
    port, unused = free_ports(2)
    region = {
        "NAME": "bench",
        "INCARNATION": INCARNATION,
        "DATA_DIR": directory,
        "BOOTSTRAP": bootstrap,
        "GATEWAY_PORT": port,
        "PROCESSOR_PORT": unused,
    }
    environment = {**os.environ, **{f"MERIDIAN_REGION_{name}": str(value) for name, value in region.items()}}
    command = [sys.executable, "-m", "services.gateway", "--log-level", "warning"]
    return subprocess.Popen(command, cwd=ROOT, env=environment), f"http://127.0.0.1:{port}"  # noqa: S603 - our own


async def load(
    url: str, raw: list[bytes], connections: int, gateway: psutil.Process
) -> tuple[float, float, list[float]]:
    """Post all batches over some connections: seconds in all, CPU seconds of the gateway, seconds of each request."""
    waiting = iter(raw)
    seconds: list[float] = []

    async def app(session: aiohttp.ClientSession) -> None:
        for body in waiting:
            began = time.perf_counter()
            async with session.post("/v1/events", data=body, headers=BATCH) as response:
                await response.read()
                if response.status != 200:
                    raise RuntimeError(f"the gateway answered {response.status}: {await response.text()}")
            seconds.append(time.perf_counter() - began)

    async with aiohttp.ClientSession(url) as session:
        while True:
            try:
                async with session.post("/v1/events", data=raw[0], headers=BATCH) as response:
                    if response.status == 200:
                        break
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.1)
        began, cpu_began = time.perf_counter(), sum(gateway.cpu_times()[:2])
        await asyncio.gather(*(app(session) for _ in range(connections)))
        return time.perf_counter() - began, sum(gateway.cpu_times()[:2]) - cpu_began, seconds


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Run everything once."""
    raw = [batch(first, options.batch) for first in range(0, options.events, options.batch)]
    with tempfile.TemporaryDirectory() as directory, running_broker(Path(directory) / "kafka") as broker:
        topics = [NewTopic(name, PARTITIONS, 1, config=TOPIC_SETTINGS) for name in topics_of(INCARNATION)]
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        for made in admin.create_topics(topics).values():
            made.result()
        process, url = start_gateway(directory, broker.bootstrap)
        try:
            usage = psutil.Process(process.pid)
            seconds, cpu_seconds, requests = asyncio.run(load(url, raw, options.connections, usage))
            memory = usage.memory_info().rss
        finally:
            process.terminate()
            process.wait(20)
    return {
        "events_per_second": round(options.events / seconds),
        "gateway_cpu_us_per_event": round(cpu_seconds * 1e6 / options.events, 1),
        "request_p50_ms": round(statistics.median(requests) * 1000, 1),
        "request_p99_ms": round(statistics.quantiles(requests, n=100)[98] * 1000, 1),
        "gateway_memory_mb": round(memory / 1e6),
        "stages_us_per_event": stages(raw[0], options.batch),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=4)
    options = parser.parse_args()
    print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
