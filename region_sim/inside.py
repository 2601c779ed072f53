"""The part of a drill that runs where its clients are: outside the regions, but inside their network.

With network namespaces only processes in the deployment's own "outside" reach the regions, so this is a process of its
own: `python -m region_sim.inside DIRECTORY`. It writes the history, and tells whoever watches what happens.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from region_sim.backends.compose_project import Project
from region_sim.backends.containers import ContainerHands
from region_sim.backends.process_world import ProcessWorld
from region_sim.conduct import Conductor
from region_sim.demo.proof import prove
from region_sim.errors import DrillBroken
from region_sim.faults.refusals import refusal_of
from region_sim.history import HistoryWriter
from region_sim.live import watching
from region_sim.spec import Drill
from region_sim.verdict import HISTORY_FILE
from services.common.clock import Clock, SystemClock
from services.common.deployment import Deployment, load_deployment

ORDER_FILE = "order.json"
INTERRUPTED = 130


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done."""

    drill: Drill
    seed: int
    run: str
    deployment: str
    project: Project | None = None
    """Of a deployment in containers: what they are called."""


def world_of(
    order: Order, deployment: Deployment, clock: Clock, directory: Path, say: Callable[[str], None]
) -> ProcessWorld:
    """The world that the order is for: processes of this machine, or containers."""
    if order.project is None:
        return ProcessWorld(deployment, clock, directory, say)
    hands = ContainerHands(order.project, deployment)
    refusal = refusal_of("compose", order.drill)
    return ProcessWorld(deployment, clock, directory, say, name="compose", hands=hands, refusal=refusal)


async def carry_out(directory: Path, clock: Clock) -> None:
    """Carry the order in `directory` out. Raises RegionSimError."""
    order = msgspec.json.decode((directory / ORDER_FILE).read_bytes(), type=Order)
    deployment = load_deployment(Path(order.deployment))
    with HistoryWriter(directory / HISTORY_FILE, clock) as history:
        async with watching(order.drill, history, clock) as watch:
            backend = world_of(order, deployment, clock, directory, watch.said)
            await Conductor(order.drill, order.seed, backend, history, run=order.run, watch=watch).run()
    if order.drill.load.source == "replay":
        await prove(directory, directory / HISTORY_FILE, deployment, clock)


def main() -> int:
    """Exit code 0: there is a history to judge; 1: the drill broke."""
    # Started by a program that may have been ignoring it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        asyncio.run(carry_out(Path(sys.argv[1]), SystemClock()))
    except DrillBroken as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
