"""Whether packets get from one site to another: tried by a TCP connection, from inside the sender's namespace."""

from __future__ import annotations

import asyncio
from enum import Enum

from region_sim.backends.hands import SiteNetwork

SECONDS_MAX = 1


class Reach(Enum):
    """How a connection ended."""

    OPEN = "open"
    REFUSED = "refused"
    """Nobody listens, and the machine said so: the packets got there and back."""
    NOBODY = "nobody"


async def reaches(network: SiteNetwork, sender: str, host: str, port: int) -> Reach:
    """Try a connection from a site. Raises NetworkError when the network is gone."""
    script = f"exec 3<>/dev/tcp/{host}/{port}"
    argv = network.command(sender, ["env", "LC_ALL=C", "timeout", f"{SECONDS_MAX}", "bash", "-c", script])
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode == 0:
        return Reach.OPEN
    return Reach.REFUSED if b"refused" in said else Reach.NOBODY
