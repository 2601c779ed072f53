"""A real Prometheus beside what a test starts, and what it answers; skips the test where there is none."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.runtime.kafka import free_ports
from infra.runtime.network import RegionNetwork
from tests.support.poll import wait_until

LOOPBACK = "127.0.0.1"
GET = (
    "import sys, urllib.request, urllib.error\n"
    "try: sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())\n"
    "except urllib.error.HTTPError as e: sys.stdout.write(e.read().decode())\n"
)


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that runs, on this machine or in the outside network of a deployment."""

    url: str
    network: RegionNetwork | None = None

    def get(self, path: str) -> str:
        """What it answers, from where it listens; empty when it does not."""
        argv = [sys.executable, "-I", "-S", "-c", GET, f"{self.url}{path}"]
        command = argv if self.network is None else self.network.command(None, argv)
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout

    def ask(self, path: str, **words: str) -> Any:
        """What its API answers, without the envelope."""
        answer = json.loads(self.get(f"/api/v1/{path}?{urllib.parse.urlencode(words)}"))
        assert answer["status"] == "success", f"{words.get('query', path)}: {answer.get('error')}"
        return answer["data"]

    def query(self, expression: str, at: float) -> list[dict[str, Any]]:
        """The samples of an expression at a unix time."""
        found = self.ask("query", query=expression, time=str(at))
        return list(found["result"]) if found["resultType"] == "vector" else [{"metric": {}, "value": found["result"]}]

    def over(self, expression: str, begin: float, end: float, step_seconds: int = 5) -> list[dict[str, Any]]:
        """The series of an expression between two unix times."""
        words = {"query": expression, "start": str(begin), "end": str(end), "step": str(step_seconds)}
        return list(self.ask("query_range", **words)["result"])

    def up(self, at: float) -> dict[tuple[str, str], bool]:
        """Of each region and process, whether it was scraped."""
        found = self.query("up", at)
        return {(each["metric"]["region"], each["metric"]["process"]): each["value"][1] == "1" for each in found}

    def alerts(self, begin: float, end: float, state: str = "firing") -> dict[str, float]:
        """Of each alert that was in `state` between two unix times, how many seconds after the first it began."""
        found: dict[str, float] = {}
        for series in self.over(f'ALERTS{{alertstate="{state}"}}', begin, end):
            name, first = series["metric"]["alertname"], float(series["values"][0][0]) - begin
            found[name] = min(first, found.get(name, first))
        return dict(sorted(found.items(), key=lambda each: each[1]))


@contextmanager
def running_prometheus(
    config: Path, directory: Path, network: RegionNetwork | None = None, more: Sequence[str] = ()
) -> Iterator[Prometheus]:
    """Start Prometheus with this configuration; ended when the block is left."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (apt-get install prometheus): nothing is scraped here")
    (port,) = free_ports(1)
    directory.mkdir(parents=True, exist_ok=True)
    argv = [program, f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}", "--log.level=warn",
            f"--web.listen-address={LOOPBACK}:{port}", *more]  # fmt: skip
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            argv if network is None else network.command(None, argv),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    found = Prometheus(f"http://{LOOPBACK}:{port}", network)
    try:
        wait_until(lambda: "Ready" in found.get("/-/ready") or process.poll() is not None, 60, "Prometheus to be ready")
        assert process.poll() is None, (directory / "prometheus.log").read_text()
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
