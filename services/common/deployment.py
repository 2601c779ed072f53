"""The sites of a deployment and where each of their processes listens: one file that every process of it reads.

A *region* is a whole copy of the system; a *witness* only votes. The file says where things are, never how they are:
who is active, which life a region is in and which gateways serve now is in etcd.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from services.common.settings import SettingsError

DEPLOYMENT_FILE = "deployment.json"
SITE_PORTS = 10
"""Ports that each site owns, from its `base_port` on."""
PORT_OFFSETS = {
    "gateway": 0,
    "processor": 1,
    "inference": 2,
    "kafka": 3,
    "controller": 4,
    "replicator": 5,
    "control": 6,
    "etcd_client": 7,
    "etcd_peer": 8,
}
"""Where each listener of a site is, from its first port on. `controller` is Kafka's own quorum; `control` is ours."""

SiteName = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9]{0,30}$")]


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """One place that can be lost as a whole."""

    name: SiteName
    kind: Literal["region", "witness"]
    host: str
    base_port: Annotated[int, msgspec.Meta(ge=1, le=65535 - SITE_PORTS)]
    namespace: str = ""
    """Name of the network namespace that its processes live in; empty on the machine's own network."""
    advertised_url: str = ""
    """Where apps reach its gateway, when that is not where the other sites do: behind published ports, say."""

    def port(self, listener: str) -> int:
        """Return where `listener` (a key of PORT_OFFSETS) is."""
        return self.base_port + PORT_OFFSETS[listener]

    def url(self, listener: str) -> str:
        """Return the address of an HTTP listener of this site."""
        return f"http://{self.host}:{self.port(listener)}"

    @property
    def gateway_for_apps(self) -> str:
        """What an app is told that wants to reach this region."""
        return self.advertised_url or self.url("gateway")

    @property
    def bootstrap(self) -> str:
        """The address of the site's Kafka."""
        return f"{self.host}:{self.port('kafka')}"


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """All sites, and what they must have in common."""

    deployment_id: str
    network: Literal["loopback", "namespaces", "containers"]
    sites: list[Site]
    directory: str
    """Absolute; a site's files lie in `directory/NAME`, which a wipe empties."""
    holder_pid: int = 0
    """With `namespaces`: the process that holds the outside network; commands enter its namespaces."""
    keys_directory: str = ""
    """Where the keys of all regions lie; in `directory` unless set."""

    @property
    def regions(self) -> list[Site]:
        """The sites that hold data."""
        return [site for site in self.sites if site.kind == "region"]

    def site(self, name: str) -> Site:
        """Return the site of that name. Raises SettingsError, naming those that exist."""
        for site in self.sites:
            if site.name == name:
                return site
        known = ", ".join(site.name for site in self.sites)
        raise SettingsError(f"there is no site {name!r} in this deployment. There are: {known}.")

    def peers_of(self, region: str) -> list[Site]:
        """Return the other regions."""
        return [site for site in self.regions if site.name != region]

    def site_dir(self, name: str) -> Path:
        """Return the directory that holds everything that a wipe of this site destroys."""
        return Path(self.directory) / name

    @property
    def etcd_endpoints(self) -> list[str]:
        """The client addresses of all etcd members, in the order of the sites."""
        return [site.url("etcd_client") for site in self.sites]

    @property
    def pseudonym_key_file(self) -> Path:
        """The one key of all regions; outside their directories, so that it outlives a wipe."""
        return self._keys / "pseudonym.key"

    @property
    def signing_key_file(self) -> Path:
        """What model versions are signed with; like the pseudonym key outside of the regions' directories."""
        return self._keys / "model-signing.key"

    @property
    def trusted_keys_file(self) -> Path:
        """The public keys whose signatures on model versions all regions accept, one a line."""
        return self._keys / "trusted-model-keys"

    @property
    def _keys(self) -> Path:
        return Path(self.keys_directory or self.directory)

    def save(self) -> Path:
        """Write the file, and return where."""
        path = Path(self.directory) / DEPLOYMENT_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2))
        beside.replace(path)
        return path


def load_deployment(path: Path) -> Deployment:
    """Read a deployment's file (or the one in a directory). Raises SettingsError."""
    file = path / DEPLOYMENT_FILE if path.is_dir() else path
    try:
        return msgspec.json.decode(file.read_bytes(), type=Deployment)
    except FileNotFoundError:
        raise SettingsError(
            f"there is no deployment at {file}. `meridian up --regions east,west --witness north` makes one."
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}. It is written by `meridian up --regions`.") from None
