"""A drill from its first line to its verdict: start a deployment, carry the drill out, end it, judge the history."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from region_sim.backends.base import BackendName
from region_sim.backends.compose import entering, running_project
from region_sim.backends.compose_project import Project
from region_sim.backends.inside import carry_out_inside
from region_sim.backends.process import ProcessBackend, end_deployment, start_deployment
from region_sim.conduct import refuse
from region_sim.demo.conclude import conclude, tell
from region_sim.errors import RegionSimError
from region_sim.faults.refusals import refusal_of
from region_sim.faults.small_disk import small_disks
from region_sim.history import HistoryWriter
from region_sim.inside import ORDER_FILE, Order
from region_sim.interrupted import undisturbed
from region_sim.places import made
from region_sim.spec import DiskFull, Drill, sound
from region_sim.verdict import HISTORY_FILE, Verdict, judge_directory
from region_sim.watching import Lines
from services.common.clock import Clock, SystemClock
from services.common.deployment import Deployment, load_deployment

SITES_DIR = "sites"
LATEST = "latest"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line said."""

    name: str
    changes: Sequence[str]
    seed: int
    repeat: int
    out: Path
    attach: Path | None
    keep: bool
    quiet: bool
    backend: BackendName = "process"
    replay: str = ""
    """The command that runs it again, where that is not the one that follows from the rest."""


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of a drill."""

    directory: Path
    verdict: Verdict
    report: Path | None
    """The page for people; None when it could not be written."""
    promises_kept: bool = True
    """What the demonstration says of itself, beside the verdict."""


def run_drill(drill: Drill, options: RunOptions, clock: Clock | None = None) -> list[Ran]:
    """Run a drill, as often as it is to be repeated. Raises RegionSimError, SettingsError."""
    clock = clock or SystemClock()
    if options.attach is not None:
        drill = attached(drill, load_deployment(options.attach))
    if not options.quiet:
        print(announcement(drill, options), flush=True)
    began = clock.monotonic()
    first = _directory(options.out, drill.name, clock)
    ran: list[Ran] = []
    with _world(drill, options, first) as once:
        for number in range(options.repeat):
            directory = first if number == 0 else _directory(options.out, drill.name, clock)
            seed = options.seed + number
            verdict = once(directory, seed, replay_command(options, seed))
            kept = True
            if drill.load.source == "replay":
                summary = conclude(directory, options.out, verdict, clock.monotonic() - began)
                kept = tell(summary, options.out, quiet=options.quiet)
            ran.append(Ran(directory, verdict, report_of(directory), kept))
            _link_latest(directory)
            if not options.quiet:
                rto = f", RTO {verdict.rto_seconds} s" if verdict.rto_seconds is not None else ""
                print(f"seed {seed}: {verdict.verdict}{rto} ({directory})", flush=True)
    if not options.keep and all(one.verdict.verdict == "valid" and one.promises_kept for one in ran):
        shutil.rmtree(first / SITES_DIR, ignore_errors=True)
    return ran


def attached(drill: Drill, deployment: Deployment) -> Drill:
    """The drill with the sites of a deployment that runs already. Raises BadDrill when it cannot be run there."""
    witness = next((site.name for site in deployment.sites if site.kind == "witness"), "")
    regions = [site.name for site in deployment.regions]
    topology = msgspec.structs.replace(drill.topology, regions=regions, witness=witness, network=deployment.network)
    return sound(msgspec.structs.replace(drill, topology=topology))


def announcement(drill: Drill, options: RunOptions) -> str:
    """The seed and every parameter: what somebody needs who wants to see the same."""
    lines = [f"{drill.name}: backend {options.backend}, seed {options.seed}", f"  {drill.summary}"]
    plain = msgspec.to_builtins(drill)
    for name, table in plain.items():
        if name == "faults":
            for number, fault in enumerate(table):
                lines.append(f"  faults.{number}: {_values(fault)}")
        elif isinstance(table, dict):
            lines.append(f"  {name}: {_values(table)}")
    return "\n".join(lines)


def _values(table: dict[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in table.items() if value is not None)


def replay_command(options: RunOptions, seed: int) -> str:
    """The command that runs the same drill with the same load again."""
    if options.replay:
        return options.replay
    words = ["region-sim", "run", options.name, "--backend", options.backend, "--seed", str(seed)]
    for change in options.changes:
        words += ["--set", change]
    if options.attach is not None:
        words += ["--attach", str(options.attach)]
    return shlex.join(words)


def report_of(directory: Path) -> Path | None:
    """Write the report of a run beside its verdict; a verdict stands without one."""
    from region_sim.report import write_report

    try:
        return write_report(directory)
    except (RegionSimError, OSError) as error:
        print(f"region-sim: no report: {error}", file=sys.stderr)
        return None


Once = Callable[[Path, int, str], Verdict]
"""Carries the drill out once: into a directory, with a seed, and with the command that does so again."""


@contextmanager
def _world(drill: Drill, options: RunOptions, first: Path) -> Iterator[Once]:
    """Yield what runs the drill once in the world that was asked for."""
    if options.backend == "memory":

        def in_memory(directory: Path, seed: int, replay: str) -> Verdict:
            from region_sim.memory.run import run_in_memory

            watch = None if options.quiet else Lines()
            return run_in_memory(drill, seed, directory, replay=replay, watch=watch).verdict

        yield in_memory
        return
    refusal = refusal_of(options.backend, drill)
    if any(refusal(fault) is not None for fault in drill.faults):

        def refused(directory: Path, seed: int, replay: str) -> Verdict:
            with HistoryWriter(directory / HISTORY_FILE, SystemClock()) as history:
                refuse(drill, seed, options.backend, refusal, history)
            return judge_directory(directory, replay)

        yield refused
        return
    with _real(drill, options, first) as real:

        def for_real(directory: Path, seed: int, replay: str) -> Verdict:
            order = Order(
                drill=drill,
                seed=seed,
                run=directory.name[-10:],
                deployment=real.deployment.directory,
                project=real.project,
            )
            (directory / ORDER_FILE).write_bytes(msgspec.json.encode(order))
            carry_out_inside(directory, real.enter, quiet=options.quiet)
            return judge_directory(directory, replay)

        yield for_real


@dataclass(frozen=True, slots=True)
class _Real:
    """A deployment that runs."""

    deployment: Deployment
    enter: Callable[[list[str]], list[str]]
    """Makes a command run where its clients are."""
    project: Project | None = None
    """Of containers: what they are called."""


@contextmanager
def _real(drill: Drill, options: RunOptions, directory: Path) -> Iterator[_Real]:
    """Start what the backend runs, or take what runs, and end what was started."""
    if options.backend == "compose":
        with running_project(drill, (directory / SITES_DIR).absolute(), keep=options.keep) as (project, deployment):
            yield _Real(deployment, entering(project), project)
        return
    with _deployment(drill, options, directory) as deployment:
        if deployment.network == "namespaces":
            network = ProcessBackend(deployment).network
            yield _Real(deployment, lambda command: network.command(None, command))
        else:
            yield _Real(deployment, lambda command: command)


@contextmanager
def _deployment(drill: Drill, options: RunOptions, directory: Path) -> Iterator[Deployment]:
    if options.attach is not None:
        yield load_deployment(options.attach)
        return
    sites = (directory / SITES_DIR).absolute()
    filled = drill.topology.regions if any(isinstance(fault, DiskFull) for fault in drill.faults) else []
    with small_disks(sites, filled, keep=options.keep):
        yield from _started(drill, options, sites)


def _started(drill: Drill, options: RunOptions, sites: Path) -> Iterator[Deployment]:
    try:
        yield start_deployment(sites, drill.topology)
    finally:
        if not options.keep:
            with undisturbed():
                end_deployment(sites)


def _directory(out: Path, name: str, clock: Clock) -> Path:
    """Make the directory of one run, named after the time. Raises BadDrill."""
    at = datetime.fromtimestamp(clock.unix_ms() / 1000, UTC)
    directory = out / name / at.strftime("%Y%m%dT%H%M%S.%f")[:-3]
    return made(directory, anew=True)


def _link_latest(directory: Path) -> None:
    beside = directory.parent / f".{LATEST}"
    beside.unlink(missing_ok=True)
    beside.symlink_to(directory.name)
    beside.replace(directory.parent / LATEST)
