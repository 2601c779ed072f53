"""What a drill needs of the world that it breaks. The conductor knows nothing else of it.

Two worlds keep this contract: real Kafka, etcd and services, as processes of this machine (`process`) or in containers
(`compose`), and `memory` (the shipped cores over models of logs, network, clocks and etcd, in virtual time). Everything
is awaited, and time passes only in `clock.sleep` and in what is awaited here, so that the same conductor runs in both.
What is found goes into the history, never to a checker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol

from region_sim.evidence import ControlTimes
from region_sim.faults.base import FaultPlay
from region_sim.history import HistoryWriter
from region_sim.load.script import Script
from region_sim.spec import Drill, Fault
from services.common.clock import Clock

BackendName = Literal["process", "compose", "memory"]
BACKENDS: Final[Mapping[str, BackendName]] = {"process": "process", "compose": "compose", "memory": "memory"}
"""As somebody types them."""


class Backend(Protocol):
    """One running deployment, and the clients outside of it."""

    name: BackendName
    clock: Clock
    """The conductor's own time: nothing that a drill breaks changes it."""

    @property
    def regions(self) -> Sequence[str]:
        """The regions, in the deployment's order."""

    @property
    def sites(self) -> Sequence[str]:
        """All sites: the regions and the witness."""

    async def open(self, drill: Drill, script: Script, history: HistoryWriter) -> None:
        """Make the clients. Called once, before anything else."""

    async def close(self) -> None:
        """Let everything go that `open` made."""

    def times(self) -> ControlTimes | None:
        """What the regions are set to."""

    async def preload(self, seconds_max: float) -> str | None:
        """Publish the catalogue and wait until a search is answered; why that did not happen, or None."""

    def start_load(self) -> None:
        """Begin what the drill's load says: an open loop."""

    async def stop_load(self) -> None:
        """Make no more calls; return when every call has its answer or has been given up."""

    async def settle_load(self, seconds_max: float) -> None:
        """Let the apps find out what became of what nobody answered."""

    async def not_serving(self) -> str | None:
        """Why no region is active with an open gate, by all controllers alike; None when one is."""

    async def not_caught_up(self) -> str | None:
        """Why some copy is behind; None when all have caught up as far as load lets them."""

    async def not_ready(self) -> str | None:
        """Why not all sites are up and ready by their own word; None when they are."""

    async def active(self) -> str:
        """The region that is active by the largest epoch that anybody knows; empty when nobody says so."""

    async def etcd_leader(self) -> str:
        """The site whose etcd member leads; empty when nobody says so."""

    async def incarnation(self, region: str) -> str:
        """The life that a region is in; empty when nobody says so."""

    def refusal(self, fault: Fault) -> str | None:
        """Why this world cannot do that to itself, and what can; None when it can."""

    def play(self, fault: Fault, target: str, etcd_leader: str, incarnation: str) -> FaultPlay:
        """What carries `fault` out on the site `target`. Raises DrillBroken for a fault that is refused."""

    async def collect_forecast(self, active: str) -> None:
        """Write down what another region's controller forecasts, should `active` be lost now (ForecastSeen)."""

    async def collect_held_ends(self, region: str, incarnation: str) -> None:
        """Write down how much of a lost life's events log a survivor holds now (HeldEnds)."""

    async def collect_predictions(self, when: Literal["before", "after"]) -> None:
        """Put the same questions to every region's model, and write down what they say (PredictionsSeen)."""

    async def collect_states(self, seconds_max: float) -> str | None:
        """Wait until all regions stand at one frontier that covers their logs; write down StateSeen of each.

        Returns why they do not stand there; None when they do.
        """

    async def collect_all(self) -> None:
        """Write down all logs (LogRows, LogRead, DeadSeen, MarkerSeen), receipts, terms and transitions."""


async def not_recovered(backend: Backend) -> str | None:
    """Why not all of a deployment is well by its own word; None when it is."""
    return await backend.not_ready() or await backend.not_serving() or await backend.not_caught_up()
