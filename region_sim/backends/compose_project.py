"""One project of Docker Compose: what is asked of `docker` and `docker compose`, and in which words.

The command line is used, not a library: it is there wherever somebody has containers, and whoever reads a drill's
history can type the same.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from region_sim.errors import DrillBroken

PROFILE = "core"
DOCKER_SECONDS_MAX = 60.0
OUTSIDE = "outside"
"""The container in whose network the clients of a drill are."""
WAN = "wan"
PARTS = ("net", "etcd", "kafka", "inference")
"""Containers of a site beside the one that has its name, the supervisor's."""


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """What the containers of one deployment are called, and where they are described."""

    name: str
    files: list[str]
    environment: dict[str, str]
    """Which images, and what gateways tell apps: variables of the compose file."""
    hosts_file: str
    """What the names of the sites mean to clients: see `ContainerHands.tell_hosts`."""

    def container(self, service: str) -> str:
        """The name of a service's container."""
        return f"{self.name}-{service}-1"

    def network(self, network: str) -> str:
        """The name of a network."""
        return f"{self.name}_{network}"

    def volume(self, volume: str) -> str:
        """The name of a volume."""
        return f"{self.name}_{volume}"

    def compose(self, arguments: Sequence[str], seconds_max: float) -> str:
        """Carry out a verb of `docker compose`. Blocks. Raises DrillBroken."""
        files = [word for file in self.files for word in ("--file", file)]
        environment = {**os.environ, **self.environment, "COMPOSE_IGNORE_ORPHANS": "true"}
        command = ["compose", "--project-name", self.name, *files, "--profile", PROFILE, *arguments]
        return docker(command, seconds_max, environment)


def docker(arguments: Sequence[str], seconds_max: float = DOCKER_SECONDS_MAX, env: dict[str, str] | None = None) -> str:
    """Run `docker` and return what it printed. Blocks. Raises DrillBroken."""
    try:
        # A session of its own: Ctrl-C on a terminal is for us, and what was begun is then ended in order.
        done = subprocess.run(
            ["docker", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds_max,
            env=env,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as late:
        raise DrillBroken(f"`docker {' '.join(arguments)}` did not end within {seconds_max:g} s") from late
    except OSError as error:
        raise DrillBroken(f"`docker` cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise DrillBroken(f"`docker {' '.join(arguments)}` ended with {done.returncode}:\n{tail}")
    return done.stdout


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """How one container stands."""

    name: str
    pid: int
    """Of its first process, on this machine; 0: it does not run."""
    health: str
    """By its health check; empty: it has none."""
    addresses: dict[str, str]
    """By network, where it is attached."""


def inspect(names: Sequence[str]) -> dict[str, Container]:
    """How containers stand, by name; what does not exist is left out. Blocks. Raises DrillBroken."""
    done = subprocess.run(
        ["docker", "container", "inspect", *names],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=DOCKER_SECONDS_MAX,
    )
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    except json.JSONDecodeError as error:
        raise DrillBroken(f"`docker container inspect` printed no JSON: {done.stdout[-300:]}") from error
    if not found and "no such container" not in done.stderr.lower():
        raise DrillBroken(f"`docker container inspect` failed: {done.stderr.strip()[-300:]}")
    containers = [_container(each) for each in found]
    return {container.name: container for container in containers}


def mountpoint(volume: str) -> Path:
    """Where a volume lies on this machine. Blocks. Raises DrillBroken."""
    return Path(docker(["volume", "inspect", "--format", "{{.Mountpoint}}", volume]).strip())


def _container(found: dict[str, Any]) -> Container:
    state = found["State"]
    attached = found["NetworkSettings"]["Networks"] or {}
    return Container(
        name=found["Name"].removeprefix("/"),
        pid=state["Pid"],
        health=(state.get("Health") or {}).get("Status", ""),
        addresses={network: each["IPAddress"] for network, each in attached.items()},
    )
