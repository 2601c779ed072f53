"""The course of a drill that replays a log: the fault half way through its ranked part, on ports that are free."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from infra.runtime.kafka import port_is_free
from region_sim.errors import BadDrill
from region_sim.spec import Drill
from services.common.deployment import SITE_PORTS
from services.replay.cli import is_shop
from services.replay.errors import ReplayMisused

WARM_UP_SECONDS_MAX: Final = 5.0
"""The bulk part has warmed everything up but the rankings themselves."""
SITE_STEP: Final = 20
FIRST_PORT, LAST_PORT = 20_000, 31_000


def replayed(drill: Drill, backend: str) -> Drill:
    """The drill with the times of its replay; others as they are.

    Raises BadDrill for a log that is not there, and in memory.
    """
    load = drill.load
    if load.source != "replay":
        return drill
    if backend != "process":
        raise BadDrill(
            f"a shop's log is replayed to processes of this machine, not in {backend}: use --backend process"
        )
    try:
        is_made_up = is_shop(load.data, "")
    except ReplayMisused as error:
        raise BadDrill(f"load.data: {error}") from error
    if not is_made_up and not Path(load.data).exists():
        raise BadDrill(f"load.data: there is no {load.data}; name a folder, a file, or shop[:SEED]")
    half_seconds = load.ranked_searches / load.searches_per_second / 2
    warm_up_seconds = min(WARM_UP_SECONDS_MAX, half_seconds / 2)
    phases = msgspec.structs.replace(
        drill.phases, warm_up_seconds=warm_up_seconds, steady_seconds=half_seconds - warm_up_seconds
    )
    topology = drill.topology
    if topology.network == "loopback":
        sites = len(topology.regions) + bool(topology.witness)
        topology = msgspec.structs.replace(topology, base_port=_free_base(sites))
    return msgspec.structs.replace(drill, phases=phases, topology=topology)


def _free_base(sites: int) -> int:
    """A first port that leaves room for all sites: a demonstration is run beside whatever runs already."""
    ports = [SITE_STEP * site + offset for site in range(sites) for offset in range(SITE_PORTS)]
    start = FIRST_PORT + os.getpid() * 61 % (LAST_PORT - FIRST_PORT)
    base: int
    for base in [*range(start, LAST_PORT, 100), *range(FIRST_PORT, start, 100)]:
        if all(port_is_free(base + port) for port in ports):
            return base
    raise BadDrill(f"there are no free ports for {sites} sites between {FIRST_PORT} and {LAST_PORT}")
