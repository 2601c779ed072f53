"""The worker as a process: build the parts, serve the champion, and only then say ready.

It listens while the first version is still being loaded, so that a probe gets a reason instead of a refused
connection. Stopping is a drain: not ready first, what was taken is answered, then the end.
"""

import asyncio
from pathlib import Path

from aiohttp import web

from services.common.clock import Clock, SystemClock
from services.common.health import Health
from services.common.http import serving
from services.common.logging import get_logger
from services.common.metrics import add_metrics_route, new_registry
from services.common.process import LoadedSettings
from services.common.region_settings import RegionSettings
from services.coordination import FileStore, KeyValueStore
from services.coordination.region_record import model_alias
from services.coordination.settings import CoordinationSettings
from services.inference.announcement import announced
from services.inference.batcher import Batcher
from services.inference.metrics import InferenceMetrics
from services.inference.oip import WORKER, add_routes, problems
from services.inference.settings import InferenceSettings
from services.inference.signature import Buckets
from services.inference.worker import Champion, Worker, WorkerOptions

CHAMPION = "champion"

log = get_logger(__name__)


async def serve(loaded: LoadedSettings, stop: asyncio.Event) -> None:
    """Run until `stop` is set. Raises ModelRefused when no version can serve."""
    region, settings, coordination = loaded[RegionSettings], loaded[InferenceSettings], loaded[CoordinationSettings]
    assert isinstance(region, RegionSettings)
    assert isinstance(settings, InferenceSettings)
    assert isinstance(coordination, CoordinationSettings)
    clock = SystemClock()
    worker = new_worker(settings, champion_of(settings, FileStore(region.coordination_file)), clock)
    app = new_app(worker, settings)
    listening = serving(
        app,
        region.host,
        region.inference_port,
        shutdown_timeout_seconds=settings.drain_seconds,
        handler_cancellation=True,
    )
    try:
        async with listening as port:
            log.info("listening, not ready yet", url=f"http://{region.host}:{port}")
            await _start(worker, stop)
            async with announced(region, coordination, settings.model, clock):
                await stop.wait()
            worker.draining = True
            log.info("draining: requests under way are answered, new ones refused")
    finally:
        await worker.close()


def new_worker(settings: InferenceSettings, champion: Champion, clock: Clock) -> Worker:
    """The worker that these settings describe; it serves nothing before `start`."""
    metrics = InferenceMetrics(new_registry())
    options = WorkerOptions(
        repository=Path(settings.model_repository),
        model=settings.model,
        engine=settings.engine_options,
        buckets=Buckets(settings.batch_buckets, settings.candidate_buckets),
        drain_seconds=settings.drain_seconds,
        stuck_run_seconds=settings.stuck_run_seconds,
    )
    batcher = Batcher(settings.batch_limits, metrics, clock.monotonic)
    return Worker(options, batcher, metrics, clock, champion)


def new_app(worker: Worker, settings: InferenceSettings) -> web.Application:
    """The HTTP application around a worker."""
    app = web.Application(middlewares=[problems], client_max_size=settings.body_bytes_max)
    app[WORKER] = worker
    add_routes(app)
    health = Health()
    health.add("serving", worker.not_ready_reason)
    health.add_routes(app)
    add_metrics_route(app, worker.metrics.registry)
    return app


def champion_of(settings: InferenceSettings, store: KeyValueStore) -> Champion:
    """Which version to serve: the setting, else the region's alias, else None (the newest)."""

    async def champion(model: str) -> str | None:
        if settings.model_version and model == settings.model:
            return settings.model_version
        record = await model_alias(store, model, CHAMPION)
        return None if record is None else record.version

    return champion


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
