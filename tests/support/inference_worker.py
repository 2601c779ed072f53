"""A real inference worker process for tests, on a free port, with its own repository and data directory."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.support.poll import wait_until

ROOT = Path(__file__).resolve().parents[2]


class InferenceWorker:
    """Start it, stop it, hurt it. `settings` are fields of InferenceSettings."""

    def __init__(self, directory: Path, repository: Path, **settings: object) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = directory / "inference.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MERIDIAN_")},
            "MERIDIAN_REGION_INFERENCE_PORT": str(self.port),
            "MERIDIAN_REGION_DATA_DIR": str(directory / "var"),
            "MERIDIAN_INFERENCE_MODEL_REPOSITORY": str(repository),
            **{f"MERIDIAN_INFERENCE_{name.upper()}": str(value) for name, value in settings.items()},
        }

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    def start(self, *, wait: bool = True) -> InferenceWorker:
        """Start it and, unless told otherwise, wait until it is ready."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.inference"],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        if wait:
            wait_until(self._ready_or_gone, 60, f"the worker to be ready; its log: {self.log_path}")
            assert self._process.poll() is None, self.log_text()
        return self

    def stop(self) -> int:
        """Ask it to end (SIGTERM), wait, and return its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Return its exit code once it has ended."""
        assert self._process is not None
        return self._process.wait(30)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def log_text(self) -> str:
        """What it logged."""
        return self.log_path.read_text()

    def rss_kib(self) -> int:
        """Its resident memory."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def metric(self, sample: str) -> float:
        """The value of one sample, given as it stands on /metrics with its labels; 0 when it is not there."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(sample + " "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def _ready_or_gone(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            return True
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def deadline_in(seconds: float) -> int:
    """Unix milliseconds, so far ahead."""
    return int((time.time() + seconds) * 1000)
