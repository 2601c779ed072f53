"""What the worker does, without HTTP: choose a version, load it beside the old one, swap, drain; score requests.

One rule for every load, at start and later: a version either passes all its checks and serves, or is refused with
the reason, and nothing that served before is touched. At start, when the version that was asked for is refused, the
newest other one that passes serves instead and readiness says so: a proven older model ranks better than no model.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from models import registry
from services.common.clock import Clock
from services.common.logging import get_logger
from services.inference.batcher import Answer, Batcher
from services.inference.codec import InferRequest
from services.inference.engine import BatchItem, cuda_is_installed
from services.inference.engine_options import Device, EngineOptions
from services.inference.errors import BadTensor, ModelRefused, NotServing, RequestProblem, UnknownModel
from services.inference.loading import give_memory_back, load
from services.inference.metrics import InferenceMetrics
from services.inference.serving import ServedVersion, ServingTable, VersionState
from services.inference.signature import Buckets, bucket_of

log = get_logger(__name__)

Champion = Callable[[str], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What to serve and how. `drain_seconds` bounds the wait for requests that still use a replaced version."""

    repository: Path
    model: str
    engine: EngineOptions
    buckets: Buckets
    drain_seconds: float = 10.0
    stuck_run_seconds: float = 5.0


class Worker:
    """The engine, its batcher and the versions it serves."""

    def __init__(
        self, options: WorkerOptions, batcher: Batcher, metrics: InferenceMetrics, clock: Clock, champion: Champion
    ) -> None:
        self.options = options
        self.table = ServingTable()
        self.batcher = batcher
        self.metrics = metrics
        self.draining = False
        self.instead_of: str | None = None
        self._clock = clock
        self._champion = champion
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._loading = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        metrics.follow(self.table.statistics)
        metrics.degraded.set_function(lambda: float(self.degraded_reason() is not None))

    async def start(self) -> None:
        """Serve the champion, or the newest version that passes. Raises ModelRefused when none does."""
        model = self.options.model
        wanted = await self._wanted(model)
        refused: ModelRefused | None = None
        for version in [wanted, *(other for other in self._versions(model) if other != wanted)]:
            try:
                await self.load(model, version)
            except ModelRefused as problem:
                refused = refused or problem
                continue
            if refused is not None:
                self.instead_of = f"version {wanted} was refused ({refused.reason}); version {version} serves instead"
            return
        assert refused is not None  # `wanted` was tried at least
        raise refused

    async def load(self, model: str, version: str | None = None) -> ServedVersion:
        """Load a version (default: the champion) beside what serves, and swap. Raises ModelRefused, UnknownModel."""
        if not _is_name(model) or not self._versions(model):
            raise UnknownModel(f"{self.options.repository} has no versions of a model {model[:80]!r}")
        async with self._loading:
            version = version or await self._wanted(model)
            self.table.note(VersionState(model, version, "LOADING", ""))
            try:
                if version not in self._versions(model):
                    raise ModelRefused(
                        f"{self.options.repository / model} has no version {version[:40]!r}",
                        f"It has {', '.join(self._versions(model))}",
                    )
                loop = asyncio.get_running_loop()
                folder = self.options.repository / model / version
                engine, buckets = self.options.engine, self.options.buckets
                proven = await loop.run_in_executor(self._loader, load, folder, engine, buckets, self._clock.monotonic)
            except ModelRefused as problem:
                self.table.note(VersionState(model, version, "UNAVAILABLE", problem.reason))
                self.metrics.loads.labels(model, "refused").inc()
                log.warning(
                    "version refused", model=model, version=version, reason=str(problem), serving=self._serves(model)
                )
                raise
            statistics = self.table.statistics_of(model, version)
            served = ServedVersion(model, version, proven, buckets, statistics)
            self._swap(served)
            batches = {bucket: pace.rows_max for bucket, pace in served.paces.items()}
            log.info(
                "version serves", model=model, version=version, device=served.session.device.value, batches=batches
            )
            return served

    def unload(self, model: str) -> None:
        """Stop serving a model."""
        before = self.table.remove(model)
        if before is None:
            raise UnknownModel(f"model {model[:80]!r} does not serve")
        self._retire(before)

    def refresh_index(self) -> list[VersionState]:
        """What is in the repository now, with the state of each version."""
        present: set[tuple[str, str]] = set()
        for folder in sorted(self.options.repository.iterdir()) if self.options.repository.is_dir() else []:
            present.update((folder.name, version) for version in self._versions(folder.name))
        self.table.forget_absent(present)
        known = {(state.model, state.version) for state in self.table.states()}
        for model, version in sorted(present - known):
            self.table.note(VersionState(model, version, "UNAVAILABLE", ""))
        return self.table.states()

    async def infer(self, served: ServedVersion, request: InferRequest) -> Answer:
        """Score one request. Raises RequestProblem; counts it."""
        try:
            answer = await self._infer(served, request)
        except RequestProblem as problem:
            served.statistics.failed(problem.code)
            raise
        served.statistics.last_inference_unix_ms = self._clock.unix_ms()
        return answer

    def not_ready_reason(self) -> str | None:
        """Why requests would not be answered now; None when they would."""
        if self.draining:
            return "draining: the worker was told to stop"
        if self.table.current(self.options.model) is None:
            return f"model {self.options.model!r} has no version that serves"
        if self.batcher.stuck_seconds() > self.options.stuck_run_seconds:
            return f"a run of the engine has not ended for {self.batcher.stuck_seconds():.1f} s"
        return None

    def degraded_reason(self) -> str | None:
        """What is not as asked for though requests are answered; None when all is well."""
        served = self.table.current(self.options.model)
        asked_auto = self.options.engine.device is Device.AUTO
        if served is not None and asked_auto and cuda_is_installed() and served.session.device is Device.CPU:
            return "this ONNX Runtime has CUDA, but the session runs on the CPU: no usable GPU was found"
        return self.instead_of

    async def close(self) -> None:
        """Answer what was taken, then end the threads."""
        self.draining = True
        served = self.table.current(self.options.model)
        if served is not None:
            await _within(served.drained(), self.options.drain_seconds)
        for task in self._retiring:
            task.cancel()
        self.batcher.close()
        self._loader.shutdown(wait=False, cancel_futures=True)

    async def _infer(self, served: ServedVersion, request: InferRequest) -> Answer:
        if self.draining:
            raise NotServing("the worker is stopping", retry_after_seconds=2)
        shape = served.session.signature.check(request.inputs)
        buckets = served.buckets
        if shape.rows > buckets.rows[-1]:
            raise BadTensor(f"the request has {shape.rows} rows; the largest batch is {buckets.rows[-1]}")
        if shape.candidates and bucket_of(shape.candidates, buckets.candidates) is None:
            raise BadTensor(f"the request has {shape.candidates} candidates; the most is {buckets.candidates[-1]}")
        known = {spec.name for spec in served.session.signature.outputs}
        for output in request.outputs:
            if output.name not in known:
                raise BadTensor(f"output {output.name[:60]!r} is unknown; the model has {sorted(known)}")
        return await self.batcher.submit(served, BatchItem(request.inputs, shape), self._deadline(request))

    def _deadline(self, request: InferRequest) -> float:
        """The earlier of Triton's relative time-out and the absolute deadline, on the monotonic clock."""
        now = self._clock.monotonic()
        deadline = float("inf")
        if request.timeout_us:
            deadline = now + request.timeout_us / 1e6
        if request.deadline_unix_ms is not None:
            left_seconds = (request.deadline_unix_ms - self._clock.unix_ms()) / 1000
            deadline = min(deadline, now + left_seconds)
        return deadline

    async def _wanted(self, model: str) -> str:
        champion = await self._champion(model)
        versions = self._versions(model)
        if champion is None and not versions:
            raise ModelRefused(
                f"{self.options.repository / model} has no versions",
                "Set the model repository's path, or train one: python -m models.train",
            )
        return champion or versions[0]

    def _versions(self, model: str) -> list[str]:
        """Version folders of a model, newest (largest number) first."""
        if not _is_name(model):
            return []
        return [str(number) for number in reversed(registry.versions(self.options.repository, model))]

    def _serves(self, model: str) -> str:
        served = self.table.current(model)
        return "no version" if served is None else f"version {served.version}"

    def _swap(self, served: ServedVersion) -> None:
        self.instead_of = None
        before = self.table.swap(served)
        self.metrics.loads.labels(served.model, "served").inc()
        self.metrics.device.clear()
        requested = self.options.engine.device.value
        self.metrics.device.labels(requested, served.session.device.value).set(1)
        self.metrics.model.labels(served.model, served.version, served.sha256[:12]).set(1)
        if before is not None:
            if (before.version, before.sha256) != (served.version, served.sha256):
                self.metrics.model.remove(before.model, before.version, before.sha256[:12])
            self._retire(before)

    def _retire(self, before: ServedVersion) -> None:
        task = asyncio.get_running_loop().create_task(self._drain([before]))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _drain(self, last_reference: list[ServedVersion]) -> None:
        """Wait for a replaced version's requests, then let go of it: the list is the only thing that still holds it."""
        await _within(last_reference[0].drained(), self.options.drain_seconds)
        self.batcher.forget(last_reference[0])
        last_reference.clear()
        await asyncio.get_running_loop().run_in_executor(self._loader, give_memory_back)


def _is_name(model: str) -> bool:
    return bool(model) and model not in {".", ".."} and "/" not in model and "\0" not in model


async def _within(waiting: Awaitable[None], seconds: float) -> None:
    try:
        await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        return
