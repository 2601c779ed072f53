"""Dynamic batching on the event loop: the thin shell around `batch_queue`, and the one thread that runs the engine.

The loop decides, the thread computes; so health checks, refusals and expiry stay prompt while a run is under way,
and there is never more than one run (several would share the same cores). Decisions are made once per loop turn,
after every request that was already read has been queued: requests that arrive together run together without
waiting.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from services.common.tracing import NO_TRACE, Trace, current
from services.inference.batch_queue import Batch, BatchLimits, BatchQueue, Key, Pace, Refusal, Ticket
from services.inference.engine import BatchItem
from services.inference.errors import DeadlineExpired, InferenceError, ModelRunFailed, QueueFull
from services.inference.metrics import InferenceMetrics
from services.inference.serving import ServedVersion
from services.inference.signature import bucket_of

Array = NDArray[Any]
Answer = dict[str, Array]
LINKS_MAX = 16
"""Other requests of a run that the span of one of them names."""
_UNKNOWN_PACE = Pace(1, 0.0)


@dataclass(slots=True)
class Job:
    """One request on its way through the queue."""

    served: ServedVersion
    item: BatchItem
    answer: asyncio.Future[Answer]
    trace: Trace = NO_TRACE


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run gave and where its time went, in seconds."""

    answers: list[Answer | ModelRunFailed]
    started_seconds: float
    input_seconds: float
    infer_seconds: float
    output_seconds: float


class Batcher:
    """Takes requests, answers them. Made and used on one event loop."""

    def __init__(self, limits: BatchLimits, metrics: InferenceMetrics, now_seconds: Callable[[], float]) -> None:
        self.limits = limits
        self._queue: BatchQueue[Job] = BatchQueue(limits)
        self._metrics = metrics
        self._now = now_seconds
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._idle_since: float | None = now_seconds()
        self._running_since: float | None = None
        self._paces: dict[Key, Pace] = {}
        self._step_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        metrics.queue_rows_max.set(limits.queue_rows_max)

    async def submit(self, served: ServedVersion, item: BatchItem, deadline_seconds: float) -> Answer:
        """Score one request; `deadline_seconds` is on the batcher's clock.

        Raises QueueFull, DeadlineExpired, ModelRunFailed; a cancelled caller's request leaves the queue.
        """
        loop = asyncio.get_running_loop()
        job = Job(served, item, loop.create_future(), current())
        arrived = self._now()
        candidates = bucket_of(item.shape.candidates, served.buckets.candidates) if item.shape.candidates else 0
        key = (served.model, served.serial, candidates or 0)
        self._paces.setdefault(key, served.paces[key[2]])
        ticket = Ticket(key, item.shape.rows, arrived, deadline_seconds, job)
        self._refuse(self._queue.offer(ticket, arrived))
        self._arm()
        served.enter()
        try:
            return await job.answer
        except asyncio.CancelledError:
            if self._queue.withdraw(ticket):
                self._metrics.drops.labels("cancelled").inc()
            raise
        finally:
            served.leave()

    def forget(self, served: ServedVersion) -> None:
        """Drop what was learnt about the runs of a version that has been drained."""
        for key in [key for key in self._paces if key[:2] == (served.model, served.serial)]:
            del self._paces[key]

    @property
    def rows_waiting(self) -> int:
        """Rows that no run has taken yet."""
        return self._queue.rows_waiting

    def stuck_seconds(self) -> float:
        """How long the present run has been going on; 0 when the engine is free."""
        return 0.0 if self._running_since is None else self._now() - self._running_since

    def close(self) -> None:
        """Let the thread end after its run; nothing can be submitted any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _refuse(self, refusal: Refusal | None) -> None:
        if refusal is Refusal.FULL:
            self._metrics.drops.labels("queue_full").inc()
            waiting = f"{self._queue.rows_waiting} rows are waiting, the bound is {self._queue.limits.queue_rows_max}"
            raise QueueFull(f"the queue is full: {waiting}", retry_after_seconds=1)
        if refusal is Refusal.EXPIRED:
            self._metrics.drops.labels("expired_on_arrival").inc()
            raise DeadlineExpired("the request's deadline was over when it arrived")

    def _arm(self) -> None:
        if not self._step_is_due:
            self._step_is_due = True
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        self._step_is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._now()
        decision = self._queue.decide(now, self._idle_since, self._pace_of)
        for ticket in decision.expired:
            self._metrics.drops.labels("expired_in_queue").inc()
            waited = now - ticket.arrived_seconds
            _fail(
                ticket.work,
                DeadlineExpired(f"the request's deadline was over after {waited * 1000:.0f} ms in the queue"),
            )
        if decision.batch is not None:
            self._start(decision.batch, now)
        if decision.wake_seconds != float("inf"):
            self._timer = asyncio.get_running_loop().call_later(max(0.0, decision.wake_seconds - now), self._arm)

    def _pace_of(self, key: Key) -> Pace:
        """A version that did not drain in time may still have requests here after it was forgotten."""
        return self._paces.get(key, _UNKNOWN_PACE)

    def _start(self, batch: Batch[Job], now: float) -> None:
        self._idle_since = None
        self._running_since = now
        self._metrics.flushes.labels(batch.flush.value).inc()
        self._metrics.batch_rows.observe(batch.rows)
        run = asyncio.get_running_loop().run_in_executor(self._executor, self._run, batch)
        run.add_done_callback(lambda done: self._finish(batch, done))

    def _run(self, batch: Batch[Job]) -> RunReport:
        """In the engine's thread."""
        started = self._now()
        served = batch.tickets[0].work.served
        items = [ticket.work.item for ticket in batch.tickets]
        inputs = served.session.stack(items, served.buckets)
        stacked = self._now()
        outputs = served.session.run(inputs)
        ran = self._now()
        answers = served.session.split(outputs, items)
        return RunReport(answers, started, stacked - started, ran - stacked, self._now() - ran)

    def _finish(self, batch: Batch[Job], done: asyncio.Future[RunReport]) -> None:
        now = self._now()
        self._idle_since = now
        self._running_since = None
        self._arm()
        if done.cancelled():
            problem: BaseException | None = ModelRunFailed("the worker is closing")
        else:
            problem = done.exception()
        if problem is not None:
            cause = problem if isinstance(problem, InferenceError) else ModelRunFailed(f"the run failed: {problem!r}")
            for ticket in batch.tickets:
                _fail(ticket.work, cause)
            return
        report = done.result()
        self._account(batch, report, now)
        for ticket, answer in zip(batch.tickets, report.answers, strict=True):
            if isinstance(answer, ModelRunFailed):
                _fail(ticket.work, answer)
                continue
            ticket.work.served.statistics.success.add(now - ticket.arrived_seconds)
            if not ticket.work.answer.done():
                ticket.work.answer.set_result(answer)

    def _account(self, batch: Batch[Job], report: RunReport, now: float) -> None:
        compute = report.input_seconds + report.infer_seconds + report.output_seconds
        before = self._pace_of(batch.key)
        expected = max(compute, 0.8 * before.run_seconds + 0.2 * compute)
        self._paces[batch.key] = Pace(before.rows_max, expected)
        self._metrics.compute_seconds.observe(compute)
        statistics = batch.tickets[0].work.served.statistics
        statistics.executions += 1
        statistics.inferences += batch.rows
        count = len(batch.tickets)
        statistics.compute_input.add(report.input_seconds, count)
        statistics.compute_infer.add(report.infer_seconds, count)
        statistics.compute_output.add(report.output_seconds, count)
        statistics.batch(batch.rows).add(report.infer_seconds)
        for ticket in batch.tickets:
            waited = max(0.0, report.started_seconds - ticket.arrived_seconds)
            statistics.queue.add(waited)
            self._metrics.queue_seconds.observe(waited)
            self._metrics.request_seconds.observe(now - ticket.arrived_seconds)
        trace_run(batch, report)


def trace_run(batch: Batch[Job], report: RunReport) -> None:
    """Tell each traced request where its time went; who shared the run with it is a link."""
    traced = [ticket for ticket in batch.tickets if ticket.work.trace.recorded]
    runs = {id(ticket): ticket.work.trace.new_span_id() for ticket in traced}
    ended = report.started_seconds + report.input_seconds + report.infer_seconds + report.output_seconds
    for ticket in traced:
        others = [each for each in traced if each is not ticket][:LINKS_MAX]
        trace = ticket.work.trace
        trace.add("queue", ticket.arrived_seconds, report.started_seconds)
        trace.add(
            "compute",
            report.started_seconds,
            ended,
            span_id=runs[id(ticket)],
            links=[(each.work.trace.trace_id, runs[id(each)]) for each in others],
            batch_requests=len(batch.tickets),
            batch_rows=batch.rows,
            closed_by=batch.flush.value,
            engine_ms=round(report.infer_seconds * 1000, 3),
        )


def _fail(job: Job, problem: InferenceError) -> None:
    if not job.answer.done():
        job.answer.set_exception(problem)
