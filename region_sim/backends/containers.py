"""The hands of a drill on a deployment in containers.

Containers are processes of this machine that see less of it. So what is killed, stopped and looked at are processes, by
the same plays as elsewhere; only what has to stay dead is killed by Docker, which would start it again otherwise.
Kafka, etcd and the inference worker are containers of their own, and Docker starts them again; the rest of a region
stands under our supervisor, which says in its run.json, in numbers of its own namespace, what runs.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path

from region_sim.backends.compose_project import (
    OUTSIDE,
    PARTS,
    WAN,
    Container,
    Project,
    docker,
    inspect,
    mountpoint,
)
from region_sim.backends.container_network import ContainerNetwork
from region_sim.backends.process import operate, with_children
from region_sim.errors import DrillBroken
from services.common.deployment import Deployment
from services.region import run_file
from services.region.run_file import ProcessIdentity, RunRecord

KILL_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 120.0
AGAIN_SECONDS = 1.0
DATA_VOLUMES = ("data", "kafka", "etcd")
"""What a wipe of a site takes, with the site's name before it; a witness has the last alone."""


class ContainerHands:
    """See Hands."""

    def __init__(self, project: Project, deployment: Deployment) -> None:
        self.project = project
        self.deployment = deployment
        self.network = ContainerNetwork(project, tuple(site.name for site in deployment.sites))
        self._first: dict[str, ProcessIdentity] = {}
        """By container: its first process when it was last looked at, so that Docker is not asked all the time."""

    @property
    def region_names(self) -> list[str]:
        """See Hands."""
        return [site.name for site in self.deployment.regions]

    def services(self, site: str) -> list[str]:
        """The containers of a site that stay, what others need first."""
        if self.deployment.site(site).kind == "witness":
            return [f"{site}-net", f"{site}-etcd"]
        return [*(f"{site}-{part}" for part in PARTS), site]

    def processes(self, site: str, names: list[str]) -> list[ProcessIdentity]:
        """See Hands."""
        if not names:
            return self._of_containers(self.services(site)[::-1])
        own = [f"{site}-{name}" for name in names if name in PARTS]
        found = self._of_containers([service for service in own if service in self.services(site)])
        supervised = [name for name in names if name not in PARTS]
        return found + (self._supervised(site, supervised) if supervised else [])

    def supervisor(self, site: str) -> ProcessIdentity | None:
        """See Hands."""
        found = self._firsts([site])
        return found[0] if found else None

    def signal(self, identities: list[ProcessIdentity], number: signal.Signals) -> None:
        """See Hands."""
        for identity in identities:
            run_file.send(identity, number)

    def alive(self, identities: list[ProcessIdentity]) -> int:
        """See Hands."""
        return sum(run_file.is_alive(identity) for identity in identities)

    def kill_site(self, site: str, victims: list[ProcessIdentity]) -> None:
        """Kill all processes in one moment, then tell Docker that none of the containers is to be started again.

        `docker kill` alone takes from half a second to some, container by container, and a site dies at once. What
        Docker has begun to start meanwhile ends within that time.
        """
        self.signal(victims, signal.SIGKILL)
        names = [self.project.container(service) for service in self.services(site)[::-1]]
        deadline = time.monotonic() + KILL_SECONDS_MAX
        while True:
            try:
                docker(["stop", "-t", "0", *names], KILL_SECONDS_MAX)
            except DrillBroken:
                # One that was between two starts had no process to stop: by now it has, or is not started again.
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def wipe(self, site: str) -> None:
        """Remove the containers of a site and its volumes; the keys and what knows that there was a site stay."""
        services = [*self.services(site), f"{site}-etcd-prepare"]
        docker(["rm", "--force", *self._inspected(services)])
        docker(["volume", "rm", "--force", *self._volumes(site)])

    def not_wiped(self, site: str) -> str | None:
        """See Hands."""
        there = docker(["volume", "ls", "--quiet", "--filter", f"name=^{self.project.volume(site)}-"]).split()
        return f"the volumes {', '.join(there)} are still there" if there else None

    def unplug(self, site: str) -> None:
        """See Hands."""
        docker(["network", "disconnect", self.project.network(WAN), self.project.container(f"{site}-net")])

    def plug_in(self, site: str) -> None:
        """See Hands. Under the name that the others know, whatever its new address is."""
        names = [self.project.network(WAN), self.project.container(f"{site}-net")]
        docker(["network", "connect", "--alias", site, *names])

    def start(self, site: str, seconds_max: float) -> None:
        """See Hands. What is still missing after the time is told by `sites_ready`."""
        deadline = time.monotonic() + seconds_max
        while True:
            try:
                self.project.compose(["up", "--detach", "--no-build", *self.services(site)], seconds_max)
                break
            except DrillBroken:
                # What prepares a site waits for the others and may be given up for it.
                if time.monotonic() > deadline:
                    raise
                time.sleep(AGAIN_SECONDS)
        self.tell_hosts()

    def stop(self, site: str) -> None:
        """See Hands. The supervisor's container ends first: what it ends in order needs the log and the leases.

        Compose would end them all at once, because none of them depends on another.
        """
        needed = self.services(site)
        if self.deployment.site(site).kind == "region":
            self.project.compose(["stop", needed.pop()], STOP_SECONDS_MAX)
        self.project.compose(["stop", *needed[::-1]], STOP_SECONDS_MAX)

    def operator(self, arguments: list[str], seconds_max: float) -> dict[str, object]:
        """See Hands. From outside, as an operator's machine would."""
        return operate(arguments, self.deployment.directory, seconds_max)

    def sites_ready(self) -> str | None:
        """By Docker's health checks, and by what each supervisor says."""
        for site in self.deployment.sites:
            services = self.services(site.name)
            found = self._inspected(services)
            for service in services:
                container = found.get(self.project.container(service))
                if container is None or not container.pid:
                    return f"{service} does not run"
                if container.health not in ("", "healthy"):
                    return f"{service} is {container.health}"
            if site.kind == "region" and (problem := self._not_settled(site.name)) is not None:
                return problem
        return None

    def tell_hosts(self) -> None:
        """Write what the names of sites mean to clients outside: their addresses on networks that they share.

        In place, because the file is bound over /etc/hosts in the clients' own namespace. The network between sites is
        none of theirs.
        """
        lines = ["127.0.0.1 localhost"]
        for site in self.deployment.sites:
            found = self._inspected([f"{site.name}-net"]).get(self.project.container(f"{site.name}-net"))
            address = found.addresses.get(self.project.network(site.name), "") if found is not None else ""
            if address:
                lines.append(f"{address} {site.name}")
        Path(self.project.hosts_file).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def _not_settled(self, region: str) -> str | None:
        record = self._record(region)
        if record is None:
            return f"{region} does not say what runs"
        waiting = [process.name for process in record.processes if process.phase != "ready"]
        return None if record.ready else f"{region} is not ready: {', '.join(waiting)}"

    def _of_containers(self, services: Sequence[str]) -> list[ProcessIdentity]:
        return [identity for identity in with_children(self._firsts(services)) if run_file.is_alive(identity)]

    def _firsts(self, services: Sequence[str]) -> list[ProcessIdentity]:
        """The first processes of containers that run."""
        names = [self.project.container(service) for service in services]
        stale = [name for name in names if not run_file.is_alive(self._first.get(name))]
        if stale:
            found = inspect(stale)
            for name in stale:
                self._first.pop(name, None)
                pid = found[name].pid if name in found else 0
                if pid and (identity := run_file.identify(pid)) is not None:
                    self._first[name] = identity
        return [self._first[name] for name in names if name in self._first]

    def _supervised(self, site: str, names: Sequence[str]) -> list[ProcessIdentity]:
        """Processes under a region's supervisor, with all that they started."""
        record = self._record(site)
        if record is None:
            return []
        numbers = {process.identity.pid for process in record.processes if process.name in names and process.identity}
        inside = with_children(self._firsts([site]))
        roots = [identity for identity in inside if number_inside(identity.pid) in numbers]
        return [identity for identity in with_children(roots) if run_file.is_alive(identity)]

    def _record(self, region: str) -> RunRecord | None:
        return run_file.read(self.deployment.site_dir(region))

    def _inspected(self, services: Sequence[str]) -> dict[str, Container]:
        return inspect([self.project.container(service) for service in services])

    def _volumes(self, site: str) -> list[str]:
        kinds = DATA_VOLUMES if self.deployment.site(site).kind == "region" else DATA_VOLUMES[-1:]
        return [self.project.volume(f"{site}-{kind}") for kind in kinds]


def number_inside(pid: int) -> int | None:
    """The number that a process has in the innermost namespace that it is in; None when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith("NSpid:")), "")
    return int(found.split()[-1]) if found else None


def outside_pid(project: Project) -> int:
    """The process in whose network clients are. Raises DrillBroken."""
    name = project.container(OUTSIDE)
    found = inspect([name]).get(name)
    if found is None or not found.pid:
        raise DrillBroken(f"the container {name}, in whose network clients are, does not run")
    return found.pid


def site_directories(project: Project, deployment: Deployment) -> None:
    """Let the files of regions be found where a deployment's are, wherever Docker keeps its volumes."""
    for site in deployment.regions:
        place = deployment.site_dir(site.name)
        place.unlink(missing_ok=True)
        place.symlink_to(mountpoint(project.volume(f"{site.name}-data")))
