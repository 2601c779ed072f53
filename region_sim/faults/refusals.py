"""What the process backend cannot do to this machine, and who can. A refusal is unknown, never valid.

What is asked here is asked of the machine, so that a drill is refused before anything is started. What only the running
deployment can say (its disks, its network) is refused by the play itself, as its fault's error.
"""

from __future__ import annotations

import os

from infra.runtime import network
from region_sim.spec import ClockFault, DiskFull, Fault, Link, Partition, StoreFault

MEMORY = "use --backend memory"


def refusal(fault: Fault) -> str | None:
    """Return why real processes on this machine cannot be broken so, and what can; None when they can."""
    if isinstance(fault, ClockFault):
        return (
            f"the clocks of processes on this machine are the machine's own, and setting them breaks others: {MEMORY}"
        )
    if isinstance(fault, StoreFault):
        return f"a real etcd cannot be told to do that ({fault.how}): {MEMORY}"
    if isinstance(fault, Partition | Link) and (reason := network.unavailable()) is not None:
        return f"this machine has no network namespaces ({reason}): {MEMORY}"
    if isinstance(fault, Partition) and fault.shape in ("etcd", "data") and not network.has_nft():
        return f"a cut of some ports only ({fault.shape}) needs nft, which is not installed: apt-get install nftables"
    if isinstance(fault, DiskFull) and os.geteuid() != 0:
        return f"a disk of its own for the site needs root, to mount it: run the drill as root, or {MEMORY}"
    return None
