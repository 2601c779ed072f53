"""The process backend: real Kafka, etcd and services on this machine, broken by process id, directory and network.

Everything is done through what an operator has too: `meridian up`, `down`, `run.json`, the deployment's file. Nothing
inside the regions knows that a drill is on.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from infra.runtime.network import RegionNetwork
from region_sim.errors import DrillBroken
from region_sim.spec import Topology
from services.common.deployment import DEPLOYMENT_FILE, Deployment, load_deployment
from services.region import run_file
from services.region.run_file import ProcessIdentity

MERIDIAN = (sys.executable, "-m", "services.cli")
DOWN_SECONDS_MAX = 120.0
READY_SECONDS_MAX = 60.0


def start_deployment(directory: Path, topology: Topology) -> Deployment:
    """Start all sites and wait until they are ready. Raises DrillBroken with what `meridian up` said."""
    arguments = ["up", "--regions", ",".join(topology.regions)]
    if topology.witness:
        arguments += ["--witness", topology.witness]
    arguments += ["--network", topology.network, "--base-port", str(topology.base_port), "--data-dir", str(directory)]
    meridian([*arguments, "--detach", "--timeout", str(topology.up_seconds_max)], topology.up_seconds_max + 60)
    return load_deployment(directory)


def end_deployment(directory: Path) -> None:
    """End all sites, if any was started. Raises DrillBroken."""
    if not (directory / DEPLOYMENT_FILE).exists():
        return
    hands = ProcessBackend(load_deployment(directory))
    for site in hands.deployment.sites:
        # What was stopped and never continued would have to be waited for.
        hands.signal(hands.processes(site.name, []), signal.SIGCONT)
    meridian(["down", "--data-dir", str(directory)], DOWN_SECONDS_MAX)


def meridian(arguments: list[str], seconds_max: float) -> str:
    """Carry out a verb of `meridian`, and return what it printed. Blocks. Raises DrillBroken."""
    try:
        # A session of its own: Ctrl-C on a terminal is for us, and what was begun is then ended in order.
        done = subprocess.run(
            [*MERIDIAN, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=seconds_max,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as late:
        raise DrillBroken(f"`meridian {' '.join(arguments)}` did not end within {seconds_max:g} s") from late
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise DrillBroken(f"`meridian {' '.join(arguments)}` ended with {done.returncode}:\n{tail}")
    return done.stdout


def operate(arguments: list[str], directory: str, seconds_max: float) -> dict[str, object]:
    """Carry out a verb on the deployment in `directory`; return what it printed as JSON. Blocks. Raises DrillBroken."""
    said = meridian([*arguments, "--data-dir", directory, "--json"], seconds_max)
    try:
        found = json.loads(said)
    except json.JSONDecodeError as error:
        raise DrillBroken(f"`meridian {' '.join(arguments)}` printed no JSON: {said[-300:]}") from error
    return found if isinstance(found, dict) else {"answer": found}


@dataclass(frozen=True, slots=True)
class ProcessBackend:
    """The hands of a drill on one running deployment."""

    deployment: Deployment

    @property
    def network(self) -> RegionNetwork:
        """The network between its sites. Raises DrillBroken on loopback, where there is none."""
        if self.deployment.network != "namespaces":
            raise DrillBroken("on loopback there is no network to cut: start the deployment with --network namespaces")
        return RegionNetwork(tuple(site.name for site in self.deployment.sites), self.deployment.holder_pid)

    @property
    def region_names(self) -> list[str]:
        """The regions, in the deployment's order."""
        return [site.name for site in self.deployment.regions]

    def processes(self, site: str, names: list[str]) -> list[ProcessIdentity]:
        """The living processes of a site and all that they started; no names: all, its supervisor first."""
        record = run_file.read(self.deployment.site_dir(site))
        if record is None:
            return []
        named = [process for process in record.processes if not names or process.name in names]
        roots = [process.identity for process in named if process.identity is not None]
        if not names:
            roots = [record.supervisor, *roots]
        return [identity for identity in with_children(roots) if run_file.is_alive(identity)]

    def supervisor(self, site: str) -> ProcessIdentity | None:
        """What starts a site's processes; None when it does not run."""
        record = run_file.read(self.deployment.site_dir(site))
        return record.supervisor if record is not None and run_file.is_alive(record.supervisor) else None

    def signal(self, identities: list[ProcessIdentity], number: signal.Signals) -> None:
        """Send a signal to exactly these processes."""
        for identity in identities:
            run_file.send(identity, number)

    def alive(self, identities: list[ProcessIdentity]) -> int:
        """How many of them live."""
        return sum(run_file.is_alive(identity) for identity in identities)

    def kill_site(self, site: str, victims: list[ProcessIdentity]) -> None:
        """Kill all of a site: its supervisor is among the victims."""
        del site
        self.signal(victims, signal.SIGKILL)

    def unplug(self, site: str) -> None:
        """Raises DrillBroken: see Hands."""
        raise DrillBroken(f"refused: {site} has no container that could be taken off a network: use --backend compose")

    plug_in = unplug

    def not_wiped(self, site: str) -> str | None:
        """What of a site is still there; None when nothing is."""
        directory = self.deployment.site_dir(site)
        if not directory.exists() or (directory.is_mount() and not any(directory.iterdir())):
            return None
        return f"{directory.name} is still there"

    def wipe(self, site: str) -> None:
        """Delete everything that a site had. Raises DrillBroken when that is not a directory of the deployment."""
        directory = self.deployment.site_dir(site)
        if directory.is_symlink() or directory.parent != Path(self.deployment.directory):
            raise DrillBroken(f"{directory} is not a site's own directory: nothing is deleted")
        if directory.is_mount():  # a disk of its own is emptied: what is mounted stays
            for entry in directory.iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            return
        shutil.rmtree(directory)

    def start(self, site: str, seconds_max: float) -> None:
        """Start a site again; it is no failure when it is not ready after a while. Raises DrillBroken."""
        arguments = [
            "up",
            "--site",
            site,
            "--data-dir",
            self.deployment.directory,
            "--detach",
            "--timeout",
            str(READY_SECONDS_MAX),
        ]
        try:
            meridian(arguments, seconds_max)
        except DrillBroken:
            # Its supervisor goes on.
            record = run_file.read(self.deployment.site_dir(site))
            if record is None or not run_file.is_alive(record.supervisor):
                raise

    def stop(self, site: str) -> None:
        """End a site as an operator does. Raises DrillBroken."""
        meridian(["down", "--site", site, "--data-dir", self.deployment.directory], DOWN_SECONDS_MAX)

    def operator(self, arguments: list[str], seconds_max: float) -> dict[str, object]:
        """Carry out a verb of `meridian` with --json, and return what it printed. Raises DrillBroken."""
        return operate(arguments, self.deployment.directory, seconds_max)

    def sites_ready(self) -> str | None:
        """Why not all sites are up and ready by their own word; None when they are."""
        for site in self.deployment.sites:
            record = run_file.read(self.deployment.site_dir(site.name))
            if record is None or not run_file.is_alive(record.supervisor):
                return f"{site.name} does not run"
            waiting = [process.name for process in record.processes if process.phase != "ready"]
            if not record.ready:
                return f"{site.name} is not ready: {', '.join(waiting)}"
        return None


def with_children(roots: list[ProcessIdentity]) -> list[ProcessIdentity]:
    """Processes and everything that descends from them, from /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found: dict[int, ProcessIdentity] = {}
    waiting = [root.pid for root in roots if run_file.is_alive(root)]
    while waiting:
        pid = waiting.pop(0)
        identity = run_file.identify(pid)
        if identity is None or pid in found:
            continue
        found[pid] = identity
        waiting += children.get(pid, [])
    return list(found.values())
