"""The controller as a process: put together, listen, campaign, and let the lease go when told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
from aiohttp import web

from services.common.clock import Clock, SystemClock, random_bytes
from services.common.deployment import Deployment
from services.common.health import Health
from services.common.http import serving
from services.common.logging import get_logger
from services.common.metrics import add_metrics_route, new_registry
from services.common.pages import refuse_pages
from services.common.problem import problem_middleware
from services.common.process import LoadedSettings
from services.common.region_settings import RegionSettings
from services.common.settings import SettingsError
from services.controller.api import LeaseApi
from services.controller.attendants import Attendants
from services.controller.calibration import CALIBRATION_FILE, load_calibration
from services.controller.canary_sender import CanaryMetrics, CanaryPlan, CanarySender
from services.controller.controller import Controller
from services.controller.forecaster import Forecaster
from services.controller.metrics import ControllerMetrics
from services.controller.mirror import CONTROLLER, StoreMirror
from services.controller.observe import Observer, Urls
from services.controller.operator_api import OperatorApi
from services.controller.perform import Performer
from services.controller.placement import Placement
from services.controller.proof import Prover
from services.controller.receipts_desk import ReceiptsDesk
from services.controller.records_api import RecordsApi
from services.controller.settings import ControllerSettings, control_times
from services.coordination.cluster import EtcdCluster
from services.coordination.election import Candidacy, Election
from services.coordination.epoch_seen import EpochSeen
from services.coordination.etcd import EtcdGatewayStore
from services.coordination.fence import FenceTimes
from services.coordination.lease import LeaseStore
from services.coordination.opening import opened_lease_store
from services.coordination.registry import Registration
from services.coordination.settings import CoordinationSettings
from services.receipts import ReceiptBook

VIEW_AGE_SECONDS_MAX = 10.0

log = get_logger(__name__)


async def serve(loaded: LoadedSettings, stop: asyncio.Event) -> None:
    """Run until `stop` is set. Raises SettingsError for a region that is alone: it needs no controller."""
    region, settings, coordination = (
        loaded[RegionSettings],
        loaded[ControllerSettings],
        loaded[CoordinationSettings],
    )
    assert isinstance(region, RegionSettings)
    assert isinstance(settings, ControllerSettings)
    assert isinstance(coordination, CoordinationSettings)
    if region.is_alone:
        raise SettingsError(
            "a region that is alone has nothing to elect. Start several with `meridian up --regions "
            "east,west --witness north`, or leave the controller out."
        )
    clock = SystemClock()
    async with (
        opened_lease_store(region, coordination, clock) as store,
        aiohttp.ClientSession() as session,
        built(region, region.load_deployment(), settings, coordination, store, session, clock) as (
            controller,
            app,
            attendants,
        ),
        serving(app, settings.host, region.control_port, shutdown_timeout_seconds=1.0) as port,
    ):
        log.info("listening", url=f"http://{settings.host}:{port}")
        working = asyncio.ensure_future(_work(controller, attendants))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
        finally:
            working.cancel()
            stopping.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await controller.let_go("the controller was told to stop")


@asynccontextmanager
async def built(
    region: RegionSettings,
    deployment: Deployment,
    settings: ControllerSettings,
    coordination: CoordinationSettings,
    store: LeaseStore,
    session: aiohttp.ClientSession,
    clock: Clock,
) -> AsyncIterator[tuple[Controller, web.Application, Attendants]]:
    """A controller with all its parts, and its HTTP application."""
    metrics = ControllerMetrics(new_registry())
    instance = random_bytes(8).hex()
    times = FenceTimes(coordination.clock_rate_bound, coordination.quiesce_ms / 1000)
    seen = EpochSeen(region.data_dir / "epoch_seen.json")
    election = Election(store, clock, seen, coordination.lease_ttl_seconds, times)
    controller = Controller(
        region=region.name,
        instance=instance,
        regions=tuple(site.name for site in deployment.regions),
        urls=(region.gateway_for_apps, region.control_url),
        clock=clock,
        election=election,
        limits=replace(settings.limits(), quiesce_seconds=times.quiesce_seconds),
        cycle_seconds=settings.cycle_ms / 1000,
        renew_seconds=coordination.renew_interval_ms / 1000,
        metrics=metrics,
    )
    who = Candidacy(region.name, instance, region.gateway_for_apps, cause="")
    urls = Urls(region.gateway_url, region.processor_url, region.inference_url, region.replicator_url)
    mirror = StoreMirror(store, clock, controller.wake)
    controller.attach(
        mirror,
        Observer(
            urls,
            session,
            clock,
            interval_seconds=settings.observe_ms / 1000,
            on_change=controller.wake,
            gateway_token=settings.gateway_token.reveal(),
            acknowledged=lambda: mirror.acknowledged_elsewhere(region.name),
        ),
        Performer(store, clock, election, who, settings.hold_down_seconds),
        Registration(store, region.name, CONTROLLER, instance, b"{}", clock=clock, ttl_seconds=3.0),
    )
    book = ReceiptBook(store, region.data_dir / "receipts")
    attendants = _attendants(controller, region, deployment, settings, store, book, session)
    controller.forecaster = _forecaster(controller, deployment, settings, coordination, attendants)
    yield controller, _web_app(controller, store, book, attendants, settings), attendants


def _forecaster(
    controller: Controller,
    deployment: Deployment,
    settings: ControllerSettings,
    coordination: CoordinationSettings,
    attendants: Attendants,
) -> Forecaster:
    placement = attendants.placement
    file = settings.calibration_file
    return Forecaster(
        control_times(coordination, settings),
        load_calibration(file if file != Path() else Path(deployment.directory) / CALIBRATION_FILE).correction(),
        controller.limits,
        lambda: None if placement is None else placement.leader_site,
    )


async def _work(controller: Controller, attendants: Attendants) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(controller.run())
        tasks.create_task(attendants.run())


def _attendants(
    controller: Controller,
    region: RegionSettings,
    deployment: Deployment,
    settings: ControllerSettings,
    store: LeaseStore,
    book: ReceiptBook,
    session: aiohttp.ClientSession,
) -> Attendants:
    clock = controller.clock
    placement = None
    if isinstance(store, EtcdGatewayStore):
        placement = Placement(
            EtcdCluster(store.transport),
            deployment,
            region.name,
            clock,
            holds=lambda: controller.election.held is not None,
            nobody_holds=lambda: controller.mirror.view().leader is None,
            interval_seconds=settings.etcd_leader_seconds,
        )
    desk = ReceiptsDesk(
        store,
        book,
        session,
        deployment,
        region.name,
        clock,
        controller.metrics,
        lives=controller.mirror.lives,
        epoch=controller.acting_epoch,
        serving_ms=lambda: attendants.serving_ms,
        note=controller.performer.note,
        unreachable_seconds=settings.unreachable_seconds,
    )
    prover = Prover(session, clock, region.data_dir / "proof.json", wait_ms=settings.proof_wait_ms)
    attendants = Attendants(controller, deployment, desk, prover, placement)
    if settings.canary_interval_seconds > 0:
        attendants.canary = canary = _canary(controller, region, settings, session)
        controller.canary = lambda: canary.told
    return attendants


def _canary(
    controller: Controller, region: RegionSettings, settings: ControllerSettings, session: aiohttp.ClientSession
) -> CanarySender:
    plan = CanaryPlan(
        settings.canary_interval_seconds,
        settings.canary_deadline_ms,
        settings.canary_query,
        settings.gateway_token.reveal(),
    )
    metrics = CanaryMetrics(controller.metrics.registry)
    return CanarySender(
        session,
        region.gateway_url,
        controller.clock,
        plan,
        metrics,
        acts=controller.rightful_epoch,
        is_ready=lambda: controller.observer.data.sick is None,
    )


def _web_app(
    controller: Controller,
    store: LeaseStore,
    book: ReceiptBook,
    attendants: Attendants,
    settings: ControllerSettings,
) -> web.Application:
    app = web.Application(middlewares=[problem_middleware, refuse_pages])
    health = Health()
    health.add("coordination", lambda: _store_blocker(controller))
    health.add_notice("election", lambda: controller.sentence)
    health.add_routes(app)
    add_metrics_route(app, controller.metrics.registry)
    LeaseApi(controller).add_routes(app)
    OperatorApi(controller, store).add_routes(app)
    RecordsApi(controller, store, book, attendants, settings.rto_target_seconds).add_routes(app)
    return app


def _store_blocker(controller: Controller) -> str | None:
    age = controller.clock.boottime() - controller.mirror.view().confirmed_at
    if age <= VIEW_AGE_SECONDS_MAX:
        return None
    return "the coordination store was not heard yet" if age == float("inf") else f"no word for {age:.0f} s"
