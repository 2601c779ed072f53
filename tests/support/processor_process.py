"""A real processor process for tests: started, killed, asked, with its own data directory and ports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.support.frames import PARTITIONS
from tests.support.inference_worker import free_port
from tests.support.poll import wait_until

ROOT = Path(__file__).resolve().parents[2]


class ProcessorProcess:
    """Use as a context manager; `settings` are fields of ProcessorSettings, `region` more of RegionSettings."""

    def __init__(
        self,
        directory: Path,
        bootstrap: str,
        incarnation: str,
        *,
        partitions: int = PARTITIONS,
        inference_port: int | None = None,
        region: Mapping[str, object] | None = None,
        **settings: object,
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.log_path = directory / "processor.log"
        directory.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        region = {
            "NAME": "east",
            "INCARNATION": incarnation,
            "DATA_DIR": directory,
            "BOOTSTRAP": bootstrap,
            "PARTITIONS": partitions,
            "PROCESSOR_PORT": self.port,
            "INFERENCE_PORT": inference_port or free_port(),
            **(region or {}),
        }
        settings = {"clock_events": 10, **settings}
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MERIDIAN_")},
            **{f"MERIDIAN_REGION_{name}": str(value) for name, value in region.items()},
            **{f"MERIDIAN_PROCESSOR_{name.upper()}": str(value) for name, value in settings.items()},
        }

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, *, wait: bool = True) -> Self:
        """Start it and, unless told otherwise, wait until it is ready."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.processor"], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, timeout_seconds: float = 40.0) -> float:
        """Wait until /readyz says so; returns how long that took."""
        started = time.monotonic()
        wait_until(self._ready_or_gone, timeout_seconds, f"the processor to be ready; its log: {self.log_path}")
        assert self.returncode is None, self.log_text()[-4000:]
        return time.monotonic() - started

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def wait_exit(self, timeout_seconds: float = 40.0) -> int:
        """Return its exit code once it has ended."""
        assert self._process is not None
        return self._process.wait(timeout_seconds)

    def terminate(self, timeout_seconds: float = 15.0) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout_seconds)

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def log_text(self) -> str:
        """What it logged."""
        return self.log_path.read_text()

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def state(self) -> dict[str, Any]:
        """`GET /v1/state`; empty while it cannot be asked."""
        try:
            status, body = self.get("/v1/state")
        except OSError:
            return {}
        found: dict[str, Any] = json.loads(body)
        return found if status == 200 else {}

    def wait_events(self, count: int, timeout_seconds: float = 40.0) -> dict[str, Any]:
        """Wait until that many distinct events are folded; returns the state then."""
        wait_until(
            lambda: self.state().get("events", 0) >= count, timeout_seconds, f"{count} events; log: {self.log_path}"
        )
        return self.state()

    def metric(self, sample: str) -> float:
        """The value of one sample, given as it stands on /metrics with its labels; 0 when it is not there."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(sample + " "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def rss_mib(self) -> float:
        """Its resident memory."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    def cpu_seconds(self) -> float:
        """CPU time that it used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _ready_or_gone(self) -> bool:
        if self.returncode is not None:
            return True
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False
