"""One deployment in virtual time: sites, the network between them, etcd, and whoever asks from outside.

Everything in it is a function of the drill's topology and one seed. The clocks of all machines begin at 1,790,000,000 s
(wall time); settings are those of a deployment over a wide-area network, so that minutes cost little.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, Literal

import aiohttp
import msgspec
from aiohttp import web

from region_sim.evidence import ControlTimes
from region_sim.memory.clocks import MachineClock
from region_sim.memory.etcd import EtcdModel
from region_sim.memory.etcd_watches import PROGRESS_SECONDS
from region_sim.memory.frames import OpenedFrames
from region_sim.memory.inference import GOOD
from region_sim.memory.kernel import Kernel, Process
from region_sim.memory.network import OUTSIDE, Network, Unreachable
from region_sim.memory.session import BASE_PORT, RouteBook, SimRequest, as_session
from region_sim.memory.site import MemorySite
from region_sim.spec import Drill
from services.common.deployment import Deployment, Site
from services.controller.client import WAIT_MS, LeasePace
from services.controller.proof import RETRY_SECONDS
from services.controller.settings import ControllerSettings
from services.coordination.etcd import WATCH_SILENCE_SECONDS
from services.gateway.settings import GatewaySettings
from services.processor.markers import LOOK_SECONDS
from services.processor.settings import ProcessorSettings
from services.processor.terms import CHECK_SECONDS
from services.replicator.settings import ReplicatorSettings

DEPLOYMENT_ID: Final = "memory"


class WorldSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a deployment is set to; times in seconds."""

    partitions: int = 2
    lease_ttl: float = 9.0
    renew_interval: float = 3.0
    request_timeout: float = 0.7
    """Of one etcd member."""
    quiesce: float = 1.0
    rate_bound: float = 0.001
    etcd_election: float = 3.0
    """After so long to twice as long without a leader, a member of etcd stands for election."""
    etcd_progress: float = 0.9
    """How often a watch proves that it is alive."""
    watch_silence: float = 2.0
    """After so long without a word from etcd, a watch is given up."""
    cycle: float = 2.0
    observe: float = 5.0
    rank_delay: float = 0.4
    hold_down: float = 20.0
    unreachable: float = 15.0
    """A region out of reach for so long gets a receipt."""
    lease_poll: float = 2.0
    """How often a process asks its controller while the region is active."""
    lease_wait_ms: int = 2_000
    """How long it waits for news from it while the region is passive."""
    term_check: float = 2.0
    """How often a processor looks whether its term has run out."""
    markers_look: float = 5.0
    """How often a processor looks at the ends of the rankings logs."""
    prove: float = 3.0
    """How often a controller looks whether its region is in another life."""
    fetch_wait: float = 2.0
    """How long a broker waits for something to give to a replicator."""
    restart: float = 1.0
    """A process that ended is started again after so long."""
    boot: float = 1.0
    """From the start of a broker until it answers."""
    snapshot_interval: float = 20.0
    receipts_cycle: float = 6.0
    """How often receipts are brought up to date."""
    watch: float = 1.0
    """How often a controller's attendants look whether a term began."""
    hurry: float = 0.2
    """How often processes are asked while somebody waits for the answer."""
    registration_ttl: float = 9.0
    proof_wait_ms: int = 1_500
    ack: Literal["local", "remote", "bounded"] = "local"
    etcd_leader: float | None = None
    """How often a controller looks whether etcd is led from its own region, and moves the lead elsewhere; None: the
    lead is wherever chance puts it, which is harder."""

    def pace(self) -> LeasePace:
        """How often a process asks its controller."""
        return LeasePace(poll_open_seconds=self.lease_poll, wait_ms=self.lease_wait_ms)

    def controller(self) -> ControllerSettings:
        """See services.controller.settings."""
        return ControllerSettings(
            rank_delay_seconds=self.rank_delay,
            hold_down_seconds=self.hold_down,
            operation_step_seconds=8.0,
            sick_seconds=6.0,
        )

    def gateway(self) -> GatewaySettings:
        """See services.gateway.settings.

        Acknowledged ends are recorded as often as shipped: what is not recorded yet can be lost without a trace.
        """
        return GatewaySettings(
            ack=self.ack,
            processor_poll_ms=5_000,
            view_interval_seconds=6.0,
            view_seconds_max=5.0,
            registration_seconds=12.0,
            peer_fresh_seconds=4.0,
            deadline_ms=1_500,
        )

    def processor(self) -> ProcessorSettings:
        """See services.processor.settings. Buckets are short, so that minutes hold several."""
        return ProcessorSettings(
            bucket_ms=60_000,
            clock_events=50,
            snapshot_interval_seconds=self.snapshot_interval,
            rebuild="replay",
            rebuild_patience_seconds=20.0,
            silence_ms=5_000,
            fetch_wait_ms=2_000,
            watch_interval_seconds=2.0,
            rankings_timeout_ms=500,
        )

    def replicator(self) -> ReplicatorSettings:
        """See services.replicator.settings."""
        return ReplicatorSettings(
            tick_ms=2_000,
            poll_interval_ms=3_000,
            report_interval_ms=4_000,
            report_calm_gap_ms=500,
            silence_seconds=6.0,
            answer_seconds=1.0,
            alarm_retry_seconds=4.0,
            alarm_shown_seconds=20.0,
            delivery_timeout_ms=10_000,
            lives_interval_ms=2_000,
            peers_interval_ms=6_000,
            own_interval_ms=6_000,
        )


class NearSettings(WorldSettings, frozen=True, kw_only=True):
    """As regions are set by default: what drills with marks in seconds are made for."""

    lease_ttl: float = 2.0
    renew_interval: float = 0.4
    request_timeout: float = 0.3
    quiesce: float = 0.1
    etcd_election: float = 1.0
    etcd_progress: float = PROGRESS_SECONDS
    watch_silence: float = WATCH_SILENCE_SECONDS
    cycle: float = 0.25
    observe: float = 0.5
    hold_down: float = 30.0
    unreachable: float = 10.0
    lease_poll: float = 0.25
    lease_wait_ms: int = WAIT_MS
    term_check: float = CHECK_SECONDS
    markers_look: float = LOOK_SECONDS
    prove: float = RETRY_SECONDS
    fetch_wait: float = 1.0
    receipts_cycle: float = 1.0
    watch: float = 0.1
    hurry: float = 0.05
    proof_wait_ms: int = 500
    etcd_leader: float | None = 5.0

    def pace(self) -> LeasePace:
        """See WorldSettings."""
        return LeasePace()

    def controller(self) -> ControllerSettings:
        """See WorldSettings."""
        return ControllerSettings()

    def gateway(self) -> GatewaySettings:
        """See WorldSettings."""
        return GatewaySettings(ack=self.ack)

    def processor(self) -> ProcessorSettings:
        """See WorldSettings."""
        return ProcessorSettings(rebuild="replay")

    def replicator(self) -> ReplicatorSettings:
        """See WorldSettings."""
        return ReplicatorSettings()


class World:
    """A deployment that was not started yet; `await start()` inside `kernel.run`."""

    def __init__(self, drill: Drill, seed: int, settings: WorldSettings | None = None) -> None:
        self.drill = drill
        self.seed = seed
        self.settings = settings or (WorldSettings() if drill.topology.pace == "far" else NearSettings())
        self.draw = random.Random(seed)  # noqa: S311 - chance of a simulation
        self.kernel = Kernel()  # type: ignore[abstract]
        self.network = Network(self.kernel, self.new_draw())
        self.clock = MachineClock(self.kernel)
        """The clock of whoever is outside: nothing that a drill breaks changes it."""
        self.regions: list[str] = list(drill.topology.regions)
        witness = drill.topology.witness
        self.site_names: list[str] = [*self.regions, *([witness] if witness else [])]
        self.etcd = EtcdModel(
            self.kernel,
            self.network,
            self.site_names,
            self.new_draw(),
            election_seconds=self.settings.etcd_election,
            progress_seconds=self.settings.etcd_progress,
        )
        self.deployment = Deployment(
            deployment_id=DEPLOYMENT_ID,
            network="namespaces",
            sites=[
                Site(name=name, kind="witness" if name == witness else "region", host=name, base_port=BASE_PORT)
                for name in self.site_names
            ],
            directory="/memory",
        )
        self.decode = OpenedFrames()
        """Opens records of events logs: each frame once, however many read it."""
        self.counts: Counter[str] = Counter()
        """What the coverage of a campaign is told at the end: `gate_refusals` (a shut gate gave no ranking),
        `stale_dropped` (a ranking of a smaller epoch was thrown away), `replays` (a processor read a log again)."""
        self.champion = GOOD.version
        """The version of the ranking model that the alias names."""
        self.books: dict[tuple[str, str], RouteBook] = {}
        """By site and process: what a running process answers over HTTP."""
        self.sites: dict[str, MemorySite] = {
            name: MemorySite(self, name, is_witness=name == witness) for name in self.site_names
        }

    def new_draw(self) -> random.Random:
        """Chance of its own for one part, so that what others draw leaves it alone."""
        return random.Random(self.draw.getrandbits(64))  # noqa: S311 - chance of a simulation

    async def start(self) -> None:
        """Start every site; returns at once, they come up by themselves."""
        for site in self.sites.values():
            site.start()
        await asyncio.sleep(0)

    def times(self) -> ControlTimes:
        """What the regions are set to."""
        found = self.settings
        return ControlTimes(
            lease_ttl=found.lease_ttl,
            renew_interval=found.renew_interval,
            request_timeout=found.request_timeout,
            cycle=found.cycle,
            observe=found.observe,
            rank_delay=found.rank_delay,
            etcd_election=2 * found.etcd_election,
        )

    def session(self, site: str = OUTSIDE) -> aiohttp.ClientSession:
        """What somebody at `site` (or outside) asks with."""
        return as_session(self, site)

    def url(self, site: str, listener: str) -> str:
        """The address of a process: listeners are gateway, processor, inference, control, replicator."""
        return self.deployment.site(site).url(listener)

    async def request(self, source: str, site: str, process: str, request: SimRequest) -> web.StreamResponse:
        """Carry a request to a process. Raises Unreachable; waits for ever when a message is lost."""

        def do() -> Awaitable[web.StreamResponse]:
            book = self.books.get((site, process))
            if book is None:
                raise Unreachable(f"nobody listens at {site} {process}")
            return book.answer(request)

        return await self.network.call(source, site, self.finder(site, process), do)

    def finder(self, site: str, process: str) -> Callable[[], Process | None]:
        """Who runs under that name when a request arrives."""
        found = self.sites[site].processes
        return lambda: found.get(process)
