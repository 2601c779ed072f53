"""`meridian up`, `down` and `status` of a region that is alone; `deployment_cli` has what is about several."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer

from infra.runtime.kafka import KafkaRuntimeError
from services.common.clock import SystemClock
from services.common.deployment import DEPLOYMENT_FILE, Deployment, load_deployment
from services.common.exit_codes import ExitCode
from services.common.region_settings import RegionSettings
from services.common.settings import CONFIG_VARIABLE, SettingsError, as_toml
from services.region import deployment_cli, run_file
from services.region.deploy import Network, make_signing_key
from services.region.main import DATA_DIR_VARIABLE, PORT_ORDER, load_settings
from services.region.plan import KafkaSettings
from services.region.status import RegionStatus, look
from services.region.supervisor import end_leftovers

WATCH_INTERVAL_SECONDS = 1.0
DOWN_TIMEOUT_SECONDS = 60.0

ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file with the settings.")]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        help="Where the region (default var/<name>) or the deployment (default var/meridian) keeps its files."
    ),
]
SiteOption = Annotated[str, typer.Option(help="Of a deployment: only this site.")]


def up(
    base_port: Annotated[
        int | None, typer.Option(help=f"First of five ports in a row: {', '.join(PORT_ORDER)}.")
    ] = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when the region is ready (or can become no readier).")
    ] = False,
    timeout_seconds: Annotated[float, typer.Option("--timeout", help="With --detach: seconds to wait for it.")] = 180.0,
    json: Annotated[bool, typer.Option("--json", help="Print what listens where as one JSON object.")] = False,
    print_config: Annotated[bool, typer.Option(help="Print the settings (secrets masked) and end.")] = False,
    regions: Annotated[str, typer.Option(help="Start several regions instead: east,west.")] = "",
    witness: Annotated[str, typer.Option(help="With --regions: a site that only votes; two regions need one.")] = "",
    site: SiteOption = "",
    network: Annotated[
        Network,
        typer.Option(help="With --regions: `loopback`, or `namespaces` for a network of its own for each site."),
    ] = "loopback",
) -> None:
    """Start a region: Kafka, inference worker, processor and gateway, supervised. With --regions, several of them.

    A deployment that is in --data-dir is started again as it is; --site starts one site of it, after a kill or a wipe.

    Stays in the foreground and ends everything with Ctrl-C, unless --detach or --site is given. A process that dies is
    started again; one that ends with an exit code from 64 to 68 stays down, because an operator must mend something.
    """
    if regions or site or (data_dir is not None and _holds_deployment(data_dir)):
        _hand_over(config, None, None)
        directory = data_dir or deployment_cli.DIRECTORY_DEFAULT
        wanted = (regions, witness, base_port, network)
        all_settings()
        raise typer.Exit(_up_deployment(directory, wanted, site, detach=detach, timeout=timeout_seconds, json=json))
    _hand_over(config, data_dir, base_port)
    region = _settings()[0]
    tables = all_settings()  # a service's wrong setting is found before anything starts
    if print_config:
        print("\n".join(tables))
        return
    make_signing_key(region.signing_key_file, region.trusted_keys_file)
    command = [sys.executable, "-m", "services.region.main", *(["--json"] if json else [])]
    if not detach:
        os.execv(sys.executable, command)  # noqa: S606 - becomes the supervisor
    region.log_dir.mkdir(parents=True, exist_ok=True)
    command += ["--then-log-to", str(region.log_dir / "supervisor.log")]
    raise typer.Exit(_start_detached(command, region.data_dir, timeout_seconds))


def _up_deployment(
    directory: Path,
    wanted: tuple[str, str, int | None, Network],
    site: str,
    *,
    detach: bool,
    timeout: float,
    json: bool,
) -> int:
    regions, witness, base_port, network = wanted
    try:
        if regions:
            deployment = deployment_cli.new_or_same(regions, witness, base_port, directory, network)
        else:
            deployment = load_deployment(directory)
        return deployment_cli.up(deployment, site, detach=detach, timeout_seconds=timeout, json=json)
    except (SettingsError, KafkaRuntimeError) as error:
        _refuse(error)


def _holds_deployment(directory: Path) -> bool:
    return (directory / DEPLOYMENT_FILE).exists()


def _deployment(config: Path | None, data_dir: Path | None, site: str) -> Deployment | None:
    """Return the deployment that a command is about; None for a region that is alone."""
    _hand_over(config, None, None)
    directory = data_dir or deployment_cli.DIRECTORY_DEFAULT
    alone = data_dir is None and (DATA_DIR_VARIABLE in os.environ or (_settings()[0].data_dir / "run.json").exists())
    if not site and (alone or not _holds_deployment(directory)):
        return None
    try:
        return load_deployment(directory)
    except SettingsError as error:
        _refuse(error)


def _start_detached(command: list[str], data_dir: Path, timeout_seconds: float) -> int:
    """Start the supervisor on its own, show what it says until the region is ready, and return the exit code."""
    supervisor = subprocess.Popen(  # noqa: S603 - the supervisor
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    )
    assert supervisor.stdout is not None
    deadline = time.monotonic() + timeout_seconds
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([supervisor.stdout], [], [], left)[0]:
            continue
        said = os.read(supervisor.stdout.fileno(), 1 << 16)
        if not said:
            break
        sys.stdout.buffer.write(said)
        sys.stdout.flush()
    seen = look("", data_dir, SystemClock().unix_ms())
    if supervisor.poll() is None and seen.running:
        # Reaping it is nobody's business any more: the region lives on.
        supervisor.returncode = 0
        if left > 0:
            return ExitCode.OK if seen.ready else 1
        print(
            f"meridian up: not ready after {timeout_seconds:g} s: {seen.summary}. It goes on trying.", file=sys.stderr
        )
        return 1
    return supervisor.wait()


def down(
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    site: SiteOption = "",
) -> None:
    """End the region, or all sites of the deployment, and all processes."""
    if (deployment := _deployment(config, data_dir, site)) is not None:
        try:
            raise typer.Exit(deployment_cli.down(deployment, site))
        except SettingsError as error:
            _refuse(error)
    _hand_over(config, data_dir, None)
    region = _settings()[0]
    record = run_file.read(region.data_dir)
    if record is None:
        print(f"region {region.name} is not running")
        return
    if run_file.send(record.supervisor, signal.SIGTERM):
        deadline = time.monotonic() + DOWN_TIMEOUT_SECONDS
        while run_file.is_alive(record.supervisor) and time.monotonic() < deadline:
            time.sleep(0.05)
        if run_file.send(record.supervisor, signal.SIGKILL):
            print("the supervisor did not end in time and was killed, its processes with it", file=sys.stderr)
    left = end_leftovers(region.data_dir)
    print(f"region {region.name} is down" + (f"; ended what was left: {', '.join(left)}" if left else ""))


def status(
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every second until Ctrl-C.")] = False,
) -> None:
    """Show the region's processes, of a deployment who is active as well. Exit code 0: ready, 1: not ready, 3: down."""
    if (deployment := _deployment(config, data_dir, "")) is not None:
        try:
            raise typer.Exit(deployment_cli.status(deployment, json=json, watch=watch))
        except SettingsError as error:
            _refuse(error)
    _hand_over(config, data_dir, None)
    region = _settings()[0]
    clock = SystemClock()
    if watch:
        _watch(region.name, region.data_dir)
        return
    seen = look(region.name, region.data_dir, clock.unix_ms())
    if json:
        print(msgspec.json.format(msgspec.json.encode(seen), indent=2).decode())
    else:
        from rich.console import Console

        from services.region.table import render

        Console().print(render(seen))
    raise typer.Exit(_status_code(seen))


def all_settings() -> list[str]:
    """Return the settings of the region and of each of its services, as TOML; services that lack parts are left out."""
    from importlib import import_module

    from services.common.settings import ServiceSettings, load

    region, kafka = _settings()
    tables = [as_toml(region), as_toml(kafka)]
    for place in (
        *(f"{service}.settings" for service in ("inference", "processor", "gateway")),
        "common.tracing_settings",
    ):
        module = import_module(f"services.{place}")
        for found in vars(module).values():
            is_own = (
                isinstance(found, type) and issubclass(found, ServiceSettings) and found.__module__ == module.__name__
            )
            if is_own and found.TABLE:
                try:
                    tables.append(as_toml(load(found)))
                except SettingsError as error:
                    _refuse(error)
    return tables


def _watch(name: str, data_dir: Path) -> None:
    from rich.live import Live

    from services.region.table import render

    clock = SystemClock()
    try:
        with Live(render(look(name, data_dir, clock.unix_ms())), auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(WATCH_INTERVAL_SECONDS)
                live.update(render(look(name, data_dir, clock.unix_ms())), refresh=True)
    except KeyboardInterrupt:
        return


def _status_code(seen: RegionStatus) -> int:
    if not seen.running:
        return 3
    return 0 if seen.ready else 1


def _hand_over(config: Path | None, data_dir: Path | None, base_port: int | None) -> None:
    """Put what the command line said where every process of the region reads it: into the environment."""
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config.absolute())
    if data_dir is not None:
        os.environ[DATA_DIR_VARIABLE] = str(data_dir)
    if base_port is not None:
        for offset, name in enumerate(PORT_ORDER):
            os.environ[f"MERIDIAN_REGION_{name.upper()}_PORT"] = str(base_port + offset)


def _settings() -> tuple[RegionSettings, KafkaSettings]:
    try:
        return load_settings()
    except (SettingsError, KafkaRuntimeError) as error:
        _refuse(error)


def _refuse(error: Exception) -> NoReturn:
    print(f"meridian: {error}", file=sys.stderr)
    raise typer.Exit(ExitCode.BAD_SETTINGS)
