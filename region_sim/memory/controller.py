"""The controller of a simulated region: all shipped parts, over the modelled store, with the site's disk for files."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from prometheus_client import CollectorRegistry

from region_sim.memory.etcd import EtcdModel
from region_sim.memory.session import RouteBook
from region_sim.memory.together import run_all
from services.common.clock import Clock
from services.common.health import Health
from services.controller.api import LeaseApi
from services.controller.attendants import Attendants
from services.controller.controller import Controller
from services.controller.forecast import NO_CORRECTION
from services.controller.forecaster import Forecaster
from services.controller.metrics import ControllerMetrics
from services.controller.mirror import CONTROLLER, StoreMirror
from services.controller.observe import Observer, Urls
from services.controller.operator_api import OperatorApi
from services.controller.perform import Performer
from services.controller.placement import Placement
from services.controller.proof import Proof, Prover
from services.controller.receipts_desk import ReceiptsDesk
from services.controller.records_api import RecordsApi
from services.coordination.election import Candidacy, Election
from services.coordination.epoch_seen import EpochSeen
from services.coordination.fence import FenceTimes
from services.coordination.lease import LeaseStore
from services.coordination.registry import Registration
from services.receipts import ReceiptBook
from services.receipts.model import Receipt

if TYPE_CHECKING:
    from region_sim.memory.site import MemorySite

NOWHERE: Final = Path("/nowhere")


class DiskReceipts(ReceiptBook):
    """Receipts whose copies lie on the site's disk, without files."""

    def __init__(self, store: LeaseStore, disk: dict[str, Any]) -> None:
        super().__init__(store, NOWHERE)
        self._kept: dict[str, Receipt] = disk.setdefault("receipts", {})

    def _only_on_disk(self, known: set[str]) -> list[Receipt]:
        return [receipt for name, receipt in sorted(self._kept.items()) if name not in known]

    def _write(self, receipts: list[Receipt]) -> None:
        self._kept.update((receipt.receipt_id, receipt) for receipt in receipts)


class SimCluster:
    """What placement needs of the modelled etcd. A region that reaches no majority moves nothing."""

    def __init__(self, etcd: EtcdModel, store: LeaseStore) -> None:
        self._etcd = etcd
        self._store = store

    async def leader(self) -> str | None:
        """See Cluster."""
        await self._store.revision()
        return self._etcd.leader or None

    async def move_leader(self, site: str) -> bool:
        """See Cluster."""
        await self._store.revision()
        return self._etcd.move_leader(site)

    async def promote_ready_learners(self) -> list[str]:
        """See Cluster: the model knows no learners."""
        return []


class DiskProver(Prover):
    """A prover whose proof lies on the site's disk, without a file."""

    def __init__(self, session: aiohttp.ClientSession, clock: Clock, disk: dict[str, Any], *, wait_ms: int) -> None:
        super().__init__(session, clock, NOWHERE, wait_ms=wait_ms)
        self._disk = disk

    def known(self, incarnation: str) -> Proof | None:
        """See Prover."""
        proof: Proof | None = self._disk.get("proof")
        return proof if proof is not None and proof.incarnation == incarnation else None

    def _keep(self, proof: Proof) -> None:
        self._disk["proof"] = proof


class ControllerPart:
    """One start of a controller process; wired as `services.controller.server.built` does."""

    def __init__(self, site: MemorySite, store: LeaseStore) -> None:
        self._world = site.world
        self._working: asyncio.Task[None] | None = None
        world, settings, region, clock = site.world, site.world.settings, site.region, site.clock
        self._session = world.session(site.name)
        metrics = ControllerMetrics(CollectorRegistry())
        instance = site.random_bytes(8).hex()
        times = FenceTimes(settings.rate_bound, settings.quiesce)
        seen: EpochSeen = site.disk.setdefault("epoch_seen", EpochSeen())
        election = Election(store, clock, seen, settings.lease_ttl, times)
        found = settings.controller()
        self.controller = controller = Controller(
            region=site.name,
            instance=instance,
            regions=tuple(each.name for each in world.deployment.regions),
            urls=(region.gateway_url, region.control_url),
            clock=clock,
            election=election,
            limits=replace(found.limits(), quiesce_seconds=times.quiesce_seconds),
            cycle_seconds=settings.cycle,
            renew_seconds=settings.renew_interval,
            metrics=metrics,
        )
        urls = Urls(region.gateway_url, region.processor_url, region.inference_url, region.replicator_url)
        mirror = StoreMirror(store, clock, controller.wake)
        observer = Observer(
            urls,
            self._session,
            clock,
            interval_seconds=settings.observe,
            on_change=controller.wake,
            acknowledged=lambda: mirror.acknowledged_elsewhere(site.name),
            hurry_seconds=settings.hurry,
        )
        who = Candidacy(site.name, instance, region.gateway_url, cause="")
        controller.attach(
            mirror,
            observer,
            Performer(store, clock, election, who, found.hold_down_seconds),
            Registration(
                store, site.name, CONTROLLER, instance, b"{}", clock=clock, ttl_seconds=settings.registration_ttl
            ),
        )
        self.book = DiskReceipts(store, site.disk)
        self.attendants = self._attendants(site, store)
        # No drill in this world is asked about machines, nor the other way round: the formula alone forecasts here.
        controller.forecaster = Forecaster(world.times(), NO_CORRECTION, controller.limits, self._etcd_leader)
        world.books[site.name, "controller"] = self._routes(store)

    async def run(self) -> None:
        """Work until it is killed, or told to end. Raises what a task failed with."""
        self._working = asyncio.current_task()
        try:
            await run_all(self.controller.run(), self.attendants.run())
        except asyncio.CancelledError:
            assert self._working is not None
            self._working.uncancel()
            await self.controller.let_go("the controller was told to stop")

    def end(self) -> None:
        """SIGTERM: stop working, and let the lease go once nobody may act under it, as `services.controller.server`."""
        if self._working is not None:
            self._working.cancel()

    def blocker(self) -> str | None:
        """See Part."""
        return None if self.controller.mirror.confirmed_ms else "the coordination store was not heard yet"

    def _attendants(self, site: MemorySite, store: LeaseStore) -> Attendants:
        controller, settings = self.controller, site.world.settings
        desk = ReceiptsDesk(
            store,
            self.book,
            self._session,
            site.world.deployment,
            site.name,
            site.clock,
            controller.metrics,
            lives=controller.mirror.lives,
            epoch=controller.acting_epoch,
            serving_ms=lambda: self.attendants.serving_ms,
            note=controller.performer.note,
            unreachable_seconds=settings.unreachable,
            cycle_seconds=settings.receipts_cycle,
        )
        prover = DiskProver(self._session, site.clock, site.disk, wait_ms=settings.proof_wait_ms)
        placement = None if settings.etcd_leader is None else self._placement(site, store, settings.etcd_leader)
        return Attendants(
            controller,
            site.world.deployment,
            desk,
            prover,
            placement=placement,
            watch_seconds=settings.watch,
            prove_seconds=settings.prove,
        )

    def _placement(self, site: MemorySite, store: LeaseStore, interval_seconds: float) -> Placement:
        controller = self.controller
        return Placement(
            SimCluster(site.world.etcd, store),
            site.world.deployment,
            site.name,
            site.clock,
            holds=lambda: controller.election.held is not None,
            nobody_holds=lambda: controller.mirror.view().leader is None,
            interval_seconds=interval_seconds,
        )

    def _etcd_leader(self) -> str | None:
        """As a placement that only looks would say it: a shipped controller asks, also where it moves nothing."""
        placement = self.attendants.placement
        return self._world.etcd.leader or None if placement is None else placement.leader_site

    def _routes(self, store: LeaseStore) -> RouteBook:
        routes = RouteBook()
        app = routes.as_application()
        health = Health()
        health.add_notice("election", lambda: self.controller.sentence)
        health.add_routes(app)
        LeaseApi(self.controller).add_routes(app)
        OperatorApi(self.controller, store).add_routes(app)
        RecordsApi(self.controller, store, self.book, self.attendants).add_routes(app)
        return routes
