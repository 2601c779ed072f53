"""`meridian console`."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final, NoReturn

import msgspec
import typer

from services.common import logging
from services.common.clock import SystemClock
from services.common.deployment import DEPLOYMENT_FILE, Deployment, load_deployment
from services.common.exit_codes import ExitCode
from services.common.http import stop_on_signals
from services.common.settings import SettingsError, load
from services.console.server import running
from services.console.settings import ConsoleSettings

DOOR_VARIABLE: Final = "MERIDIAN_CONSOLEDOOR"
"""Not in the table of settings: the number of a listening socket, from this command to itself."""
RUN_FILE: Final = "run.json"


class ConsoleUp(msgspec.Struct, frozen=True, kw_only=True):
    """What `meridian console --json` prints when it listens."""

    url: str
    read_only: str
    """Why nobody may act from the page; empty when one may."""


def console(
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="The deployment's directory.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Where the page is (default: 8190).")] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Listen here (default: this machine only); others need a token to act.")
    ] = None,
    drills: Annotated[
        Path | None, typer.Option("--drills", help="Where `region-sim run` left its results (default: drills).")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Nobody may act from the page.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the address as one JSON object.")] = False,
) -> None:
    """Serve one web page that shows the deployment live, until Ctrl-C.

    It decides nothing and keeps nothing: start and end it at will, also when regions are dead.
    """
    logging.configure("console", "warning")
    try:
        settings = load(
            ConsoleSettings,
            host=host,
            port=port,
            drills=None if drills is None else drills.absolute(),
            deployment=None if data_dir is None else data_dir.absolute(),
            operate=False if read_only else None,
        )
        deployment = _deployment(settings.deployment)
        door = _door(deployment, settings)
        asyncio.run(_serve(deployment, settings, door, json=json))
    except SettingsError as error:
        _refuse(str(error))


async def _serve(deployment: Deployment, settings: ConsoleSettings, door: socket.socket | None, *, json: bool) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with running(deployment, settings, SystemClock(), door=door) as (console, url):
        read_only = settings.why_read_only() or ""
        if json:
            print(msgspec.json.encode(ConsoleUp(url=url, read_only=read_only)).decode(), flush=True)
        else:
            regions = ", ".join(site.name for site in deployment.regions)
            said = f"read-only: {read_only}" if read_only else "operators may act from it"
            print(f"console of {regions}: {url} ({said}). Ctrl-C ends it.", flush=True)
        await console.until(stop)


def _deployment(place: Path) -> Deployment:
    """Read the deployment. Raises SettingsError, in words for a region that is alone as well."""
    directory = place if place.is_dir() else place.parent
    alone = [found for found in (directory, Path("var/east")) if (found / RUN_FILE).exists()]
    is_missing = not (place.exists() and (place.is_file() or (place / DEPLOYMENT_FILE).exists()))
    if is_missing and alone:
        raise SettingsError(
            f"{alone[0]} is a region that is alone: it elects nobody and copies nothing, so a console has nothing to "
            f"show. `meridian status --data-dir {alone[0]}` shows its processes; `meridian up --regions east,west "
            "--witness north` starts a deployment, and --data-dir names one that is elsewhere."
        )
    try:
        return load_deployment(place)
    except SettingsError as error:
        raise SettingsError(f"{error} If it lies elsewhere, name its directory with --data-dir.") from None


def _door(deployment: Deployment, settings: ConsoleSettings) -> socket.socket | None:
    """Where the regions have a network of their own: listen out here, then go in there, and serve at that door.

    None on the machine's own network. A socket stays in the network in which it was opened, whoever holds it.
    """
    inherited = os.environ.pop(DOOR_VARIABLE, "")
    if inherited:
        return socket.socket(fileno=int(inherited))
    if deployment.network == "loopback":
        return None
    try:
        door = socket.create_server((settings.host, settings.port), reuse_port=False)
    except OSError as error:
        raise SettingsError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}. {_OTHER}") from error
    door.set_inheritable(True)
    os.environ[DOOR_VARIABLE] = str(door.fileno())
    try:
        # By name: the supervision is another part of the services, and only its network is needed here.
        import_module("services.region.network").enter(deployment)
    finally:
        os.environ.pop(DOOR_VARIABLE, None)
    return door


_OTHER: Final = "Choose another one with --port."


def _refuse(message: str) -> NoReturn:
    # What `serving` says of a taken port is written for a region's processes.
    said = message.replace("choose other ports with `meridian up --base-port`", "choose another one with --port")
    print(f"meridian console: {said}", file=sys.stderr)
    raise typer.Exit(ExitCode.BAD_SETTINGS)
