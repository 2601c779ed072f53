"""What is asked of Docker before anything is built or started, and what to do when it cannot."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

COMPOSE_PLUGIN: Final = "github.com/docker/compose/v2"
COMPOSE_VERSION: Final = "v2.40.3"


class ContainersUnavailable(Exception):
    """Something that containers need is not there; the message says what, and what to do."""


def check_daemon() -> None:
    """Return when Docker and Compose 2 can be used. Raises ContainersUnavailable."""
    if shutil.which("docker") is None:
        raise ContainersUnavailable(
            "Docker is not installed.\n  Next: install Docker Engine and its Compose plugin (Debian: `apt-get "
            "install docker.io iptables`, then `make compose-plugin`). `make demo` needs no containers."
        )
    answer = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        said = answer.stderr.strip().splitlines()[-1:] or ["it gave no reason"]
        raise ContainersUnavailable(
            f"the Docker daemon does not answer: {said[0]}\n  Likely: it does not run, or this user may not use it.\n"
            "  Next: `systemctl start docker` (or `dockerd` by hand); add the user to the group docker."
        )
    compose = subprocess.run(["docker", "compose", "version", "--short"], capture_output=True, text=True, check=False)
    if compose.returncode != 0:
        raise ContainersUnavailable(
            "this Docker has no `docker compose` (Compose 2); docker-compose 1.29 cannot read the file.\n"
            "  Next: install the package docker-compose-plugin of Docker's repository; or `make compose-plugin`, which "
            f"builds {COMPOSE_VERSION} from its source for this user."
        )


def check_room(needed_bytes: int) -> None:
    """Raise ContainersUnavailable when Docker's disk has less room than this."""
    root = _output(["docker", "info", "--format", "{{.DockerRootDir}}"]).strip()
    path = Path(root) if root and os.access(root, os.R_OK) else Path("/")
    free = shutil.disk_usage(path).free
    if free < needed_bytes:
        raise ContainersUnavailable(
            f"{path} has {free / 1e9:.1f} GB left, the images need {needed_bytes / 1e9:.0f} GB.\n  Next: make room "
            "(`docker system df` shows what Docker holds, `docker builder prune` frees layers of old builds)."
        )


def taken_ports(ports: Sequence[int], host: str = "127.0.0.1") -> list[int]:
    """Return the ports of `host` that somebody listens on."""
    taken: list[int] = []
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                taken.append(port)
    return taken


def has_image(image: str) -> bool:
    """Say whether Docker has an image."""
    return bool(_output(["docker", "image", "inspect", "--format", "{{.Id}}", image]).strip())


def image_megabytes(image: str) -> float:
    """Return how large an image is, all of its layers counted."""
    return int(_output(["docker", "image", "inspect", "--format", "{{.Size}}", image]).strip() or 0) / 1e6


def run(command: Sequence[str], what: str, stdin: IO[bytes] | int = subprocess.DEVNULL) -> None:
    """Run a step to its end. Raises ContainersUnavailable with its last lines."""
    result = subprocess.run(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if result.returncode != 0:
        lines = result.stdout.decode(errors="replace").strip().splitlines()[-15:]
        hint = ""
        if any("no space left" in line for line in lines):
            hint = "\n  Next: the disk is full: `docker builder prune`, `docker system df`, then the same again."
        raise ContainersUnavailable(f"{what} failed:\n" + "\n".join(f"  | {line}" for line in lines) + hint)


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
