"""Starts and ends docker-compose.multiregion.yml, and says in a sentence why it cannot: `make compose-up`.

It adds nothing to `docker compose up --wait` but what is checked before (Docker, Compose 2, ports, images) and what is
left behind for commands on this machine: var/compose/deployment.json, so that `meridian status --data-dir var/compose`
reaches the regions over their published ports.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from infra.docker.daemon import (
    COMPOSE_PLUGIN,
    COMPOSE_VERSION,
    ContainersUnavailable,
    check_daemon,
    has_image,
    run,
    taken_ports,
)
from infra.docker.images import ENV_FILE, ROOT
from infra.runtime.etcd_install import EtcdRuntimeError, go_toolchain

FILE: Final = ROOT / "docker-compose.multiregion.yml"
PORTS: Final = (8080, 8081, 8082, 8083, 8085, 8086, 8087, 8100, 8101, 8102, 8103, 8105, 8106, 8107, 8127)
OBSERVABILITY_PORTS: Final = {"console": 8190, "prometheus": 9090, "alertmanager": 9093, "grafana": 3000}
WAIT_SECONDS: Final = 300


def compose(profiles: Sequence[str]) -> list[str]:
    """Return the command line of compose on this deployment."""
    chosen = ["--env-file", str(ENV_FILE)] if ENV_FILE.exists() else []
    named = [argument for profile in profiles for argument in ("--profile", profile)]
    return ["docker", "compose", "-f", str(FILE), *chosen, *named]


def up(profiles: Sequence[str]) -> None:
    """Start everything and return once both regions are ready and one is active. Raises ContainersUnavailable."""
    check_daemon()
    command = compose(profiles)
    services = wanted_services(command)
    running = subprocess.run([*command, "ps", "--quiet"], capture_output=True, text=True, check=False).stdout.split()
    ports = [*PORTS, *(port for name, port in OBSERVABILITY_PORTS.items() if name in services)]
    if not running and (taken := taken_ports(ports)):
        raise ContainersUnavailable(
            f"port {', '.join(map(str, taken))} of 127.0.0.1 is taken by another program.\n  Next: see who it is "
            f"(`ss -ltnp 'sport = :{taken[0]}'`) and end it; a deployment on processes is ended by `meridian down`."
        )
    _have_images(command)
    if "observability" in profiles and "grafana" not in services:
        print("compose: without Grafana, which has no image here; Prometheus shows the same series", flush=True)
    started = time.monotonic()
    result = subprocess.run([*command, "up", "--wait", "--wait-timeout", str(WAIT_SECONDS), *services], check=False)
    if result.returncode != 0:
        raise ContainersUnavailable(_why_not_up(command, services, result.returncode))
    write_deployment(ENV_FILE.parent)
    print(f"compose: both regions are ready after {time.monotonic() - started:.0f} s")
    print("  gateways   http://127.0.0.1:8080 (east), http://127.0.0.1:8100 (west)")
    print("  status     meridian status --data-dir var/compose")
    print("             docker compose -f docker-compose.multiregion.yml exec east meridian status")
    print("  end        make compose-down (the data stays), make compose-down VOLUMES=1 (nothing stays)")


def _why_not_up(command: list[str], services: Sequence[str], code: int) -> str:
    """Say what is missing, or where it is said."""
    missing = [image for image in _lines([*command, "config", "--images", *services]) if not has_image(image)]
    if missing:
        return (
            f"{', '.join(sorted(set(missing)))}: neither here nor to be pulled.\n  Likely: this machine reaches no "
            "registry.\n  Next: `make images` builds all but Grafana's; or `docker save` elsewhere, `docker load` here."
        )
    return (
        f"not everything became ready (exit code {code}).\n  Next: `{' '.join(command)} ps -a` shows what, "
        "`... logs SERVICE` why."
    )


def wanted_services(command: list[str]) -> list[str]:
    """Return what the profiles start and can be had: Grafana only where its image is or can be pulled."""
    services = _lines([*command, "config", "--services"])
    if "grafana" in services:
        image = _lines([*command, "config", "--images", "grafana"])
        local = ENV_FILE.exists() and "MERIDIAN_GRAFANA_IMAGE" not in os.environ
        if local and not any(has_image(name) for name in image if "grafana" in name):
            services.remove("grafana")
    return services


def _have_images(command: list[str]) -> None:
    missing = [image for image in _lines([*command, "config", "--images"]) if not has_image(image)]
    ours = [image for image in missing if image.startswith("meridian")]
    if ENV_FILE.exists() and any("local" in image for image in missing):
        raise ContainersUnavailable(
            f"{', '.join(sorted(set(missing)))}: named in {ENV_FILE.relative_to(ROOT)}, but not there.\n"
            "  Next: `make images`."
        )
    if ours:
        print(f"compose: {', '.join(sorted(set(ours)))} is built first, about 2 minutes", flush=True)
        result = subprocess.run([*command, "build", "keys"], check=False)
        if result.returncode != 0:
            raise ContainersUnavailable(
                "our image cannot be built on a pulled base.\n  Next: `make images`, which needs no registry of images."
            )


def down(*, volumes: bool) -> None:
    """End everything; with `volumes`, leave nothing. Raises ContainersUnavailable."""
    check_daemon()
    command = [*compose(["*"]), "down", "--remove-orphans", *(["--volumes"] if volumes else [])]
    if subprocess.run(command, check=False).returncode != 0:
        raise ContainersUnavailable("compose could not end everything; it says above what is in the way")
    (ENV_FILE.parent / "deployment.json").unlink(missing_ok=True)


def write_deployment(directory: Path) -> None:
    """Leave a deployment's file that reaches the sites over the ports that are published on this machine."""
    run([sys.executable, "-m", "services.region.containers", "published", "--directory", str(directory)], "writing it")


def plugin() -> None:
    """Build Compose 2 for this user from its source. Raises ContainersUnavailable, EtcdRuntimeError."""
    target = Path.home() / ".docker" / "cli-plugins" / "docker-compose"
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"compose: building Compose {COMPOSE_VERSION} from its source (about 6 minutes)", flush=True)
    with go_toolchain() as go, tempfile.TemporaryDirectory(prefix="meridian-compose-") as name:
        (Path(name) / "go.mod").write_text("module meridian/compose\n\ngo 1.24\n")
        environment = ["env", "GOFLAGS=-mod=mod", "GOWORK=off", "CGO_ENABLED=0"]
        run([*environment, go, "-C", name, "get", f"{COMPOSE_PLUGIN}@{COMPOSE_VERSION}"], "fetching Compose")
        version = f"-X {COMPOSE_PLUGIN}/internal.Version={COMPOSE_VERSION}"
        flags = ["-trimpath", "-ldflags", f"-s -w {version}", "-o", str(Path(name) / "docker-compose")]
        run([*environment, go, "-C", name, "build", *flags, f"{COMPOSE_PLUGIN}/cmd"], "building Compose")
        shutil.move(Path(name) / "docker-compose", target)
    print(f"compose: {target}")


def _lines(command: list[str]) -> list[str]:
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        said = re.sub(r"^time=.*$", "", answer.stderr, flags=re.MULTILINE).strip()
        raise ContainersUnavailable(f"compose cannot read {FILE.name}: {said}")
    return answer.stdout.split()


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked; 0 when it is done."""
    parser = argparse.ArgumentParser(prog="python -m infra.docker.compose", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", choices=("up", "down", "plugin"))
    parser.add_argument("--profile", action="append", default=[], help="core (default), gpu, observability")
    parser.add_argument("--volumes", action="store_true", help="down: remove the data as well")
    options = parser.parse_args(arguments)
    try:
        if options.what == "up":
            up(options.profile or ["core"])
        elif options.what == "down":
            down(volumes=options.volumes)
        else:
            plugin()
    except (ContainersUnavailable, EtcdRuntimeError, OSError) as error:
        print(f"compose: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
