"""What the worker does, without HTTP: choose a version, load it beside the old one, swap, drain.

One rule for every load, at start and later: a version either passes all its checks and serves, or is refused with
the reason, and nothing that served before is touched. At start, when the version that was asked for is refused or not
there yet, another one that passes serves instead, and the health answer says so: a proven older model ranks better than
no model.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from services.common.clock import Clock
from services.common.logging import get_logger
from services.inference.batcher import Batcher
from services.inference.codec import InferRequest
from services.inference.engine import cuda_is_installed
from services.inference.engine_options import Device, EngineOptions
from services.inference.errors import ModelRefused, NotServing, RequestProblem, UnknownModel, VersionOutOfReach
from services.inference.loading import ProvenVersion, give_memory_back, load
from services.inference.metrics import InferenceMetrics
from services.inference.repository import Named, Repository, is_name, is_number
from services.inference.scoring import Scored, Scorer
from services.inference.serving import CHAMPION, STANDBY, ServedVersion, ServingTable, VersionState
from services.inference.signature import Buckets

log = get_logger(__name__)

Champion = Callable[[str], Awaitable[Named | None]]
"""Which version of a model should serve; None: whichever is newest."""
Obtain = Callable[[str, str, str], Awaitable[None]]
"""(model, version, sha256 or ""): bring a version into the repository. Raises VersionOutOfReach."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What to serve and how. `drain_seconds` bounds the wait for requests that still use a replaced version."""

    repository: Repository
    model: str
    engine: EngineOptions
    buckets: Buckets
    also: tuple[str, ...] = ()
    """Further models, which may be fetched from a peer as the first."""
    drain_seconds: float = 10.0
    stuck_run_seconds: float = 5.0
    standby_reserve_seconds: float = 0.005


class Worker:
    """The engine, its batchers and the versions it serves."""

    def __init__(
        self,
        options: WorkerOptions,
        batcher: Batcher,
        standby_batcher: Batcher,
        metrics: InferenceMetrics,
        clock: Clock,
        champion: Champion,
        obtain: Obtain,
    ) -> None:
        self.options = options
        self.table = ServingTable()
        self.batcher = batcher
        self.metrics = metrics
        self.draining = False
        self.instead_of: str | None = None
        self.held: str | None = None
        """What a caller of the repository API did, which stands until the alias moves; None: the alias decides."""
        self.concern: Callable[[], str | None] = lambda: None
        """Why what serves is not what the alias names; set by whoever follows the alias."""
        self._clock = clock
        self._champion = champion
        self._obtain = obtain
        self._standby_batcher = standby_batcher
        self.scorer = Scorer(
            self.table,
            batcher,
            standby_batcher,
            metrics,
            clock,
            reserve_seconds=options.standby_reserve_seconds,
            stuck_run_seconds=options.stuck_run_seconds,
        )
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._loading = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        metrics.follow(self.table.statistics)
        metrics.degraded.set_function(lambda: float(self.degraded_reason() is not None))
        metrics.queue_rows.set_function(lambda: float(batcher.rows_waiting + standby_batcher.rows_waiting))

    @property
    def repository(self) -> Repository:
        """Where the versions are."""
        return self.options.repository

    async def start(self) -> None:
        """Serve the champion, else another version that passes. Raises ModelRefused when none does."""
        model = self.options.model
        wanted = await self._champion(model)
        local = self.repository.versions(model)
        if wanted is None and not local:
            raise self._empty(model)
        missing = wanted is not None and wanted.version not in local and bool(local)
        reason = f"version {wanted.version} is not in this region's repository yet" if wanted and missing else ""
        first = [] if wanted is None or missing else [wanted]
        numbers = [*(wanted.former if wanted else ()), *local]
        others = [Named(version) for version in dict.fromkeys(numbers) if version in local]
        refused: ModelRefused | None = None
        for named in [*first, *(other for other in others if not wanted or other.version != wanted.version)]:
            try:
                await self.load(model, named.version, sha256=named.sha256)
            except ModelRefused as problem:
                refused = refused or problem
                reason = reason or f"version {named.version} was refused ({problem.reason})"
                continue
            if reason:
                self.instead_of = f"{reason}; version {named.version} serves instead"
            return
        raise refused or self._empty(model)

    async def load(
        self, model: str, version: str | None = None, *, sha256: str = "", role: str = CHAMPION
    ) -> ServedVersion:
        """Load a version (default: the champion) beside what serves, and swap; fetch it first if it is not here.

        Raises ModelRefused (VersionOutOfReach when it may succeed later), UnknownModel.
        """
        if version is None:
            version, sha256 = await self._default(model)
        try:
            if not is_number(version):
                raise ModelRefused(
                    f"{model[:80]!r} has no version {version[:40]!r}", "A version is named by its number"
                )
            if version not in self.repository.versions(model):
                await self._bring(model, version, sha256)
            async with self._loading:
                served = self._already(model, version, sha256, role) or await self._prove(model, version, sha256, role)
                self._swap(served, role)
        except ModelRefused as problem:
            self._refused(model, version, role, problem)
            raise
        except asyncio.CancelledError:
            self._given_up(model, version)
            raise
        batches = {bucket: pace.rows_max for bucket, pace in served.paces.items()}
        log.info(
            "version serves",
            model=model,
            version=version,
            role=role,
            device=served.session.device.value,
            batches=batches,
        )
        return served

    def unload(self, model: str, role: str = CHAMPION) -> None:
        """Stop serving a model, or leave a role of it empty. Raises UnknownModel when nothing served."""
        before = self.table.current(model, role)
        if before is None:
            raise UnknownModel(f"model {model[:80]!r} does not serve")
        left = self.table.remove(model, role)
        self._show()
        if left is not None:
            self._retire(left)

    def refresh_index(self, named: dict[str, Named] | None = None) -> list[VersionState]:
        """What is in the repository now or named by an alias, with the state of each version."""
        present = {
            (model, version) for model in self.repository.models() for version in self.repository.versions(model)
        }
        wanted = {(self.options.model, found.version) for found in (named or {}).values()}
        self.table.forget_absent(present | wanted)
        known = {(state.model, state.version) for state in self.table.states()}
        for model, version in sorted(present - known):
            self.table.note(VersionState(model, version, "UNAVAILABLE", ""))
        return self.table.states()

    async def infer(self, served: ServedVersion, request: InferRequest, *, by_number: bool = False) -> Scored:
        """Score one request; without `by_number` the standby may answer. Raises RequestProblem; counts it."""
        try:
            if self.draining:
                raise NotServing("the worker is stopping", retry_after_seconds=2)
            scored = await self.scorer.score(served, request, by_number=by_number)
        except RequestProblem as problem:
            served.statistics.failed(problem.code)
            raise
        scored.served.statistics.last_inference_unix_ms = self._clock.unix_ms()
        return scored

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
        return self.scorer.impaired or self.concern() or self.instead_of

    async def close(self) -> None:
        """Answer what was taken, then end the threads."""
        self.draining = True
        for _, served in self.table.all_served():
            await _within(served.drained(), self.options.drain_seconds)
        for task in self._retiring:
            task.cancel()
        self.batcher.close()
        self._standby_batcher.close()
        self._loader.shutdown(wait=False, cancel_futures=True)

    async def _default(self, model: str) -> tuple[str, str]:
        """Number and content of the version to serve when none is asked for."""
        named = await self._champion(model) if is_name(model) else None
        if named is not None:
            return named.version, named.sha256
        local = self.repository.versions(model)
        if not local:
            raise UnknownModel(f"{self.repository.path} has no versions of a model {model[:80]!r}")
        return local[0], ""

    async def _bring(self, model: str, version: str, sha256: str) -> None:
        """Have a version in the repository that is not there."""
        named = model in (self.options.model, *self.options.also)
        known = is_name(model) and (named or bool(self.repository.versions(model)))
        if not known:
            raise UnknownModel(f"{self.repository.path} has no versions of a model {model[:80]!r}")
        self.table.note(VersionState(model, version, "LOADING", "being fetched"))
        await self._obtain(model, version, sha256)

    def _already(self, model: str, version: str, sha256: str, role: str) -> ServedVersion | None:
        """The same content that serves another role already; a standby is loaded for itself, on the CPU."""
        if not sha256 or role == STANDBY:
            return None
        standby = self.table.current(model, STANDBY)
        serving = [served for served in self.table.served(model) if served is not standby]
        return next((served for served in serving if (served.version, served.sha256) == (version, sha256)), None)

    async def _prove(self, model: str, version: str, sha256: str, role: str) -> ServedVersion:
        self.table.note(VersionState(model, version, "LOADING", ""))
        options = self.options
        engine = replace(options.engine, device=Device.CPU) if role == STANDBY else options.engine
        prove: Callable[[], ProvenVersion] = partial(
            load,
            self.repository.folder(model, version),
            engine,
            options.buckets,
            self._clock.monotonic,
            sha256=sha256,
            check_signature=self.repository.check_signature,
        )
        proven = await asyncio.get_running_loop().run_in_executor(self._loader, prove)
        return ServedVersion(model, version, proven, options.buckets, self.table.statistics_of(model, version))

    def _refused(self, model: str, version: str, role: str, problem: ModelRefused) -> None:
        self.table.note(VersionState(model, version, "UNAVAILABLE", problem.reason))
        outcome = "out_of_reach" if isinstance(problem, VersionOutOfReach) else "refused"
        self.metrics.loads.labels(model, outcome).inc()
        serving = self.table.current(model, role)
        log.warning(
            "version refused",
            model=model,
            version=version,
            role=role,
            reason=str(problem),
            serving="no version" if serving is None else f"version {serving.version}",
        )

    def _given_up(self, model: str, version: str) -> None:
        if all(served.version != version for served in self.table.served(model)):
            self.table.note(VersionState(model, version, "UNAVAILABLE", "given up before it was ready"))

    def _empty(self, model: str) -> ModelRefused:
        return ModelRefused(
            f"{self.repository.path / model} has no versions",
            "Set the model repository's path, or train one: python -m models.train",
        )

    def _swap(self, served: ServedVersion, role: str) -> None:
        left = self.table.swap(served, role)
        self.metrics.loads.labels(served.model, "served").inc()
        if role == CHAMPION and served.model == self.options.model:
            self.instead_of = None
            self.scorer.impaired = ""
            self.metrics.device.clear()
            self.metrics.device.labels(self.options.engine.device.value, served.session.device.value).set(1)
        self._show()
        if left is not None:
            self._retire(left)

    def _show(self) -> None:
        """Export which versions serve."""
        self.metrics.model.clear()
        self.metrics.roles.clear()
        for role, served in self.table.all_served():
            self.metrics.roles.labels(served.model, role, served.version).set(1)
            if role == CHAMPION:
                self.metrics.model.labels(served.model, served.version, served.sha256[:12]).set(1)

    def _retire(self, before: ServedVersion) -> None:
        task = asyncio.get_running_loop().create_task(self._drain([before]))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _drain(self, last_reference: list[ServedVersion]) -> None:
        """Wait for a replaced version's requests, then let go of it: the list is the only thing that still holds it."""
        await _within(last_reference[0].drained(), self.options.drain_seconds)
        self.batcher.forget(last_reference[0])
        self._standby_batcher.forget(last_reference[0])
        last_reference.clear()
        await asyncio.get_running_loop().run_in_executor(self._loader, give_memory_back)


async def _within(waiting: Awaitable[None], seconds: float) -> None:
    try:
        await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        return
