"""Where a command must be to reach the sites: with a network of its own, a deployment is only seen from outside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from infra.runtime.network import NetworkError, RegionNetwork
from services.common.deployment import DEPLOYMENT_FILE, Deployment, load_deployment
from services.common.settings import SettingsError


def network_of(deployment: Deployment) -> RegionNetwork | None:
    """Return the deployment's network; None on loopback, and in containers, whose network is not ours."""
    if deployment.network != "namespaces":
        return None
    return RegionNetwork(tuple(site.name for site in deployment.sites), deployment.holder_pid)


def enter(deployment: Deployment) -> None:
    """Go on in the outside namespace of the deployment: this same command is run again inside, in place of itself.

    Returns where nothing is to be done: on loopback, and inside already. Raises SettingsError when the network is gone.
    """
    network = network_of(deployment)
    if network is None:
        return
    itself = [sys.executable, *sys.orig_argv[1:]]
    try:
        command = network.command(None, itself)
    except NetworkError as error:
        raise SettingsError(f"{error}: `meridian up --data-dir {deployment.directory}`") from error
    if command == itself:
        return
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - becomes itself, elsewhere


def enter_if_deployed(directory: Path) -> None:
    """As `enter`, for a command that may be about a region that is alone: without a deployment there, nothing."""
    if (directory / DEPLOYMENT_FILE).exists():
        enter(load_deployment(directory))
