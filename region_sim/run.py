"""A drill from its first line to its verdict: start a deployment, carry the drill out, end it, judge the history."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from region_sim.backends.process import ProcessBackend, end_deployment, start_deployment
from region_sim.errors import DrillBroken
from region_sim.inside import ORDER_FILE, Order
from region_sim.spec import Drill
from region_sim.verdict import Verdict, judge_directory
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


def run_drill(drill: Drill, options: RunOptions, clock: Clock | None = None) -> list[Verdict]:
    """Run a drill, as often as it is to be repeated. Raises RegionSimError, SettingsError."""
    clock = clock or SystemClock()
    if not options.quiet:
        parameters = msgspec.json.encode(drill).decode()
        print(f"{drill.name}: seed {options.seed}, parameters {parameters}", flush=True)
    first = _directory(options.out, drill.name, clock)
    verdicts = []
    with _deployment(drill, options, first) as deployment:
        for number in range(options.repeat):
            directory = first if number == 0 else _directory(options.out, drill.name, clock)
            seed = options.seed + number
            output = subprocess.DEVNULL if options.quiet else None
            verdict = _once(drill, seed, directory, deployment, replay_command(options, seed), output)
            verdicts.append(verdict)
            if not options.quiet:
                rto = f", RTO {verdict.rto_seconds} s" if verdict.rto_seconds is not None else ""
                print(f"seed {seed}: {verdict.verdict}{rto} ({directory})", flush=True)
    if not options.keep and all(verdict.verdict == "valid" for verdict in verdicts):
        shutil.rmtree(first / SITES_DIR, ignore_errors=True)
    return verdicts


def replay_command(options: RunOptions, seed: int) -> str:
    """The command that runs the same drill with the same load again."""
    words = ["region-sim", "run", options.name, "--backend", "process", "--seed", str(seed)]
    for change in options.changes:
        words += ["--set", change]
    if options.attach is not None:
        words += ["--attach", str(options.attach)]
    return shlex.join(words)


def _once(drill: Drill, seed: int, directory: Path, deployment: Deployment, replay: str, output: int | None) -> Verdict:
    order = Order(drill=drill, seed=seed, run=directory.name[-10:], deployment=deployment.directory)
    (directory / ORDER_FILE).write_bytes(msgspec.json.encode(order))
    command = [sys.executable, "-m", "region_sim.inside", str(directory)]
    if deployment.network == "namespaces":
        command = ProcessBackend(deployment).network.command(None, command)
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise DrillBroken(f"{done.stderr.strip()[-2000:]} (see {directory})")
    verdict = judge_directory(directory, replay)
    _link_latest(directory)
    return verdict


@contextmanager
def _deployment(drill: Drill, options: RunOptions, directory: Path) -> Iterator[Deployment]:
    if options.attach is not None:
        yield load_deployment(options.attach)
        return
    sites = (directory / SITES_DIR).absolute()
    try:
        yield start_deployment(sites, drill.topology)
    finally:
        if not options.keep:
            end_deployment(sites)


def _directory(out: Path, name: str, clock: Clock) -> Path:
    """Make the directory of one run, named after the time."""
    at = datetime.fromtimestamp(clock.unix_ms() / 1000, UTC)
    directory = out / name / at.strftime("%Y%m%dT%H%M%S.%f")[:-3]
    directory.mkdir(parents=True)
    return directory


def _link_latest(directory: Path) -> None:
    beside = directory.parent / f".{LATEST}"
    beside.unlink(missing_ok=True)
    beside.symlink_to(directory.name)
    beside.replace(directory.parent / LATEST)
