"""A region for one demonstration: its own directory, free ports, and down again in all cases.

It is started and ended by `meridian up` and `meridian down`, as a user would. Only its own directory is ever removed,
and a process is killed by its number together with its start time, so never a stranger's.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.runtime.kafka import free_ports
from services.demo.errors import DemoError
from services.region import run_file
from streams.logs import events_log

PORT_NAMES = ("gateway", "processor", "inference", "kafka", "controller")
MARK = ".meridian-demo"
"""Stands in every directory that a demonstration made, so that no other one is removed."""
UP_SECONDS_MAX = 120
DOWN_SECONDS_MAX = 90


@dataclass(frozen=True, slots=True)
class DemoRegion:
    """A running region."""

    home: Path
    environment: dict[str, str]
    addresses: dict[str, str]
    incarnation: str

    @property
    def log(self) -> str:
        """The events log."""
        return events_log(self.incarnation)

    def process(self, name: str) -> run_file.ProcessRecord:
        """A supervised process as the supervisor last wrote it down. Raises DemoError."""
        record = run_file.read(self.home)
        found = [process for process in record.processes if process.name == name] if record is not None else []
        if not found:
            raise DemoError(f"{self.home / run_file.RUN_FILE} names no {name}; see the logs in {self.home / 'logs'}")
        return found[0]

    def kill(self, name: str) -> int:
        """Kill a process without warning; returns its number. Raises DemoError when it does not live."""
        process = self.process(name)
        if process.identity is None or not run_file.send(process.identity, signal.SIGKILL):
            raise DemoError(f"{name} does not run, so it cannot be killed: {process.reason or process.phase}")
        return process.identity.pid

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a `meridian` command in the region's environment."""
        return subprocess.run(  # noqa: S603 - this project's own command
            [sys.executable, "-m", "services.cli", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )


@contextmanager
def running_region(home: Path, settings: dict[str, str] | None = None) -> Iterator[DemoRegion]:
    """Start a region in `home`, fresh, and take it down at the end whatever happens. Raises DemoError.

    `settings` are further environment variables of its processes.
    """
    home = home.absolute()
    remove_previous(home)
    home.mkdir(parents=True)
    (home / MARK).touch()
    ports = dict(zip(PORT_NAMES, free_ports(len(PORT_NAMES)), strict=True))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MERIDIAN_REGION_")},
        "MERIDIAN_REGION_DATA_DIR": str(home),
        # A demonstration wipes its record, so it must have a broker of its own.
        "MERIDIAN_KAFKA_BOOTSTRAP": "",
        **{f"MERIDIAN_REGION_{name.upper()}_PORT": str(port) for name, port in ports.items()},
        **(settings or {}),
    }
    try:
        yield _start(home, environment)
    finally:
        take_down(home, environment)


def remove_previous(home: Path) -> None:
    """Remove what an earlier demonstration left, ending it first. Raises DemoError for anybody else's directory."""
    if not home.exists():
        return
    if not (home / MARK).exists():
        raise DemoError(
            f"{home} was not made by a demonstration: move it away, or choose another directory with --home"
        )
    take_down(home, {**os.environ, "MERIDIAN_REGION_DATA_DIR": str(home)})
    shutil.rmtree(home)


def take_down(home: Path, environment: dict[str, str]) -> None:
    """End the region in `home`. Raises DemoError when something of it lives on."""
    record = run_file.read(home)
    if record is None:
        return
    subprocess.run(
        [sys.executable, "-m", "services.cli", "down"],
        env=environment,
        stdout=subprocess.DEVNULL,
        check=False,
        timeout=DOWN_SECONDS_MAX,
    )
    identities = [record.supervisor, *(process.identity for process in record.processes)]
    alive = [identity.pid for identity in identities if identity is not None and run_file.is_alive(identity)]
    if alive:
        raise DemoError(f"processes {alive} of the region in {home} live on: end them by hand")


def _start(home: Path, environment: dict[str, str]) -> DemoRegion:
    try:
        up = subprocess.run(
            [sys.executable, "-m", "services.cli", "up", "--detach", "--json"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=UP_SECONDS_MAX,
        )
    except subprocess.TimeoutExpired:
        raise DemoError(
            f"the region was not ready within {UP_SECONDS_MAX} s; see the logs in {home / 'logs'}"
        ) from None
    if up.returncode != 0:
        raise DemoError(f"`meridian up` ended with {up.returncode}; see the logs in {home / 'logs'}")
    addresses = json.loads(up.stdout.splitlines()[-1])["addresses"]
    incarnation = (home / "incarnation").read_text().strip()
    return DemoRegion(home, environment, addresses, incarnation)
