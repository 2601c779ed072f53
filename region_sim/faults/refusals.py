"""What backends cannot do to what they run, and who can. A refusal is unknown, never valid.

What is asked here is asked of the machine, so that a drill is refused before anything is started. What only the running
deployment can say (its disks, its network) is refused by the play itself, as its fault's error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final

from infra.runtime import network
from region_sim.backends.base import BackendName
from region_sim.spec import ClockFault, Cut, DiskFull, Drill, Fault, Link, Model, Partition, StoreFault, TopicLoss

MEMORY = "use --backend memory"
PROCESS = "use --backend process"
SITES_OF_COMPOSE = (["east", "west"], "north")
"""The regions and the witness that docker-compose.multiregion.yml describes."""

NOT_ON_CONTAINERS: Final[Mapping[type, str]] = {
    Link: "nothing stands between a container and its bridge that could hold packets back",
    DiskFull: "the volumes of containers lie on the machine's own disk, which is not filled",
    Cut: "Docker starts a broker again before its files could be changed",
    TopicLoss: "Docker starts a broker again before its files could be changed",
    Model: "the models of a container are part of its image and stay as they are",
}


def refusal_of(backend: BackendName, drill: Drill) -> Callable[[Fault], str | None]:
    """Return what asks whether a fault of this drill is refused by a backend."""
    if backend == "memory":
        return in_memory
    if backend == "process":
        return on_processes

    def asked(fault: Fault) -> str | None:
        return _topology_refused(drill) or on_containers(fault)

    return asked


def in_memory(fault: Fault) -> str | None:
    """Return why models cannot be broken so, and what can; None when they can."""
    if isinstance(fault, Partition) and fault.how == "disconnect":
        return "models have no interface that could be taken away, only packets that are dropped: use --backend compose"
    return None


def on_processes(fault: Fault) -> str | None:
    """Return why real processes on this machine cannot be broken so, and what can; None when they can."""
    if (reason := _never_for_real(fault)) is not None:
        return reason
    if isinstance(fault, Partition | Link) and (reason := network.unavailable()) is not None:
        return f"this machine has no network namespaces ({reason}): {MEMORY}"
    if isinstance(fault, Partition) and fault.how == "disconnect":
        return "processes have no container that could be taken off a network: use --backend compose"
    if isinstance(fault, Partition) and fault.shape in ("etcd", "data") and not network.has_nft():
        return f"a cut of some ports only ({fault.shape}) needs nft, which is not installed: apt-get install nftables"
    if isinstance(fault, DiskFull) and os.geteuid() != 0:
        return f"a disk of its own for the site needs root, to mount it: run the drill as root, or {MEMORY}"
    return None


def on_containers(fault: Fault) -> str | None:
    """Return why containers on this machine cannot be broken so, and what can; None when they can."""
    if (reason := _never_for_real(fault)) is not None:
        return reason
    if isinstance(fault, Partition) and fault.how == "drop" and not network.has_nft():
        return "dropping packets in a site's namespace needs nft, which is not installed: apt-get install nftables"
    why = next((why for kind, why in NOT_ON_CONTAINERS.items() if isinstance(fault, kind)), None)
    return None if why is None else f"{why}: {PROCESS}"


def _never_for_real(fault: Fault) -> str | None:
    if isinstance(fault, ClockFault):
        return (
            f"the clocks of processes on this machine are the machine's own, and setting them breaks others: {MEMORY}"
        )
    if isinstance(fault, StoreFault):
        return f"a real etcd cannot be told to do that ({fault.how}): {MEMORY}"
    return None


def _topology_refused(drill: Drill) -> str | None:
    if (drill.topology.regions, drill.topology.witness) != SITES_OF_COMPOSE:
        wanted = ", ".join([*drill.topology.regions, drill.topology.witness]).rstrip(", ")
        return f"docker-compose.multiregion.yml has the sites east, west and north, not {wanted}: {PROCESS}"
    return None
