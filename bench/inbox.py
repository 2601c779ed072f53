"""Events a second from the inbox into the events log, through one worker, with what requests cost meanwhile.

The records lie in a real broker beforehand, half in binary and half in structured mode. Two peers in the same run: the
same events as HTTP batches of 1,000 through the same gateway, and the least that any consumer of such records does:
read them and decode their JSON, in this process, without checking or writing anything. Single events are posted all
the while, and before while nothing is moved: what they wait is what the inbox costs others.
"""

import argparse
import asyncio
import json
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from bench.gateway import INCARNATION, PARTITIONS, batch, load, start_gateway
from infra.runtime.kafka import running_broker
from services.region.broker import make_topics
from streams.logs import consumer_settings, inbox_topic, producer_settings, queues_of, topics_of

BATCH_EVENTS = 1000
PROBE_SECONDS = 0.02
LOOK_SECONDS = 0.1
IDLE_PROBES = 300
PERCENTILE_99 = 98


def records(count: int) -> Iterator[tuple[bytes, dict[str, bytes]]]:
    """Value and headers of each record, modes in turn."""
    for first in range(0, count, BATCH_EVENTS):
        for number, event in enumerate(json.loads(batch(first, min(BATCH_EVENTS, count - first)))):
            if number % 2:
                yield json.dumps(event).encode(), {"content-type": b"application/cloudevents+json"}
                continue
            data = json.dumps(event.pop("data")).encode()
            headers = {"content-type": event.pop("datacontenttype").encode()}
            yield data, headers | {f"ce_{name}": value.encode() for name, value in event.items()}


def fill(bootstrap: str, count: int) -> float:
    """Publish all records; returns the seconds that it took."""
    producer = Producer({**producer_settings(bootstrap), "linger.ms": 20, "queue.buffering.max.messages": 500_000})
    began = time.perf_counter()
    for value, headers in records(count):
        while True:
            try:
                producer.produce(inbox_topic(INCARNATION), value, headers=dict(headers))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush(60)
    return time.perf_counter() - began


def plain_loop(bootstrap: str, count: int) -> float:
    """Seconds to read all records and decode their JSON, nothing else."""
    consumer = Consumer(consumer_settings(bootstrap, "bench-plain"))
    consumer.assign([TopicPartition(inbox_topic(INCARNATION), p, 0) for p in range(PARTITIONS)])
    seen, began = 0, time.perf_counter()
    while seen < count:
        for message in consumer.consume(5000, 0.1):
            if message.error() is None:
                json.loads(message.value() or b"")
                message.headers()
                seen += 1
    seconds = time.perf_counter() - began
    consumer.close()
    return seconds


async def probe(session: aiohttp.ClientSession, until: asyncio.Event, count: int = 0) -> list[float]:
    """Seconds that single events wait for their acknowledgement, posted one after the other."""
    seconds: list[float] = []
    headers = {"Content-Type": "application/cloudevents+json"}
    while not until.is_set() and not (count and len(seconds) >= count):
        body = json.dumps({**json.loads(batch(10**9 + len(seconds), 1))[0]}).encode()
        began = time.perf_counter()
        async with session.post("/v1/events", data=body, headers=headers) as response:
            await response.read()
            if response.status == 200:
                seconds.append(time.perf_counter() - began)
        await asyncio.sleep(PROBE_SECONDS)
    return seconds


def spread(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    if len(seconds) < 2:
        return {}
    found = statistics.quantiles(seconds, n=100)[PERCENTILE_99]
    return {"p50_ms": round(statistics.median(seconds) * 1000, 1), "p99_ms": round(found * 1000, 1)}


async def moved(session: aiohttp.ClientSession) -> float:
    """Records that the gateway says it moved."""
    async with session.get("/metrics") as response:
        text = await response.text()
    found = [line for line in text.splitlines() if line.startswith('meridian_inbox_records_total{outcome="moved"}')]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


async def drain(url: str, count: int, first: int, gateway: psutil.Process) -> dict[str, Any]:
    """Wait until `count` records more than `first` are moved; rates count from the first that is seen moved."""
    done = asyncio.Event()
    async with aiohttp.ClientSession(url) as session:
        probing = asyncio.create_task(probe(session, done))
        began: tuple[float, float, float] | None = None
        worker: psutil.Process | None = None
        while (now := await moved(session)) < first + count:
            if now > first and began is None:
                worker = gateway.children()[0]
                began = (time.perf_counter(), now, sum(worker.cpu_times()[:2]))
                gateway_cpu = sum(gateway.cpu_times()[:2])
            await asyncio.sleep(LOOK_SECONDS)
        if began is None or worker is None:
            raise RuntimeError("all was moved before anybody looked: take more --events")
        seconds, events = time.perf_counter() - began[0], now - began[1]
        done.set()
        latencies = await probing
        return {
            "events_per_second": round(events / seconds),
            "worker_cpu_us_per_event": round((sum(worker.cpu_times()[:2]) - began[2]) * 1e6 / events, 1),
            "gateway_cpu_us_per_event": round((sum(gateway.cpu_times()[:2]) - gateway_cpu) * 1e6 / events, 1),
            "worker_memory_mb": round(worker.memory_info().rss / 1e6),
            "single_events": spread(latencies),
        }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything once."""
    with tempfile.TemporaryDirectory() as directory, running_broker(Path(directory) / "kafka") as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        make_topics(admin, [*topics_of(INCARNATION), *queues_of(INCARNATION)], PARTITIONS)
        process, url = start_gateway(directory, broker.bootstrap)
        try:
            usage = psutil.Process(process.pid)
            raw = [batch(first, BATCH_EVENTS) for first in range(0, options.events, BATCH_EVENTS)]
            http_seconds, http_cpu, _ = asyncio.run(load(url, raw, options.connections, usage))

            async def idle() -> list[float]:
                async with aiohttp.ClientSession(url) as session:
                    return await probe(session, asyncio.Event(), IDLE_PROBES)

            quiet = asyncio.run(idle())
            process.send_signal(signal.SIGSTOP)  # what is published now is not read at once
            fill_seconds = fill(broker.bootstrap, options.events)
            plain_seconds = plain_loop(broker.bootstrap, options.events)
            process.send_signal(signal.SIGCONT)
            found = asyncio.run(drain(url, options.events, 0, usage))
        finally:
            process.terminate()
            process.wait(20)
    http_rate = round(options.events / http_seconds)
    plain_rate = round(options.events / plain_seconds)
    return {
        "inbox": found,
        "http_batches": {
            "events_per_second": http_rate,
            "gateway_cpu_us_per_event": round(http_cpu * 1e6 / options.events, 1),
        },
        "plain_loop_events_per_second": plain_rate,
        "published_per_second": round(options.events / fill_seconds),
        "inbox_to_http": round(found["events_per_second"] / http_rate, 2),
        "inbox_to_plain_loop": round(found["events_per_second"] / plain_rate, 2),
        "single_events_idle": spread(quiet),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.inbox", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--connections", type=int, default=4)
    options = parser.parse_args()
    print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
