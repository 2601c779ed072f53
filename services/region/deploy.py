"""What a deployment consists of: from the words of a command line to sites with addresses. Pure, but for the key files.

Two regions need a witness: of two votes neither is a majority, so losing either site would leave nobody who may act.
Three regions have three votes; a fourth would not let one more of them fail.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from infra.runtime.kafka import LOOPBACK, port_is_free
from infra.runtime.network import host_of
from services.common.clock import random_bytes
from services.common.deployment import PORT_OFFSETS, Deployment, Site
from services.common.region_settings import RegionSettings
from services.common.settings import SettingsError, load
from streams.pseudonym import KEY_BYTES

BASE_PORT_DEFAULT = 8080
PORTS_APART = 20
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - of a container: what is published is decided outside of it
SITE_NAME = re.compile(r"[a-z][a-z0-9]{0,30}")

Network = Literal["loopback", "namespaces"]
"""What a command line can ask for; `containers` is made by `services.region.containers` alone."""


def plan_deployment(
    regions: Sequence[str],
    witness: str,
    *,
    base_port: int,
    directory: Path,
    network: Literal["loopback", "namespaces", "containers"],
    deployment_id: str,
) -> Deployment:
    """Return the deployment of these sites. Raises SettingsError, naming what to write instead."""
    names = [*regions, *([witness] if witness else [])]
    if (reason := refusal(regions, witness)) is not None:
        raise SettingsError(reason)
    last = base_port + PORTS_APART * len(names)
    if base_port < 1024 or last > 65535:
        raise SettingsError(f"--base-port {base_port}: {len(names)} sites need ports from 1024 up to 65535")
    sites = [
        Site(
            name=name,
            kind="region" if name in regions else "witness",
            host=_host(index, name, network),
            base_port=base_port + PORTS_APART * index,
            namespace=name if network == "namespaces" else "",
        )
        for index, name in enumerate(names)
    ]
    return Deployment(deployment_id=deployment_id, network=network, sites=sites, directory=str(directory.absolute()))


def _host(index: int, name: str, network: str) -> str:
    """In containers a site's name is its address: everywhere else by their DNS, inside by its own hosts file."""
    if network == "containers":
        return name
    return host_of(index) if network == "namespaces" else LOOPBACK


def refusal(regions: Sequence[str], witness: str) -> str | None:
    """Return why these sites make no deployment, or None."""
    names = [*regions, *([witness] if witness else [])]
    for name in names:
        if not SITE_NAME.fullmatch(name):
            return f"{name!r} is no name of a site: up to 31 lower-case letters and digits, a letter first"
    if len(set(names)) < len(names):
        return f"every site needs a name of its own: {', '.join(names)}"
    if len(regions) < 2:
        return "a deployment has at least two regions: --regions east,west. One region alone is `meridian up` as it is."
    if len(regions) == 2 and not witness:
        return (
            "two regions need a witness, or losing either one would leave no majority: add --witness north. It runs an "
            "etcd member and nothing else."
        )
    return None


def differences(wanted: Deployment, found: Deployment) -> str | None:
    """Return how what the command line asks for differs from the deployment that is there, or None."""

    def shape(deployment: Deployment) -> str:
        sites = ", ".join(f"{site.kind} {site.name} from port {site.base_port}" for site in deployment.sites)
        return f"{sites}, on {deployment.network}"

    return None if shape(wanted) == shape(found) else f"it has {shape(found)}; asked for: {shape(wanted)}"


def region_settings(deployment: Deployment, site: Site) -> RegionSettings:
    """Return the settings of a region of the deployment; what they do not say comes from file and environment."""
    file = Path(deployment.directory) / "deployment.json"
    return load(
        RegionSettings,
        name=site.name,
        deployment=file,
        host=site.host,
        listen_host=EVERY_ADDRESS if deployment.network == "containers" else site.host,
        advertised_url=site.advertised_url,
        data_dir=deployment.site_dir(site.name),
        bootstrap=site.bootstrap,
        pseudonym_key_file=deployment.pseudonym_key_file,
        signing_key_file=deployment.signing_key_file,
        trusted_keys_file=deployment.trusted_keys_file,
        incarnation="",
        kafka_port=site.port("kafka"),
        controller_port=site.port("controller"),
        gateway_port=site.port("gateway"),
        processor_port=site.port("processor"),
        inference_port=site.port("inference"),
        replicator_port=site.port("replicator"),
        control_port=site.port("control"),
    )


def taken_port(deployment: Deployment) -> str | None:
    """Return which port of the deployment somebody else listens on, in words; None when all are free.

    Only on loopback: a namespace is new, so nobody else is in it.
    """
    if deployment.network != "loopback":
        return None
    for site in deployment.sites:
        for listener in PORT_OFFSETS:
            if not port_is_free(site.port(listener), site.host):
                return (
                    f"port {site.port(listener)}, meant for {listener} of {site.name}, is taken. See by whom with "
                    f"`ss -ltnp 'sport = :{site.port(listener)}'`, or choose other ports with --base-port."
                )
    return None


def make_key(path: Path) -> None:
    """Make the one pseudonym key of all regions, unless it is there: two regions must not each make their own."""
    if not path.exists():
        _write_key(path, random_bytes(KEY_BYTES))


def make_signing_key(key_file: Path, trusted_file: Path) -> None:
    """Make the key that pushed model versions are signed with, unless it is there, and trust it.

    A key that is there is left as it is, listed or not: whoever took it off the list meant it. When it was lost, a new
    one is listed beside the old, whose signatures go on being good. Listed first: a list without its key harms nobody.
    """
    if key_file.exists():
        return
    from models.signing import public_key

    key = random_bytes(KEY_BYTES)
    trusted_file.parent.mkdir(parents=True, exist_ok=True)
    with trusted_file.open("a") as file:
        file.write(f"{public_key(key).hex()}  # made by `meridian up`\n")
        file.flush()
        os.fsync(file.fileno())
    _write_key(key_file, key)


def _write_key(path: Path, key: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(key.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())


def new_deployment_id() -> str:
    """Return an id that no other deployment has: etcd members of different ones refuse each other."""
    return random_bytes(6).hex()


def with_holder(deployment: Deployment, holder_pid: int) -> Deployment:
    """Return the deployment on the network that this process holds."""
    return msgspec.structs.replace(deployment, holder_pid=holder_pid)
