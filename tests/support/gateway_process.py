"""A real gateway process for tests: started, stopped, killed, asked; and the raw log behind it, read without it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp
from confluent_kafka import Consumer, TopicPartition

from infra.runtime.kafka import free_ports
from streams.frame import Columns, decode_frame
from streams.logs import consumer_settings
from tests.support.poll import wait_until

ROOT = Path(__file__).resolve().parents[2]


class GatewayProcess:
    """Use as an async context manager; `settings` are fields of GatewaySettings, `environment` further variables."""

    def __init__(
        self,
        directory: Path,
        bootstrap: str,
        incarnation: str,
        *,
        processor_port: int | None = None,
        environment: Mapping[str, str] | None = None,
        **settings: object,
    ) -> None:
        self.directory = directory
        self.port, unused = free_ports(2)
        self.log_path = directory / "gateway.log"
        directory.mkdir(parents=True, exist_ok=True)
        region = {
            "NAME": "east",
            "INCARNATION": incarnation,
            "DATA_DIR": directory,
            "BOOTSTRAP": bootstrap,
            "GATEWAY_PORT": self.port,
            "PROCESSOR_PORT": processor_port or unused,
        }
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MERIDIAN_")},
            **{f"MERIDIAN_REGION_{name}": str(value) for name, value in region.items()},
            **{f"MERIDIAN_GATEWAY_{name.upper()}": str(value) for name, value in settings.items()},
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        self.session = self.new_session()
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()
        self.kill()

    def new_session(self) -> aiohttp.ClientSession:
        """Connections are not kept: the process behind them may be another one by the next request."""
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        return aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", connector=connector)

    def start(self, *, wait: bool = True) -> None:
        """Start it and, unless told otherwise, wait until the log is open."""
        opened = self.log_text().count('"event": "open"')
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.gateway"], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        if wait:
            wait_until(
                lambda: self.returncode is not None or self.log_text().count('"event": "open"') > opened,
                30,
                f"the gateway to open; its log: {self.log_path}",
            )
            assert self.returncode is None, self.log_text()[-3000:]

    @property
    def returncode(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.poll() if self._process else None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def log_text(self) -> str:
        """What it logged so far."""
        return self.log_path.read_text() if self.log_path.exists() else ""

    def wait_end(self, timeout_seconds: float = 20.0) -> int:
        """Wait until it has ended by itself; returns the exit code."""
        wait_until(
            lambda: self.returncode is not None, timeout_seconds, f"the gateway to end; its log: {self.log_path}"
        )
        assert self.returncode is not None
        return self.returncode

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.wait_end()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    async def post(
        self,
        path: str,
        body: object,
        media: str = "application/cloudevents-batch+json",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and decoded body of the answer."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": media, **(headers or {})}
        async with self.session.post(path, data=raw, headers=headers, allow_redirects=False) as response:
            return response.status, dict(response.headers), json.loads(await response.read())

    async def ask(self, path: str, body: object) -> tuple[int, dict[str, str], Any]:
        """Ask for a ranking."""
        return await self.post(path, body, "application/json")

    async def ready(self) -> tuple[bool, str]:
        """Whether it says that it is ready, and its lines."""
        async with self.session.get("/readyz?verbose") as response:
            return response.status == 200, await response.text()

    async def figure(self, name: str) -> float:
        """The sum of a metric over its labels."""
        async with self.session.get("/metrics") as response:
            lines = (await response.text()).splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def raw_frames(bootstrap: str, log: str, timeout_seconds: float = 20.0) -> dict[tuple[int, int], Columns]:
    """Every frame of a log, by partition and offset; read with a plain consumer, without any of our readers."""
    consumer = Consumer({**consumer_settings(bootstrap, f"raw-{os.getpid()}"), "enable.partition.eof": True})
    try:
        partitions = consumer.list_topics(log, timeout=timeout_seconds).topics[log].partitions
        ends = {
            p: consumer.get_watermark_offsets(TopicPartition(log, p), timeout=timeout_seconds)[1] for p in partitions
        }
        consumer.assign([TopicPartition(log, p, 0) for p in partitions])
        frames: dict[tuple[int, int], Columns] = {}
        deadline = time.monotonic() + timeout_seconds
        while len(frames) < sum(ends.values()):
            assert time.monotonic() < deadline, f"{len(frames)} of {sum(ends.values())} records in time"
            for message in consumer.consume(1000, 0.2):
                if message.error() is None:
                    where = (message.partition(), message.offset())
                    frames[where] = decode_frame(message.value(), message.headers())
        return frames
    finally:
        consumer.close()
