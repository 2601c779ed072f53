"""What plays of faults need of the world that they break, whoever runs its processes: a driver a way of running them.

`process` has them as children of a supervisor of this machine, `compose` in containers. Both are processes of this
machine, told apart for ever by number and time of start, so that a signal goes to exactly the one that was looked at.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from infra.runtime.network import Drop, SlowLink
from services.common.deployment import Deployment
from services.region.run_file import ProcessIdentity


class SiteNetwork(Protocol):
    """The network between sites."""

    @property
    def holder_pid(self) -> int:
        """The process that its outside lives with: one network has one."""

    def host(self, site: str) -> str:
        """Return the address at which other sites reach this one. Raises NetworkError."""

    def command(self, site: str | None, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` in the namespace of `site`; None: outside. Raises NetworkError."""

    def drop_only(self, drops: Sequence[Drop]) -> None:
        """Lose exactly this and nothing else. Blocks. Raises NetworkError."""

    def slow_down(self, site: str, link: SlowLink, said: Path) -> subprocess.Popen[bytes]:
        """Have every packet between `site` and other sites come late, or be lost. Blocks. Raises NetworkError."""

    def speed_up(self, site: str, slow: subprocess.Popen[bytes]) -> None:
        """End what `slow_down` began. Blocks. Raises NetworkError."""


class Hands(Protocol):
    """What can be done to one running deployment. What blocks is called in a thread."""

    @property
    def deployment(self) -> Deployment:
        """Where its sites are."""

    @property
    def network(self) -> SiteNetwork:
        """The network between its sites. Raises DrillBroken where there is none that could be cut."""

    @property
    def region_names(self) -> list[str]:
        """The regions, in the deployment's order."""

    def processes(self, site: str, names: list[str]) -> list[ProcessIdentity]:
        """The living processes of a site and all that they started; no names: all, what starts others first."""

    def supervisor(self, site: str) -> ProcessIdentity | None:
        """What starts a site's processes; None when it does not run."""

    def signal(self, identities: list[ProcessIdentity], number: signal.Signals) -> None:
        """Send a signal to exactly these processes."""

    def alive(self, identities: list[ProcessIdentity]) -> int:
        """How many of them live."""

    def kill_site(self, site: str, victims: list[ProcessIdentity]) -> None:
        """Kill all of a site, of which `victims` are the processes, so that nothing starts it again. Blocks."""

    def wipe(self, site: str) -> None:
        """Delete everything that a site had; none of it runs. Blocks. Raises DrillBroken."""

    def not_wiped(self, site: str) -> str | None:
        """What of a site is still there; None when nothing is. Blocks."""

    def unplug(self, site: str) -> None:
        """Take a site off the network between sites, as if it had no cable. Blocks. Raises DrillBroken."""

    def plug_in(self, site: str) -> None:
        """Join it to that network again. Blocks. Raises DrillBroken."""

    def start(self, site: str, seconds_max: float) -> None:
        """Start a site again; it is no failure when it is not ready after a while. Blocks. Raises DrillBroken."""

    def stop(self, site: str) -> None:
        """End a site as an operator does. Blocks. Raises DrillBroken."""

    def operator(self, arguments: list[str], seconds_max: float) -> dict[str, object]:
        """Carry out a verb of `meridian` with --json, and return what it printed. Blocks. Raises DrillBroken."""

    def sites_ready(self) -> str | None:
        """Why not all sites are up and ready by their own word; None when they are. Blocks."""
