"""`meridian up --regions`, `up --site`, `down` and `status` of a deployment."""

from __future__ import annotations

import contextlib
import io
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import msgspec

from infra.runtime.etcd_install import EtcdRuntimeError, find_etcd
from infra.runtime.network import NetworkUnavailable, RegionNetwork
from services.common.clock import SystemClock
from services.common.deployment import DEPLOYMENT_FILE, Deployment, load_deployment
from services.common.settings import SettingsError
from services.region import deploy, run_file
from services.region.deploy import BASE_PORT_DEFAULT, Network
from services.region.network import enter, network_of
from services.region.sites import Report, SiteOutcome, end_sites, is_running, start_sites
from services.region.status import RegionStatus, look

DIRECTORY_DEFAULT = Path("var/meridian")


class DeploymentUp(msgspec.Struct, frozen=True, kw_only=True):
    """What `meridian up --json` prints for a deployment."""

    deployment_id: str
    directory: str
    network: str
    holder_pid: int
    ready: bool
    sites: list[SiteOutcome]


def new_or_same(regions: str, witness: str, base_port: int | None, directory: Path, network: Network) -> Deployment:
    """Return the deployment that is asked for: the one in `directory`, or a new one. Raises SettingsError."""
    names = [name.strip() for name in regions.split(",") if name.strip()]
    there = (directory / DEPLOYMENT_FILE).exists()
    found = load_deployment(directory) if there else None
    first = base_port or (found.sites[0].base_port if found else BASE_PORT_DEFAULT)
    wanted = deploy.plan_deployment(
        names,
        witness,
        base_port=first,
        directory=directory,
        network=network,
        deployment_id=found.deployment_id if found else deploy.new_deployment_id(),
    )
    if found is not None and (difference := deploy.differences(wanted, found)) is not None:
        raise SettingsError(
            f"there is another deployment in {directory}: {difference}. `meridian up --data-dir {directory}` starts "
            "that one again; choose another --data-dir for this one."
        )
    return found or wanted


def up(deployment: Deployment, only: str, *, detach: bool, timeout_seconds: float, json: bool) -> int:
    """Start all sites, or the one named `only`; return the exit code. Raises SettingsError."""
    names = [deployment.site(only).name] if only else [site.name for site in deployment.sites]
    running = [name for name in names if is_running(deployment, name)]
    if running:
        raise SettingsError(
            f"{', '.join(running)} of {deployment.directory} runs already. `meridian down --data-dir "
            f"{deployment.directory}{f' --site {only}' if only else ''}` ends it."
        )
    try:
        find_etcd()
    except EtcdRuntimeError as error:
        raise SettingsError(str(error)) from error
    deployment = _made_ready(deployment)
    output = sys.stderr if json else sys.stdout

    def report(name: str, sentence: str) -> None:
        print(f"{name:<10} {sentence}", file=output, flush=True)

    outcomes = start_sites(deployment, names, timeout_seconds, report)
    _show_up(deployment, outcomes, json=json, detached=detach or bool(only))
    if detach or only:
        return 0 if all(outcome.ready for outcome in outcomes) else 1
    _until_interrupted()
    down(deployment, "", report=report)
    return 0


def _made_ready(deployment: Deployment) -> Deployment:
    """Make the directory, the keys and the network where they are missing. Raises SettingsError."""
    nobody_runs = not any(is_running(deployment, site.name) for site in deployment.sites)
    if nobody_runs and (taken := deploy.taken_port(deployment)) is not None:
        raise SettingsError(taken)
    deploy.make_key(deployment.pseudonym_key_file)
    deploy.make_signing_key(deployment.signing_key_file, deployment.trusted_keys_file)
    network = network_of(deployment)
    if network is not None and not network.alive:
        try:
            names = [site.name for site in deployment.sites]
            network = RegionNetwork.create(names, Path(deployment.directory))
        except NetworkUnavailable as error:
            raise SettingsError(str(error)) from error
        deployment = deploy.with_holder(deployment, network.holder_pid)
    deployment.save()
    return deployment


def _show_up(deployment: Deployment, outcomes: Sequence[SiteOutcome], *, json: bool, detached: bool) -> None:
    if json:
        shown = DeploymentUp(
            deployment_id=deployment.deployment_id,
            directory=deployment.directory,
            network=deployment.network,
            holder_pid=deployment.holder_pid,
            ready=all(outcome.ready for outcome in outcomes),
            sites=list(outcomes),
        )
        print(msgspec.json.encode(shown).decode(), flush=True)
        return
    for outcome in outcomes:
        print(f"\n{outcome.kind} {outcome.name}: {outcome.summary}")
        for name, address in outcome.addresses.items():
            print(f"  {name:<10} {address}")
        print(f"  {'logs':<10} {outcome.data_dir}/logs")
    option = f"--data-dir {shlex.quote(deployment.directory)}"
    ends = f"`meridian down {option}` ends it"
    print(f"\n`meridian status {option}` shows it, {ends if detached else 'Ctrl-C or ' + ends}.", flush=True)


def _until_interrupted() -> None:
    """Return on Ctrl-C or SIGTERM."""
    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask)
    while not asked:
        signal.pause()


def down(deployment: Deployment, only: str, report: Report | None = None) -> int:
    """End all sites, or the one named `only`, and with the last of them the network."""
    names = [deployment.site(only).name] if only else [site.name for site in deployment.sites]
    end_sites(deployment, names, report or (lambda name, sentence: print(f"{name:<10} {sentence}", flush=True)))
    network = network_of(deployment)
    if network is not None and not any(is_running(deployment, site.name) for site in deployment.sites) and not only:
        network.close()
    return 0


def status(deployment: Deployment, *, json: bool, watch: bool) -> int:
    """Show who is active and what runs; return 0: all ready, 1: something is not, 3: nothing runs."""
    enter(deployment)
    if watch:
        return _control_status(deployment, json=json, watch=True)
    if json:
        return _status_json(deployment)
    from rich.console import Console

    from services.region.table import render

    said = _control_status(deployment, json=False, watch=False)
    seen = look_at_all(deployment)
    for site in seen:
        print()
        Console().print(render(site))
    if others := _in_other_containers(deployment):
        regions = [name for name in others if deployment.site(name).kind == "region"]
        print(
            f"\nprocesses of {', '.join(regions)}: "
            "`docker compose -f docker-compose.multiregion.yml exec SITE meridian status`"
        )
    return _code(seen) if seen or not others else said


def look_at_all(deployment: Deployment) -> list[RegionStatus]:
    """Return how each site's processes are; in a container only its own can be seen."""
    now_ms = SystemClock().unix_ms()
    elsewhere = _in_other_containers(deployment)
    names = [site.name for site in deployment.sites if site.name not in elsewhere]
    return [look(name, deployment.site_dir(name), now_ms) for name in names]


def _in_other_containers(deployment: Deployment) -> list[str]:
    """Return the sites whose processes this container, or the machine that runs the containers, does not see."""
    if deployment.network != "containers":
        return []
    return [site.name for site in deployment.sites if run_file.read(deployment.site_dir(site.name)) is None]


def _status_json(deployment: Deployment) -> int:
    """One object: what the controllers say, and under `sites` the processes."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = _control_status(deployment, json=True, watch=False)
    try:
        whole = msgspec.json.decode(said.getvalue(), type=dict[str, object])
    except msgspec.DecodeError:
        whole = {}
    seen = look_at_all(deployment)
    whole["sites"] = msgspec.to_builtins(seen)
    whole["memory_bytes"] = sum(site.memory_bytes for site in seen)
    print(msgspec.json.format(msgspec.json.encode(whole), indent=2).decode())
    return _code(seen) if seen or not _in_other_containers(deployment) else code


def _control_status(deployment: Deployment, *, json: bool, watch: bool) -> int:
    """What the controllers say of the election and of replication."""
    from importlib import import_module

    try:
        control = import_module("services.controller.status")
    except ModuleNotFoundError:
        print("the controller is not part of this installation", file=sys.stderr)
        return 1
    return int(control.show(deployment, as_json=json, watch=watch))


def _code(seen: Sequence[RegionStatus]) -> int:
    if not any(site.running for site in seen):
        return 3
    return 0 if all(site.ready for site in seen) else 1
