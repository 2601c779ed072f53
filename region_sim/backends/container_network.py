"""The network between sites in containers: packets are dropped in the namespace of the site that should receive them.

Not where they are sent: a sender whose own kernel drops would partly be told. `docker network disconnect` tells
everybody (names resolve no more, sockets are closed), which is another fault and has a name of its own.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from infra.runtime.network import Drop, NetworkError, SlowLink
from region_sim.backends.compose_project import OUTSIDE, WAN, Container, Project, inspect
from region_sim.errors import DrillBroken

TABLE = "inet meridian_drill"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class ContainerNetwork:
    """See SiteNetwork."""

    project: Project
    sites: tuple[str, ...]

    @property
    def holder_pid(self) -> int:
        """See SiteNetwork."""
        return self._pid(OUTSIDE)

    def host(self, site: str) -> str:
        """Where other sites reach this one. Raises NetworkError while it has no interface there."""
        container = self._standing(f"{site}-net")
        address = container.addresses.get(self.project.network(WAN), "")
        if not address:
            raise NetworkError(f"{site} is not attached to {self.project.network(WAN)}")
        return address

    def command(self, site: str | None, argv: Sequence[str]) -> list[str]:
        """See SiteNetwork. Only the network is another one: programs and files are this machine's."""
        pid = self._pid(OUTSIDE if site is None else f"{site}-net")
        return [_program("nsenter"), "--target", str(pid), "--net", "--", *argv]

    def drop_only(self, drops: Sequence[Drop]) -> None:
        """See SiteNetwork. A site that does not run loses nothing, and has no rules when it comes back."""
        running = [site for site in self.sites if self._runs(site)]
        hosts = {site: self.host(site) for site in running}
        for site in running:
            rules = [_rule(drop, hosts) for drop in drops if drop.receiver == site and drop.sender in hosts]
            script = "\n".join(
                [
                    f"add table {TABLE}",
                    f"add chain {TABLE} links {{ type filter hook input priority 0; }}",
                    f"flush chain {TABLE} links",
                    *(line for lines in rules for line in lines),
                ]
            )
            self._nft(site, script)

    def slow_down(self, site: str, link: SlowLink, said: Path) -> NoReturn:
        """Raises NetworkError: such a drill is refused before."""
        del link, said
        raise NetworkError(f"nothing stands between the container of {site} and its bridge")

    def speed_up(self, site: str, slow: subprocess.Popen[bytes]) -> None:
        """Nothing was slowed down."""

    def _nft(self, site: str, script: str) -> None:
        done = subprocess.run(
            self.command(site, [_program("nft"), "-f", "-"]), input=script, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise NetworkError(f"nft in the namespace of {site}: {done.stderr.strip()}")

    def _runs(self, site: str) -> bool:
        name = self.project.container(f"{site}-net")
        try:
            found = inspect([name])
        except DrillBroken as error:
            raise NetworkError(str(error)) from error
        return name in found and found[name].pid > 0

    def _pid(self, service: str) -> int:
        return self._standing(service).pid

    def _standing(self, service: str) -> Container:
        name = self.project.container(service)
        try:
            found = inspect([name]).get(name)
        except DrillBroken as error:
            raise NetworkError(str(error)) from error
        if found is None or found.pid == 0:
            raise NetworkError(f"the container {name} does not run: its network is gone")
        return found


def _rule(drop: Drop, hosts: dict[str, str]) -> list[str]:
    """At the receiver, by the sender's address on the network between sites."""
    rule = f"add rule {TABLE} links ip saddr {hosts[drop.sender]}"
    if drop.only_ports:
        ports = _set(drop.only_ports)
        return [f"{rule} tcp dport {ports} drop", f"{rule} tcp sport {ports} drop"]
    if drop.but_ports:
        ports = _set(drop.but_ports)
        return [f"{rule} tcp dport != {ports} tcp sport != {ports} drop"]
    return [f"{rule} drop"]


def _set(ports: Sequence[int]) -> str:
    return f"{{ {', '.join(map(str, ports))} }}"


def _program(name: str) -> str:
    return shutil.which(name, path=PATH) or name
