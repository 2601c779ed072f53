"""Copying between two brokers: the replicator beside MirrorMaker 2, on the same records in the same run.

    python -m bench.replication [--records 300000] [--value-bytes 200] [--no-mirror]

Both copy the same topic from one broker to another on this machine, one after the other, each in one process. The rate
counts from the first record that arrives to the last, so that starting up costs neither anything. Added latency is
what a consumer at the target waits longer than one at the origin, at a hundred records a second. The jars of
MirrorMaker 2 are fetched once, with pinned sums (`mirror-artifacts.txt`). Prints one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.runtime.kafka import KafkaBroker, find_home, free_ports, port_is_free
from infra.runtime.kafka_install import fetch_all, read_artifacts
from services.common.clock import SystemClock
from services.common.deployment import PORT_OFFSETS, Deployment, Site
from services.common.region_settings import RegionSettings
from services.common.settings import load
from services.coordination.file import FileStore
from services.coordination.lives import open_life
from services.replicator.lives_feed import OnLives, read_lives
from services.replicator.serve import ReplicatorProcess
from services.replicator.settings import ReplicatorSettings
from streams.logs import TOPIC_SETTINGS, consumer_settings, events_log, producer_settings

ROOT = Path(__file__).parent.parent
ARTIFACTS = Path(__file__).with_name("mirror-artifacts.txt")
PARTITIONS = 8
START_SECONDS = 120.0
LATENCY_RECORDS = 500
LATENCY_PAUSE_SECONDS = 0.01


def copier(store: Path) -> None:
    """A replicator without an etcd: its list of lives is a file. Runs in a process of its own."""

    async def serve() -> None:
        region, settings, clock = load(RegionSettings), load(ReplicatorSettings), SystemClock()

        async def feed(on_lives: OnLives) -> None:
            await read_lives(FileStore(store), on_lives, clock, 1.0)

        await ReplicatorProcess(region, region.load_deployment(), settings, clock).run(feed, asyncio.Event())

    asyncio.run(serve())


@contextmanager
def broker(directory: Path) -> Iterator[KafkaBroker]:
    """A broker whose neighbouring ports are free, as a site's are."""
    base = next(n for n in range(free_ports(1)[0], 32000) if all(map(port_is_free, range(n, n + 10))))
    found = KafkaBroker(directory, base + PORT_OFFSETS["kafka"], base + PORT_OFFSETS["controller"], 384)
    try:
        found.start()
        yield found
    finally:
        found.stop()


def fill(bootstrap: str, topic: str, records: int, value_bytes: int) -> None:
    """Make the topic and write the records, spread over its partitions."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1, config=TOPIC_SETTINGS)])[topic].result(30)
    producer = Producer({**producer_settings(bootstrap), "linger.ms": 20, "batch.size": 1 << 18})
    noise = os.urandom(value_bytes)
    for number in range(records):
        value = b"%016d" % number + noise[16:]
        while True:
            try:
                producer.produce(topic, value, b"%08d" % number, number % PARTITIONS, headers=[("n", b"1")])
                break
            except BufferError:
                producer.poll(0.05)
        producer.poll(0)
    producer.flush(60)


def arrived(admin: Consumer, topic: str) -> int:
    """How many records the copy holds."""
    try:
        found = admin.list_topics(timeout=10).topics.get(topic)
        if found is None or found.error is not None:
            return 0
        return sum(admin.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in found.partitions)
    except KafkaException:
        return 0  # A topic that is just being made has no leader yet.


def rate(bootstrap: str, topic: str, records: int, process: psutil.Process) -> tuple[float, float]:
    """Records a second from the first to the last that arrives, and microseconds of CPU that each cost the copier.

    On a machine that others use as well, the second says more than the first.
    """
    consumer = Consumer(consumer_settings(bootstrap, "bench"))
    deadline = time.monotonic() + START_SECONDS
    first: tuple[float, int, float] | None = None
    count = 0
    try:
        while time.monotonic() < deadline:
            count, now, used = arrived(consumer, topic), time.monotonic(), cpu_seconds(process)
            if first is None and count:
                first, deadline = (now, count, used), now + START_SECONDS
            if first is not None and count >= records:
                copied = max(count - first[1], 1)
                return copied / max(now - first[0], 1e-6), 1e6 * (used - first[2]) / copied
            time.sleep(0.02)
    finally:
        consumer.close()
    raise SystemExit(f"{topic} holds {count} of {records} records after {START_SECONDS:g} s")


def cpu_seconds(process: psutil.Process) -> float:
    """What it used so far."""
    used = process.cpu_times()
    return float(used.user + used.system)


class Listener:
    """Notes when each of the latency records arrives at one place."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.seen: dict[bytes, float] = {}
        self._ending = threading.Event()
        self._consumer = Consumer(consumer_settings(bootstrap, "bench-latency"))
        places = [TopicPartition(topic, p) for p in range(PARTITIONS)]
        ends = [self._consumer.get_watermark_offsets(place, timeout=20)[1] for place in places]
        self._consumer.assign([TopicPartition(topic, p, end) for p, end in enumerate(ends)])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                self.seen.setdefault(message.value() or b"", time.monotonic())
        self._consumer.close()

    def close(self) -> None:
        """End it."""
        self._ending.set()
        self._thread.join()


def added_latency(origin: str, target: str, topic: str, copied: str, tag: str) -> dict[str, float]:
    """Milliseconds from a record's arrival at the origin's consumer to that at the target's."""
    here, there = Listener(origin, topic), Listener(target, copied)
    producer = Producer(producer_settings(origin))
    time.sleep(1.0)
    for number in range(LATENCY_RECORDS):
        producer.produce(topic, f"{tag} {number}".encode(), partition=number % PARTITIONS)
        producer.poll(0)
        time.sleep(LATENCY_PAUSE_SECONDS)
    producer.flush(30)
    deadline = time.monotonic() + 20
    while len(there.seen) < LATENCY_RECORDS and time.monotonic() < deadline:
        time.sleep(0.05)
    here.close()
    there.close()
    took = sorted(1000 * (there.seen[value] - when) for value, when in here.seen.items() if value in there.seen)
    if len(took) < LATENCY_RECORDS * 0.99:
        raise SystemExit(f"only {len(took)} of {LATENCY_RECORDS} records arrived for the latency of {tag}")
    return {"p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}


def measure(
    start: Callable[[], subprocess.Popen[bytes]],
    east: str,
    west: str,
    topic: str,
    copied: str,
    records: int,
) -> dict[str, float]:
    """Start a copier and measure it."""
    process = start()
    try:
        watched = psutil.Process(process.pid)
        per_second, cpu_us = rate(west, copied, records, watched)
        memory = watched.memory_info().rss / 2**20
        latency = added_latency(east, west, topic, copied, copied)
        began, before = time.monotonic(), cpu_seconds(watched)
        time.sleep(5)
        idle = 100 * (cpu_seconds(watched) - before) / (time.monotonic() - began)
    finally:
        process.kill()
        process.wait()
    return {
        "records_per_second": round(per_second),
        "cpu_us_per_record": round(cpu_us, 2),
        "added_p50_ms": round(latency["p50"], 2),
        "added_p99_ms": round(latency["p99"], 2),
        "rss_mib": round(memory),
        "idle_core_percent": round(idle, 1),
    }


def start_ours(directory: Path, east: KafkaBroker, west: KafkaBroker) -> Callable[[], subprocess.Popen[bytes]]:
    """The replicator, into west."""
    sites = [
        Site(name=name, kind="region", host="127.0.0.1", base_port=found.port - PORT_OFFSETS["kafka"])
        for name, found in (("east", east), ("west", west))
    ]
    deployment = Deployment(deployment_id="bench", network="loopback", sites=sites, directory=str(directory))
    file, store = deployment.save(), directory / "lives.json"
    for site, found in zip(sites, (east, west), strict=True):
        asyncio.run(open_life(FileStore(store), site.name, found.cluster_id or "", 1))
    region = {
        "NAME": "west",
        "INCARNATION": "west-1",
        "DATA_DIR": directory / "west-data",
        "BOOTSTRAP": west.bootstrap,
        "PARTITIONS": PARTITIONS,
        "REPLICATOR_PORT": sites[1].port("replicator"),
        "DEPLOYMENT": file,
    }
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MERIDIAN_")},
        **{f"MERIDIAN_REGION_{name}": str(value) for name, value in region.items()},
        "MALLOC_ARENA_MAX": "2",
    }
    command = [sys.executable, "-m", "bench.replication", "--copier", str(store)]
    return lambda: subprocess.Popen(command, cwd=ROOT, env=environment)  # noqa: S603 - our own module


def start_mirror(directory: Path, east: str, west: str, topic: str) -> Callable[[], subprocess.Popen[bytes]]:
    """MirrorMaker 2 with its defaults, for one topic and one direction."""
    home = find_home()
    libs = Path(sys.prefix) / "share" / "mirror" / "libs"
    fetch_all(list(read_artifacts(ARTIFACTS.read_text().splitlines())), libs)
    lines = {
        "clusters": "east, west",
        "east.bootstrap.servers": east,
        "west.bootstrap.servers": west,
        "east->west.enabled": "true",
        "east->west.topics": topic,
        "west->east.enabled": "false",
        "replication.factor": "1",
        "offset-syncs.topic.replication.factor": "1",
        "checkpoints.topic.replication.factor": "1",
        "heartbeats.topic.replication.factor": "1",
        "config.storage.replication.factor": "1",
        "offset.storage.replication.factor": "1",
        "status.storage.replication.factor": "1",
        "emit.checkpoints.enabled": "false",
        "emit.heartbeats.enabled": "false",
        "sync.topic.acls.enabled": "false",
    }
    properties = directory / "mirror.properties"
    properties.write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
    jars = ":".join(map(str, [*home.jars, *sorted(libs.glob("*.jar"))]))
    command = [str(home.java), "-Xmx512m", "-cp", jars, "org.apache.kafka.connect.mirror.MirrorMaker", str(properties)]

    def start() -> subprocess.Popen[bytes]:
        with (directory / "mirror.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - what was fetched above

    return start


def main() -> None:
    """Print a table, then the JSON line."""
    parser = argparse.ArgumentParser(prog="python -m bench.replication")
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--value-bytes", type=int, default=200)
    parser.add_argument("--no-mirror", action="store_true")
    parser.add_argument("--copier", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.copier:
        copier(options.copier)
        return
    topic = events_log("east-1")
    report: dict[str, dict[str, float]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        broker(Path(folder) / "e") as east,
        broker(Path(folder) / "w") as west,
    ):
        directory = Path(folder)
        fill(east.bootstrap, topic, options.records, options.value_bytes)
        ways = {"ours": (start_ours(directory, east, west), topic)}
        if not options.no_mirror:
            start = start_mirror(directory, east.bootstrap, west.bootstrap, topic)
            ways["mirrormaker2"] = (start, f"east.{topic}")
        for name, (start, copied) in ways.items():
            found = measure(start, east.bootstrap, west.bootstrap, topic, copied, options.records)
            report[name] = found
            print(f"{name:14}" + "  ".join(f"{key} {value:g}" for key, value in found.items()), flush=True)
    ratios = {}
    if not options.no_mirror:
        ours, theirs = report["ours"], report["mirrormaker2"]
        ratios = {
            "throughput_ratio_to_mirrormaker2": round(ours["records_per_second"] / theirs["records_per_second"], 2),
            "cpu_ratio_to_mirrormaker2": round(ours["cpu_us_per_record"] / theirs["cpu_us_per_record"], 3),
        }
    print(json.dumps({**report, **ratios}))


if __name__ == "__main__":
    main()
