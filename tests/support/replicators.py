"""Regions made of a broker and a replicator process, on the ports that a deployment gives them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from infra.runtime.kafka import KafkaBroker, free_ports, port_is_free
from services.common.deployment import PORT_OFFSETS, Deployment, Site
from services.coordination.file import FileStore
from services.coordination.lives import LogCut, open_life, seal_life
from services.replicator.client import PartitionReport, ReplicationReport
from streams.copies import hole_end, origin_of
from streams.logs import consumer_settings, events_log, producer_settings
from tests.support.frames import make_topics
from tests.support.poll import wait_until

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 2


def site_of(region: str, broker: KafkaBroker) -> Site:
    """The site whose Kafka port is the broker's."""
    return Site(name=region, kind="region", host="127.0.0.1", base_port=broker.port - PORT_OFFSETS["kafka"])


def deployment_of(directory: Path, **brokers: KafkaBroker) -> Deployment:
    """A deployment of these regions, saved in `directory`."""
    sites = [site_of(region, broker) for region, broker in brokers.items()]
    found = Deployment(deployment_id="test", network="loopback", sites=sites, directory=str(directory))
    found.save()
    return found


@contextmanager
def broker_of_site(directory: Path) -> Iterator[KafkaBroker]:
    """A broker whose neighbouring ports are free: those that a deployment gives to the other processes of its site."""
    base = next(base for base in range(free_ports(1)[0], 32000) if all(map(port_is_free, range(base, base + 10))))
    ports = base + PORT_OFFSETS["kafka"], base + PORT_OFFSETS["controller"]
    broker = KafkaBroker(directory, *ports)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


class Lives:
    """The coordination store of a test: a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = FileStore(path)

    def open(self, region: str, broker: KafkaBroker) -> str:
        """Open the life of a region on its broker; returns the incarnation."""
        return asyncio.run(open_life(self.store, region, broker.cluster_id or "", 1)).incarnation

    def seal(self, incarnation: str, *cuts: LogCut) -> None:
        """Say that a life is over."""
        asyncio.run(seal_life(self.store, incarnation, "a test says so", 2, cuts))


class ReplicatorProcess:
    """Use as a context manager; `settings` are fields of ReplicatorSettings."""

    def __init__(
        self, region: str, incarnation: str, deployment: Deployment, lives: Lives, directory: Path, **settings: object
    ) -> None:
        site = deployment.site(region)
        self.url = site.url("replicator")
        self.log_path = directory / "replicator.log"
        directory.mkdir(parents=True, exist_ok=True)
        self._lives = lives
        self._process: subprocess.Popen[bytes] | None = None
        names = {
            "NAME": region,
            "INCARNATION": incarnation,
            "DATA_DIR": directory,
            "BOOTSTRAP": site.bootstrap,
            "PARTITIONS": PARTITIONS,
            "REPLICATOR_PORT": site.port("replicator"),
            "DEPLOYMENT": Path(deployment.directory) / "deployment.json",
        }
        settings = {"alarm_retry_seconds": 1.0, "checkpoint_interval_ms": 200, **settings}
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MERIDIAN_")},
            **{f"MERIDIAN_REGION_{name}": str(value) for name, value in names.items()},
            **{f"MERIDIAN_REPLICATOR_{name.upper()}": str(value) for name, value in settings.items()},
        }

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it is ready."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.replicator_main", str(self._lives.path)],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        wait_until(self._ready_or_gone, 60, f"the replicator to be ready; its log: {self.log_path}")
        assert self._process.poll() is None, self.log_path.read_text()[-4000:]
        return self

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(20)

    def report(self) -> ReplicationReport:
        """`GET /v1/replication`."""
        with urllib.request.urlopen(f"{self.url}/v1/replication", timeout=10) as answer:
            return msgspec.json.decode(answer.read(), type=ReplicationReport)

    def partition(self, log: str, partition: int = 0) -> PartitionReport:
        """The report of one partition."""
        found = self.report().log(log)
        assert found is not None, f"{log} is not copied"
        return found.partitions[partition]

    def wait_held(self, log: str, *held: int, timeout_seconds: float = 60) -> None:
        """Wait until the partitions are held so far."""
        wait_until(
            lambda: [self.partition(log, number).held for number in range(len(held))] == list(held),
            timeout_seconds,
            f"{log} to be held up to {held}; log: {self.log_path}",
        )

    def wait_alarm(self, words: str, timeout_seconds: float = 60) -> str:
        """Wait for an alarm that contains `words`; returns it."""
        found: list[str] = []

        def there() -> bool:
            found[:] = [alarm for alarm in self.report().alarms if words in alarm]
            return bool(found)

        wait_until(there, timeout_seconds, f"an alarm with {words!r}; log: {self.log_path}")
        return found[0]

    def accept_hole(self, **body: object) -> tuple[int, str]:
        """`POST /v1/holes`; returns status and text."""
        request = urllib.request.Request(
            f"{self.url}/v1/holes", data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def _ready_or_gone(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            return True
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def records_of(bootstrap: str, log: str, partition: int = 0) -> list[tuple[int, int, bytes | None]]:
    """(start, end, value) of each record of a log, in its own order, read to its end; an original stands for itself."""
    consumer = Consumer({**consumer_settings(bootstrap, "test"), "enable.partition.eof": True})
    found: list[tuple[int, int, bytes | None]] = []
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(log, partition), timeout=20)
        if low == high:
            return []
        consumer.assign([TopicPartition(log, partition, low)])
        while True:
            message = consumer.poll(20)
            assert message is not None
            if message.error() is not None:
                return found
            headers: Any = message.headers()
            origin, hole = origin_of(headers), hole_end(headers)
            start = message.offset() or 0 if origin is None else origin.offset
            found.append((start, start + 1 if hole is None else hole, message.value()))
    finally:
        consumer.close()


def prefix_of(records: list[tuple[int, int, bytes | None]]) -> list[bytes | None]:
    """What a reader takes: the values of the contiguous prefix, by the reader rule."""
    taken, following = [], 0
    for start, end, value in records:
        if start <= following < end:
            taken.append(value)
            following = end
    return taken


@dataclass
class Pair:
    """Two regions: east is copied into west."""

    east: KafkaBroker
    west: KafkaBroker
    deployment: Deployment
    lives: Lives
    directory: Path
    region: str
    incarnation: str
    own: str

    @property
    def log(self) -> str:
        """The events log that is copied."""
        return events_log(self.incarnation)

    def replicator(self, name: str = "west", **settings: object) -> ReplicatorProcess:
        """The replicator of west."""
        return ReplicatorProcess("west", self.own, self.deployment, self.lives, self.directory / name, **settings)

    def second_replicator(self) -> ReplicatorProcess:
        """Another copier into the same copies, which listens elsewhere."""
        found = self.replicator("second")
        port = free_ports(1)[0]
        found.url = f"http://127.0.0.1:{port}"
        found.environment["MERIDIAN_REGION_REPLICATOR_PORT"] = str(port)
        return found

    def write(self, first: int, count: int, partition: int = 0, log: str = "", padding: int = 20) -> None:
        """Acknowledged records at the origin, numbered."""
        producer = Producer(producer_settings(self.east.bootstrap))
        for number in range(first, first + count):
            value = f"record {number} ".encode() + b"x" * padding
            producer.produce(
                log or self.log, value, f"key {number}".encode(), partition, headers=[("n", b"%d" % number)]
            )
            producer.poll(0)
        assert producer.flush(60) == 0

    def assert_same(self, partition: int = 0, log: str = "") -> None:
        """What readers take from the copy is what the origin holds."""
        name = log or self.log
        original = [value for _, _, value in records_of(self.east.bootstrap, name, partition)]
        assert prefix_of(records_of(self.west.bootstrap, name, partition)) == original


def new_pair(west: KafkaBroker, east: KafkaBroker, directory: Path) -> Pair:
    """East is named after the test, because west's topics outlive it."""
    lives = Lives(directory / "lives.json")
    region = "e" + hashlib.blake2b(str(directory).encode(), digest_size=5).hexdigest()
    incarnation, own = lives.open(region, east), lives.open("west", west)
    deployment = deployment_of(directory, **{region: east, "west": west})
    make_topics(east.bootstrap, incarnation, PARTITIONS)
    return Pair(east, west, deployment, lives, directory, region, incarnation, own)
