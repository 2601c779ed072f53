"""A region without Kafka for a controller's tests: the few answers that a controller asks for, and a real gate.

The gate follows the controller by the very `LeaseFollower` that processors use, so that what is tested is what runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from infra.runtime.kafka import free_ports, port_is_free
from services.common.clock import SystemClock
from services.common.deployment import SITE_PORTS, Deployment, Site
from services.common.region_settings import RegionSettings
from services.common.settings import SettingsError
from services.controller.attendants import Attendants
from services.controller.client import LeaseFollower
from services.controller.controller import Controller
from services.controller.server import _work, built
from services.controller.settings import ControllerSettings
from services.coordination.lease import LeaseStore
from services.coordination.lives import open_life
from services.coordination.settings import CoordinationSettings
from services.gateway.client import HeldAnswer, OriginPartition
from services.inference.report import ChampionReport, NamedVersion, ServingVersion
from services.processor.client import GateReport, HeldDigest, StateSummary
from services.replicator.client import LogReport, PartitionReport, ReplicationReport


class SmallRegion:
    """Processor, gateway, inference worker and replicator of one region, as a controller sees them."""

    def __init__(self, name: str, deployment: Deployment) -> None:
        self.name = name
        self.site = deployment.site(name)
        self.incarnation = f"{name}-1"
        self.sick = ""
        self.champion_blocker: str | None = None
        """Why its worker does not rank as the champion should."""
        self.frontier: dict[tuple[str, int], int] = {}
        self.acknowledged: dict[int, int] = {0: 0}
        self.digest = "00"
        self.logs: list[LogReport] = []
        self.gate_epoch = (-1, -1)
        self.shows_for: list[tuple[float, tuple[int, int]]] = []
        """When its gate was seen open, and under which epoch."""
        self.follower: LeaseFollower | None = None

    def gate_is_open(self) -> bool:
        """What every effect would be asked."""
        term = self.follower.term() if self.follower is not None else None
        return term is not None and term.active and term.epoch == self.gate_epoch

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve, and follow the controller."""
        async with aiohttp.ClientSession() as session:
            self.follower = LeaseFollower(self.site.url("control"), session, SystemClock())
            tasks = [asyncio.ensure_future(self.follower.run()), asyncio.ensure_future(self._open_gate(self.follower))]
            runners = [await self._serve(listener) for listener in ("processor", "gateway", "inference", "replicator")]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                for runner in runners:
                    await runner.cleanup()

    async def _open_gate(self, follower: LeaseFollower) -> None:
        """Write markers, which takes a moment, and open."""
        while True:
            term = follower.term()
            if term.active and term.epoch != self.gate_epoch:
                await asyncio.sleep(0.01)
                self.gate_epoch = term.epoch
            if self.gate_is_open():
                self.shows_for.append((SystemClock().boottime(), self.gate_epoch))
            await asyncio.sleep(0.005)

    async def _serve(self, listener: str) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/v2/repository/models/ranker/champion", self._champion)
        app.router.add_get("/v1/gate", self._gate)
        app.router.add_get("/v1/state", self._state)
        app.router.add_get("/v1/digest", self._digest)
        app.router.add_post("/v1/hold", self._state)
        app.router.add_get("/v1/replication", self._replication)
        app.router.add_post("/v1/replication/held", self._held)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, self.site.host, self.site.port(listener)).start()
        return runner

    async def _readyz(self, _: web.Request) -> web.Response:
        return web.Response(text=f"[-] {self.sick}\n" if self.sick else "ready\n", status=503 if self.sick else 200)

    async def _champion(self, _: web.Request) -> web.Response:
        return _json(champion_report(self.champion_blocker))

    async def _gate(self, _: web.Request) -> web.Response:
        is_open = self.gate_is_open()
        return _json(_gate_report(self.gate_epoch, is_open=is_open))

    async def _state(self, _: web.Request) -> web.Response:
        return _json(StateSummary(self.name, self.incarnation, self._rows(), self.digest))

    async def _digest(self, _: web.Request) -> web.Response:
        return _json(HeldDigest(self.digest, self._rows()))

    def _rows(self) -> list[tuple[str, int, int]]:
        return [(log, partition, end) for (log, partition), end in sorted(self.frontier.items())]

    async def _replication(self, _: web.Request) -> web.Response:
        now_ms = SystemClock().unix_ms()
        return _json(
            ReplicationReport(
                region=self.name,
                incarnation=self.incarnation,
                at_ms=now_ms,
                logs=self.logs,
                alarms=[],
                records_per_second=0.0,
                eta_seconds=0.0,
            )
        )

    async def _held(self, _: web.Request) -> web.Response:
        ends = {p: OriginPartition(acknowledged_end=end, events_after_held=0) for p, end in self.acknowledged.items()}
        return _json(HeldAnswer(incarnation=self.incarnation, partitions=ends))


def champion_report(blocker: str | None) -> ChampionReport:
    """What a worker says that serves version 1; whether that is what it should serve, says `blocker`."""
    serving = ServingVersion(version="1", sha256="ab" * 32, golden_rows=512, device="cpu")
    return ChampionReport(
        model="ranker",
        blocker=blocker,
        named=NamedVersion(version="1" if blocker is None else "2", sha256="ab" * 32),
        heard=True,
        serving=serving,
        standby=None,
        challenger=None,
        shadow=None,
    )


def copied(origin: str, *, held: int, end: int, last_contact_ms: int, reachable: bool = True) -> LogReport:
    """The report about one partition of a region's events log."""
    return LogReport(
        log=f"{origin}-1.events",
        origin=origin,
        incarnation=f"{origin}-1",
        source=origin if reachable else "",
        reachable=reachable,
        last_contact_ms=last_contact_ms,
        sealed=False,
        caught_up=held == end,
        lag_records=end - held,
        lag_events=end - held,
        lag_seconds=0.0,
        partitions=[
            PartitionReport(
                partition=0, held=held, origin_end=end, lag_events=end - held, leader_epoch=0, checksum="00" * 8
            )
        ],
    )


def deployment_of(directory: Path, *names: str) -> Deployment:
    """Regions on free ports of this machine; etcd is elsewhere."""
    sites: list[Site] = []
    while len(sites) < len(names):
        base = free_ports(1)[0]
        apart = all(abs(site.base_port - base) >= SITE_PORTS for site in sites)
        if apart and all(port_is_free(base + offset) for offset in range(SITE_PORTS)):
            sites.append(Site(name=names[len(sites)], kind="region", host="127.0.0.1", base_port=base))
    found = Deployment(deployment_id="test", network="loopback", sites=sites, directory=str(directory))
    found.save()
    return found


def region_settings(deployment: Deployment, name: str) -> RegionSettings:
    """What the supervisor would hand to the processes of a region."""
    site = deployment.site(name)
    ports = {f"{each}_port": site.port(each) for each in ("gateway", "processor", "inference", "replicator", "control")}
    return RegionSettings(
        name=name,
        deployment=Path(deployment.directory) / "deployment.json",
        host=site.host,
        data_dir=deployment.site_dir(name),
        kafka_port=site.port("kafka"),
        controller_port=site.port("controller"),
        **ports,
    )


class RunningController:
    """One controller in this process, to be killed without a word."""

    def __init__(self, controller: Controller, attendants: Attendants, kill: asyncio.Event) -> None:
        self.controller = controller
        self.attendants = attendants
        self._kill = kill

    @property
    def killed(self) -> bool:
        """Whether it was."""
        return self._kill.is_set()

    def kill(self) -> None:
        """End it as kill -9 does: nothing is let go, nothing is answered any more."""
        self._kill.set()


@asynccontextmanager
async def running_controller(
    deployment: Deployment, name: str, store: LeaseStore, **settings: object
) -> AsyncIterator[RunningController]:
    """A controller with its HTTP surface."""
    region = region_settings(deployment, name)
    await open_life(store, name, f"kafka-of-{name}", SystemClock().unix_ms())
    wanted = msgspec.convert(settings, ControllerSettings)
    kill = asyncio.Event()
    async with (
        aiohttp.ClientSession() as session,
        built(region, deployment, wanted, CoordinationSettings(), store, session, SystemClock()) as parts,
    ):
        controller, app, attendants = parts
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, region.host, region.control_port).start()
        working = asyncio.ensure_future(_work(controller, attendants))
        # Killed means that leaving the registry is not said either.
        watching = asyncio.ensure_future(_killed(kill, working, runner, controller))
        try:
            yield RunningController(controller, attendants, kill)
        finally:
            watching.cancel()
            working.cancel()
            with suppress(asyncio.CancelledError, ExceptionGroup, SettingsError):
                await working
            await runner.cleanup()


async def _killed(
    kill: asyncio.Event, working: asyncio.Future[None], runner: web.AppRunner, controller: Controller
) -> None:
    await kill.wait()
    controller.registration._lease_id = None
    working.cancel()
    await runner.cleanup()


def _gate_report(epoch: tuple[int, int], *, is_open: bool) -> GateReport:
    return GateReport(open=is_open, epoch=epoch, reason="" if is_open else "shut", markers_written=is_open)


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
