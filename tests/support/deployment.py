"""A whole deployment for tests, started and ended by the commands that a user has."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from infra.runtime.kafka import free_ports, port_is_free
from services.common.deployment import SITE_PORTS, Deployment, load_deployment
from services.region import run_file
from services.region.deploy import PORTS_APART
from services.region.deployment_cli import DeploymentUp
from services.region.run_file import ProcessIdentity, ProcessRecord, RunRecord
from services.region.sites import SiteOutcome
from tests.support.poll import wait_until

START_SECONDS = 170
"""Long: machines that test are busy."""


def meridian(*words: str, timeout_seconds: float = START_SECONDS + 60) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does."""
    command = [sys.executable, "-m", "services.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_seconds)


@dataclass(frozen=True, slots=True)
class LocalDeployment:
    """A running deployment."""

    directory: Path

    @property
    def deployment(self) -> Deployment:
        """Its file."""
        return load_deployment(self.directory)

    def record(self, site: str) -> RunRecord:
        """What the site's supervisor last wrote down."""
        found = run_file.read(self.directory / site)
        assert found is not None, f"{site} does not run"
        return found

    def process(self, site: str, name: str) -> ProcessRecord:
        """One process of a site."""
        return next(process for process in self.record(site).processes if process.name == name)

    def identities(self, site: str) -> list[ProcessIdentity]:
        """All living processes of a site, the supervisor included."""
        record = self.record(site)
        return [record.supervisor, *(found.identity for found in record.processes if found.identity is not None)]

    def kill(self, site: str) -> None:
        """Kill the supervisor of a site; everything of the site ends with it."""
        living = self.identities(site)
        run_file.send(living[0], signal.SIGKILL)
        wait_until(lambda: not any(map(run_file.is_alive, living)), 30, f"all processes of {site} to end")

    def up(self, site: str) -> SiteOutcome:
        """Start one site again."""
        words = ["--site", site, "--data-dir", str(self.directory), "--timeout", str(START_SECONDS), "--json"]
        done = meridian("up", *words)
        assert done.stdout, done.stderr
        (outcome,) = msgspec.json.decode(done.stdout, type=DeploymentUp).sites
        return outcome

    def incarnation(self, site: str) -> str:
        """The life that a region is in."""
        return (self.directory / site / "incarnation").read_text().strip()


def free_base_port(sites: int) -> int:
    """Return a port from which on the sites of a deployment find all of theirs free; any between 20,000 and 31,000."""
    bases = range(20_000, 31_000, PORTS_APART * sites)
    first = free_ports(1)[0] // (PORTS_APART * sites)
    for base in (bases[(first + step) % len(bases)] for step in range(len(bases))):
        if all(port_is_free(base + PORTS_APART * n + offset) for n in range(sites) for offset in range(SITE_PORTS)):
            return base
    raise AssertionError("no free ports for a deployment")


@contextmanager
def running_deployment(
    directory: Path, *, regions: str = "east,west", witness: str = "north", network: str = "loopback"
) -> Iterator[tuple[LocalDeployment, DeploymentUp]]:
    """Start a deployment, and take it down at the end whatever happens."""
    count = len(regions.split(",")) + bool(witness)
    options = ["--regions", regions, *(["--witness", witness] if witness else []), "--network", network]
    options += ["--base-port", str(free_base_port(count)), "--data-dir", str(directory)]
    try:
        done = meridian("up", *options, "-d", "--json", "--timeout", str(START_SECONDS))
        assert done.stdout, done.stderr
        yield LocalDeployment(directory), msgspec.json.decode(done.stdout, type=DeploymentUp)
    finally:
        meridian("down", "--data-dir", str(directory))
