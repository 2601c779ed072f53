"""Events a second from the inbox into the events log, through one worker, with what requests cost meanwhile.

The records lie in a real broker beforehand, half in binary and half in structured mode. Two peers in the same run: the
same events as HTTP batches of 1,000 through the same gateway, and the least that any consumer of such records does:
read them and decode their JSON, in this process, without checking or writing anything. Single events are posted all
the while, and before while nothing is moved: what they wait is what the inbox costs others.

Each part has its share of `--seconds`. On a machine that is too slow for all events in that time a part ends with those
that it managed: rates are over these, and `events` says how many. What does not move at all ends with a sentence.
"""

import argparse
import asyncio
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
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
HTTP_EVENTS_MAX = 100_000
"""The rate of batches does not depend on how many there are."""
PARTS = 4
STUCK_SECONDS = 60.0
END_SECONDS = 20.0


class Stuck(Exception):
    """A part of the measurement does not move."""


class Share:
    """The time that one part may take, and whether it gets anywhere."""

    def __init__(self, what: str, count: int, seconds: float) -> None:
        self._what = what
        self._count = count
        self._began = self._moved_at = time.perf_counter()
        self._ends_at = self._began + seconds
        self._seen = 0.0
        print(f"{what}: at most {seconds:.0f} s for {count} events", file=sys.stderr, flush=True)

    def goes_on(self, seen: float) -> bool:
        """Whether there is more to do and time to do it. Raises Stuck."""
        now = time.perf_counter()
        if seen > self._seen:
            self._seen, self._moved_at = seen, now
        elif now - self._moved_at > STUCK_SECONDS:
            raise Stuck(
                f"{self._what}: nothing moved for {STUCK_SECONDS:.0f} s, after {seen:.0f} of {self._count} events. "
                "Look at what the gateway and the broker say above; fewer --events help where memory or disk is short."
            )
        return seen < self._count and now < self._ends_at

    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self._began


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


def fill(bootstrap: str, count: int, seconds: float) -> tuple[int, float]:
    """Publish records until all are there or time is up; returns how many arrived, and how many a second."""
    producer = Producer({**producer_settings(bootstrap), "linger.ms": 20, "queue.buffering.max.messages": 20_000})
    share = Share("publishing", count, seconds)
    arrived, sent = 0, 0

    def delivered(error: KafkaError | None, _: Message) -> None:
        nonlocal arrived
        if error is not None:
            raise Stuck(f"the broker did not take a record: {error.str()}")
        arrived += 1

    for value, headers in records(count):
        while share.goes_on(arrived):
            try:
                producer.produce(inbox_topic(INCARNATION), value, headers=dict(headers), on_delivery=delivered)
                sent += 1
                break
            except BufferError:
                producer.poll(0.1)
        else:
            break
        producer.poll(0)
    while arrived < sent:  # what was sent lies in the inbox sooner or later: it counts
        share.goes_on(arrived)
        producer.poll(0.1)
    return arrived, arrived / share.seconds()


def plain_loop(bootstrap: str, count: int, seconds: float) -> float:
    """Records a second of reading them and decoding their JSON, nothing else."""
    consumer = Consumer(consumer_settings(bootstrap, "bench-plain"))
    consumer.assign([TopicPartition(inbox_topic(INCARNATION), p, 0) for p in range(PARTITIONS)])
    share = Share("reading with a bare consumer", count, seconds)
    seen = 0
    while share.goes_on(seen):
        for message in consumer.consume(5000, 0.1):
            if message.error() is None:
                json.loads(message.value() or b"")
                message.headers()
                seen += 1
    rate = seen / share.seconds()
    consumer.close()
    return rate


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


async def drain(url: str, count: int, gateway: psutil.Process, seconds_max: float) -> dict[str, Any]:
    """Wait until `count` records are moved or time is up; rates count from the first that is seen moved."""
    done = asyncio.Event()
    share = Share("moving", count, seconds_max)
    async with aiohttp.ClientSession(url) as session:
        probing = asyncio.create_task(probe(session, done))
        began: tuple[float, float, float] | None = None
        worker: psutil.Process | None = None
        while share.goes_on(now := await moved(session)):
            if now and began is None:
                worker = gateway.children()[0]
                began = (time.perf_counter(), now, sum(worker.cpu_times()[:2]))
                gateway_cpu = sum(gateway.cpu_times()[:2])
            await asyncio.sleep(LOOK_SECONDS)
        if began is None or worker is None:
            raise Stuck("all was moved before anybody looked: take more --events")
        seconds, events = time.perf_counter() - began[0], now - began[1]
        done.set()
        latencies = await probing
        return {
            "events": round(now),
            "events_per_second": round(events / seconds),
            "worker_cpu_us_per_event": round((sum(worker.cpu_times()[:2]) - began[2]) * 1e6 / events, 1),
            "gateway_cpu_us_per_event": round((sum(gateway.cpu_times()[:2]) - gateway_cpu) * 1e6 / events, 1),
            "worker_memory_mb": round(worker.memory_info().rss / 1e6),
            "single_events": spread(latencies),
        }


def end(process: subprocess.Popen[bytes]) -> None:
    """End the gateway whatever state it is in: what was measured counts all the same."""
    process.send_signal(signal.SIGCONT)  # it may be stopped
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"the gateway did not end within {END_SECONDS:.0f} s: it is killed", file=sys.stderr)
        process.kill()
        process.wait()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything once. Raises Stuck."""
    share_seconds = options.seconds / PARTS
    with tempfile.TemporaryDirectory() as directory, running_broker(Path(directory) / "kafka") as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        make_topics(admin, [*topics_of(INCARNATION), *queues_of(INCARNATION)], PARTITIONS)
        process, url = start_gateway(directory, broker.bootstrap)
        try:
            usage = psutil.Process(process.pid)
            http_events = min(options.events, HTTP_EVENTS_MAX)
            raw = [batch(first, BATCH_EVENTS) for first in range(0, http_events, BATCH_EVENTS)]
            Share("HTTP batches", http_events, share_seconds)
            http_seconds, http_cpu, _ = asyncio.run(
                asyncio.wait_for(load(url, raw, options.connections, usage), share_seconds)
            )

            async def idle() -> list[float]:
                async with aiohttp.ClientSession(url) as session:
                    return await probe(session, asyncio.Event(), IDLE_PROBES)

            quiet = asyncio.run(idle())
            process.send_signal(signal.SIGSTOP)  # what is published now is not read at once
            published, published_rate = fill(broker.bootstrap, options.events, share_seconds)
            plain_rate = round(plain_loop(broker.bootstrap, published, share_seconds))
            process.send_signal(signal.SIGCONT)
            found = asyncio.run(drain(url, published, usage, share_seconds))
        except TimeoutError:
            raise Stuck(f"HTTP batches: not done within {share_seconds:.0f} s; give more --seconds") from None
        finally:
            end(process)
    http_rate = round(len(raw) * BATCH_EVENTS / http_seconds)
    return {
        "inbox": found,
        "http_batches": {
            "events_per_second": http_rate,
            "gateway_cpu_us_per_event": round(http_cpu * 1e6 / (len(raw) * BATCH_EVENTS), 1),
        },
        "plain_loop_events_per_second": plain_rate,
        "published_per_second": round(published_rate),
        "inbox_to_http": round(found["events_per_second"] / http_rate, 2),
        "inbox_to_plain_loop": round(found["events_per_second"] / plain_rate, 2),
        "single_events_idle": spread(quiet),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.inbox", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=400.0, help="for all parts together, starting excepted")
    options = parser.parse_args()
    try:
        print(json.dumps(measure(options)))
    except (Stuck, RuntimeError, aiohttp.ClientError, psutil.Error) as error:
        sys.exit(f"no result: {error}")


if __name__ == "__main__":
    main()
