"""The worker as a process: build the parts, serve the champion, and only then say ready.

It listens while the first version is still being loaded, so that a probe gets a reason instead of a refused
connection. Stopping is a drain: not ready first, what was taken is answered, then the end.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from services.common.clock import Clock, SystemClock
from services.common.health import Health
from services.common.http import serving
from services.common.logging import get_logger
from services.common.metrics import add_metrics_route, new_registry
from services.common.process import LoadedSettings
from services.common.region_settings import RegionSettings
from services.common.tracing import NO_TRACER, SpanFigures, Tracer, opened
from services.common.tracing_settings import TracingSettings
from services.coordination import CoordinationError, FileStore, KeyValueStore
from services.coordination.lease import LeaseStore
from services.coordination.model_records import aliases, version_record
from services.coordination.opening import opened_lease_store
from services.coordination.settings import CoordinationSettings
from services.inference.announcement import announced, peers_of
from services.inference.batcher import Batcher
from services.inference.errors import VersionOutOfReach
from services.inference.follower import Follower
from services.inference.metrics import InferenceMetrics
from services.inference.oip import FOLLOWER, TRACER, WORKER, add_routes, problems
from services.inference.peers import Fetcher, Peers
from services.inference.repository import Repository
from services.inference.settings import SHIPPED, InferenceSettings
from services.inference.signature import Buckets
from services.inference.worker import Worker, WorkerOptions

log = get_logger(__name__)


async def serve(loaded: LoadedSettings, stop: asyncio.Event) -> None:
    """Run until `stop` is set. Raises ModelRefused when no version can serve."""
    region, settings, coordination = loaded[RegionSettings], loaded[InferenceSettings], loaded[CoordinationSettings]
    tracing = loaded[TracingSettings]
    assert isinstance(tracing, TracingSettings)
    assert isinstance(region, RegionSettings)
    assert isinstance(settings, InferenceSettings)
    assert isinstance(coordination, CoordinationSettings)
    clock = SystemClock()
    tracer = opened("inference", tracing, region=region.name, incarnation=region.incarnation, clock=clock)
    repository = repository_of(region, settings)
    async with _opened(region, coordination, clock) as (store, leases):
        worker, follower = new_worker(settings, repository, store, lambda: peers_of(region, leases), clock)
        listening = serving(
            new_app(worker, follower, settings, tracer),
            region.listen_host,
            region.inference_port,
            shutdown_timeout_seconds=settings.drain_seconds,
            handler_cancellation=True,
        )
        try:
            async with listening as port:
                log.info("listening, not ready yet", url=f"http://{region.host}:{port}")
                await asyncio.to_thread(repository.fill)
                await _start(worker, stop)
                async with _following(worker, follower), announced(region, leases, settings.model, clock):
                    await stop.wait()
                worker.draining = True
                log.info("draining: requests under way are answered, new ones refused")
        finally:
            await worker.close()
            await tracer.close()


def repository_of(region: RegionSettings, settings: InferenceSettings) -> Repository:
    """The region's versions, where its settings say."""
    path = settings.repository_of(region)
    shipped = SHIPPED if path == region.model_repository else path
    return Repository(path, shipped, region.trusted_keys_file, asks_for_signatures=not region.is_alone)


def new_worker(
    settings: InferenceSettings, repository: Repository, store: KeyValueStore, peers: Peers, clock: Clock
) -> tuple[Worker, Follower]:
    """The worker that these settings describe, and what keeps it on its aliases; it serves nothing before `start`."""
    metrics = InferenceMetrics(new_registry())
    options = WorkerOptions(
        repository=repository,
        model=settings.model,
        engine=settings.engine_options,
        buckets=Buckets(settings.batch_buckets, settings.candidate_buckets),
        also=tuple(name for name in settings.also if name != settings.model),
        drain_seconds=settings.drain_seconds,
        stuck_run_seconds=settings.stuck_run_seconds,
        standby_reserve_seconds=settings.standby_reserve_seconds,
    )
    fetcher = Fetcher(
        repository,
        peers,
        metrics,
        bytes_max=settings.version_bytes_max,
        silence_seconds=settings.fetch_silence_seconds,
        seconds_max=settings.fetch_seconds_max,
    )

    async def obtain(model: str, version: str, sha256: str) -> None:
        try:
            record = None if sha256 else await version_record(store, model, version)
        except CoordinationError as problem:
            raise VersionOutOfReach(f"{repository.path / model} has no version {version!r}: {problem}", "") from problem
        content = sha256 or (record.sha256 if record is not None else "")
        if not content:
            present = ", ".join(repository.versions(model))
            raise VersionOutOfReach(f"{repository.path / model} has no version {version!r}", f"It has {present}")
        await fetcher.fetch(model, version, content)

    follower = Follower(lambda model, damaged: aliases(store, model, damaged), repository, settings, clock)
    batcher = Batcher(settings.batch_limits, metrics, clock.monotonic)
    standby_batcher = Batcher(settings.batch_limits, metrics, clock.monotonic)
    worker = Worker(options, batcher, standby_batcher, metrics, clock, follower.wanted, obtain)
    worker.concern = lambda: follower.blocker(worker)
    return worker, follower


def new_app(
    worker: Worker, follower: Follower, settings: InferenceSettings, tracer: Tracer = NO_TRACER
) -> web.Application:
    """The HTTP application around a worker."""
    app = web.Application(middlewares=[problems], client_max_size=settings.body_bytes_max)
    app[WORKER] = worker
    app[FOLLOWER] = follower
    app[TRACER] = tracer
    tracer.add_route(app)
    worker.metrics.registry.register(SpanFigures(tracer))
    add_routes(app)
    health = Health()
    health.add("serving", worker.not_ready_reason)
    health.add_notice("champion", worker.degraded_reason)
    health.add_routes(app)
    add_metrics_route(app, worker.metrics.registry)
    return app


@asynccontextmanager
async def _opened(
    region: RegionSettings, coordination: CoordinationSettings, clock: Clock
) -> AsyncIterator[tuple[KeyValueStore, LeaseStore | None]]:
    """The region's coordination store, and once more as one with leases if it has them."""
    if region.is_alone:
        yield FileStore(region.coordination_file), None
        return
    async with opened_lease_store(region, coordination, clock) as store:
        yield store, store


@asynccontextmanager
async def _following(worker: Worker, follower: Follower) -> AsyncIterator[None]:
    """Follow the aliases for the length of a block."""
    following = asyncio.ensure_future(follower.run(worker))
    try:
        yield
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


async def _start(worker: Worker, stop: asyncio.Event) -> None:
    """Load the first version, unless the process is told to stop meanwhile."""
    starting = asyncio.ensure_future(worker.start())
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            return
        await starting
    finally:
        starting.cancel()
        stopping.cancel()
    served = worker.table.current(worker.options.model)
    if served is not None:
        log.info(
            "ready",
            model=served.model,
            version=served.version,
            device_requested=worker.options.engine.device.value,
            device=served.session.device.value,
            sha256=served.sha256[:12],
            degraded=worker.degraded_reason() or "",
        )
