"""Starting and ending the sites of a deployment: each has a supervisor of its own, and dies alone.

Nobody restarts a supervisor: a site that is killed as a whole stays dead until `meridian up --site` says otherwise, as
a region does whose building has lost its power.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from services.common.deployment import DEPLOYMENT_FILE, Deployment
from services.region import run_file
from services.region.last_words import last_words
from services.region.network import network_of
from services.region.supervision import SATISFIED
from services.region.supervisor import end_leftovers

LOOK_SECONDS = 0.2
DOWN_SECONDS_MAX = 60.0

Report = Callable[[str, str], None]
"""Takes a site's name and one sentence about it."""


class SiteOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a site came up."""

    name: str
    kind: str
    host: str
    ready: bool
    summary: str
    """What is not ready, and why; `ready` otherwise."""
    data_dir: str
    supervisor_pid: int | None
    addresses: dict[str, str]


@dataclass(slots=True)
class Starting:
    """A site whose supervisor was started here."""

    process: subprocess.Popen[bytes]
    log: Path
    seen: dict[str, str] = field(default_factory=dict)


def is_running(deployment: Deployment, site: str) -> bool:
    """Say whether the site's supervisor lives."""
    record = run_file.read(deployment.site_dir(site))
    return record is not None and run_file.is_alive(record.supervisor)


def start_sites(
    deployment: Deployment, names: Iterable[str], timeout_seconds: float, report: Report
) -> list[SiteOutcome]:
    """Start the supervisors of these sites, and return once each is settled, ended, or out of time."""
    waiting = {name: _start(deployment, name) for name in names}
    outcomes: dict[str, SiteOutcome] = {}
    deadline = time.monotonic() + timeout_seconds
    while waiting:
        for name, starting in list(waiting.items()):
            outcome = _look(deployment, name, starting, report, out_of_time=time.monotonic() > deadline)
            if outcome is not None:
                outcomes[name] = outcome
                del waiting[name]
        if waiting:
            time.sleep(LOOK_SECONDS)
    return [outcomes[site.name] for site in deployment.sites if site.name in outcomes]


def _start(deployment: Deployment, name: str) -> Starting:
    """Start a supervisor on its own: it outlives this process."""
    log = deployment.site_dir(name) / "logs" / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    file = Path(deployment.directory) / DEPLOYMENT_FILE
    command = [sys.executable, "-m", "services.region.main", "--site", name, "--deployment", str(file)]
    network = network_of(deployment)
    if network is not None:
        command = network.command(name, command)
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the supervisor
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ, start_new_session=True
        )
    return Starting(process, log)


def _look(
    deployment: Deployment, name: str, starting: Starting, report: Report, *, out_of_time: bool
) -> SiteOutcome | None:
    """Report what is new of a site; return how it came up once that is decided."""
    ended = starting.process.poll()
    if ended is not None:
        return _outcome(deployment, name, None, f"its supervisor ended ({ended}): {last_words(starting.log)}")
    record = run_file.read(deployment.site_dir(name))
    if record is None or record.supervisor.pid != starting.process.pid:
        if not out_of_time:
            return None
        starting.process.returncode = 0
        return _outcome(deployment, name, None, "its supervisor has not started anything yet")
    for process in record.processes:
        if process.phase in SATISFIED and starting.seen.get(process.name) != process.phase:
            starting.seen[process.name] = process.phase
            report(name, f"{process.name} is {process.phase}")
    if not record.settled and not out_of_time:
        return None
    starting.process.returncode = 0  # it lives on, and reaping it is nobody's business here
    return _outcome(deployment, name, record, "" if record.settled else "not ready in time, it goes on trying: ")


def _outcome(deployment: Deployment, name: str, record: run_file.RunRecord | None, said: str) -> SiteOutcome:
    site = deployment.site(name)
    unready = [process for process in record.processes if process.phase not in SATISFIED] if record else []
    reasons = "; ".join(f"{p.name} is {p.phase}{': ' + p.reason if p.reason else ''}" for p in unready)
    return SiteOutcome(
        name=name,
        kind=site.kind,
        host=site.host,
        ready=record is not None and not unready,
        summary=(said + reasons) or "ready",
        data_dir=str(deployment.site_dir(name)),
        supervisor_pid=record.supervisor.pid if record else None,
        addresses=record.addresses if record else {},
    )


def end_sites(deployment: Deployment, names: Iterable[str], report: Report) -> None:
    """End these sites, all at once, and whatever their supervisors left."""
    names = list(names)
    records = {name: run_file.read(deployment.site_dir(name)) for name in names}
    for record in records.values():
        if record is not None:
            run_file.send(record.supervisor, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_SECONDS_MAX
    for name, record in records.items():
        if record is None:
            report(name, "is not running")
            continue
        while run_file.is_alive(record.supervisor) and time.monotonic() < deadline:
            time.sleep(0.05)
        if run_file.send(record.supervisor, signal.SIGKILL):
            report(name, "did not end in time and was killed")
        left = end_leftovers(deployment.site_dir(name))
        report(name, "is down" + (f"; ended what was left: {', '.join(left)}" if left else ""))
