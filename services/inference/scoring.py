"""Answering one request: by the champion, and by the standby when the champion cannot or would come too late.

The standby is a small version on the CPU with an engine thread of its own, so a champion whose run hangs or fails does
not take it along. It is asked at the last moment at which it can still answer in time: until then the champion may,
and then its place in the queue is given up. The answer carries the version that really scored; a caller that names a
version gets that one or nothing.

To guess beforehand whether the champion will be in time was turned down: the guess is wrong exactly when something
unforeseen happens, and that is what a standby is for.
"""

import asyncio
from dataclasses import dataclass

from services.common.clock import Clock
from services.common.logging import get_logger
from services.inference.batcher import Answer, Batcher
from services.inference.codec import InferRequest
from services.inference.engine import BatchItem
from services.inference.errors import BadTensor, DeadlineExpired, ModelRunFailed, QueueFull, RequestProblem
from services.inference.metrics import InferenceMetrics
from services.inference.serving import STANDBY, ServedVersion, ServingTable
from services.inference.signature import bucket_of

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Scored:
    """An answer and the version that gave it; `stands_in_for` is the version that was asked, empty when it answered."""

    served: ServedVersion
    answer: Answer
    stands_in_for: str = ""


class Scorer:
    """Scores requests on the versions of a table."""

    def __init__(
        self,
        table: ServingTable,
        batcher: Batcher,
        standby_batcher: Batcher,
        metrics: InferenceMetrics,
        clock: Clock,
        *,
        reserve_seconds: float,
        stuck_run_seconds: float,
    ) -> None:
        self._table = table
        self._batcher = batcher
        self._standby_batcher = standby_batcher
        self._metrics = metrics
        self._clock = clock
        self._reserve_seconds = reserve_seconds
        self._stuck_run_seconds = stuck_run_seconds
        self.impaired = ""
        """Why the champion did not answer the last request, when its run failed or hangs; empty since it answers."""

    async def score(self, served: ServedVersion, request: InferRequest, *, by_number: bool) -> Scored:
        """Score; `by_number`: the caller named the version, and nobody may stand in. Raises RequestProblem."""
        item = checked(served, request)
        deadline = self._deadline(request)
        standby = None if by_number else self._table.current(served.model, STANDBY)
        if standby is None or deadline <= self._clock.monotonic():
            return Scored(served, await self._batcher.submit(served, item, deadline))
        latest = deadline - self._reserve_seconds - _run_seconds(standby, item)
        try:
            answer = await self._in_time(served, item, latest)
        except (ModelRunFailed, QueueFull, DeadlineExpired) as problem:
            self._note(served, problem)
            return await self._stand_in(standby, served, request, deadline, problem)
        if self.impaired:
            log.info("the champion answers again", model=served.model, version=served.version)
            self.impaired = ""
        return Scored(served, answer)

    async def _in_time(self, served: ServedVersion, item: BatchItem, latest: float) -> Answer:
        stuck = self._batcher.stuck_seconds()
        if stuck > self._stuck_run_seconds:
            raise ModelRunFailed(f"a run of the engine has not ended for {stuck:.1f} s")
        left = None if latest == float("inf") else max(0.0, latest - self._clock.monotonic())
        try:
            async with asyncio.timeout(left):
                return await self._batcher.submit(served, item, latest)
        except TimeoutError:
            raise DeadlineExpired("the run was not over in time") from None

    async def _stand_in(
        self, standby: ServedVersion, served: ServedVersion, request: InferRequest, deadline: float, why: RequestProblem
    ) -> Scored:
        taken = {spec.name for spec in standby.session.signature.inputs}
        inputs = {name: array for name, array in request.inputs.items() if name in taken}
        try:
            item = BatchItem(inputs, standby.session.signature.check(inputs))
            answer = await self._standby_batcher.submit(standby, item, deadline)
        except RequestProblem as problem:
            raise why from problem
        self._metrics.standby_answers.labels(why.code).inc()
        return Scored(standby, answer, served.version)

    def _note(self, served: ServedVersion, problem: RequestProblem) -> None:
        served.statistics.failed(problem.code)
        if isinstance(problem, ModelRunFailed):
            if not self.impaired:
                log.error("the champion fails", model=served.model, version=served.version, reason=problem.cause)
            self.impaired = f"version {served.version} does not answer: {problem.cause}"

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


def checked(served: ServedVersion, request: InferRequest) -> BatchItem:
    """The request's tensors, when the version takes them. Raises BadTensor."""
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
    return BatchItem(request.inputs, shape)


def _run_seconds(served: ServedVersion, item: BatchItem) -> float:
    """What a run of the standby takes, as it was measured when it was loaded."""
    candidates = bucket_of(item.shape.candidates, served.buckets.candidates) if item.shape.candidates else 0
    pace = served.paces.get(candidates or 0)
    return 0.0 if pace is None else pace.run_seconds
