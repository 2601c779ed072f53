"""From an ask to a published ranking, or to a counted reason why there is none.

Features are read synchronously at the frontier that holds the ask's own frame; only scoring is waited for, in a task of
its own, so the fold never waits for the inference worker. The gate is asked before the work and once more right
before the effect: what was scored under a gate that shut meanwhile stays here.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from services.common.clock import Clock
from services.common.tracing import NO_TRACER, Tracer, current, entered
from services.processor.admission import (
    AskLimits,
    Course,
    Load,
    decide,
    scoring_deadline_ms,
    uncovered,
)
from services.processor.canary import CanaryTrails, kind_of
from services.processor.gate import Gate
from services.processor.ladder import Ladder, Outcome, StepDown, Tensors
from services.processor.waiting import FrontierWaits
from streams.asks import Ask, Ranking, ranking_id
from streams.delivery import DeliveryError
from streams.position import Frontier


@dataclass(frozen=True, slots=True)
class Prepared:
    """Candidates and their tensors, read at one frontier."""

    items: list[str]
    """The K candidates that are scored, in the order of the tensors."""
    unknown: list[str]
    """Candidates that the caller named and the catalogue does not know: they stay last, in the caller's order."""
    tensors: Tensors


class Featurizer(Protocol):
    """Reads catalogue and counters. Synchronous: it takes a few milliseconds."""

    def prepare(self, ask: Ask) -> Prepared:
        """Choose candidates and encode them with the features of this moment."""


class Changes(Protocol):
    """Catalogue entries on their way into retrieval."""

    async def level(self, timeout_seconds: float) -> bool:
        """Wait (bounded) until every change so far is in; whether it is."""


class AskObserver(Protocol):
    """Who counts; called on the event loop, must not block or raise."""

    def ask_ended(self, kind: str, outcome: str, rung: str) -> None:
        """An ask ended: `answered` on `rung`, or dropped for a reason."""

    def ask_failed(self, kind: str, bug: BaseException) -> None:
        """Answering raised what it should not."""

    def stepped_down(self, why: StepDown) -> None:
        """An answer did not come from the model rung."""

    def stage(self, name: str, seconds: float) -> None:
        """How long one stage of an answer took."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What is known of an ask besides itself."""

    appended_ms: int
    after_reached: bool


SCORE: Final = "score"
Publish = Callable[[Ranking], None]
"""Queues an effect. Raises DeliveryError when it cannot."""


class Answerer:
    """Answers asks. One for each processor, used from its event loop only."""

    def __init__(
        self,
        *,
        region: str,
        featurizer: Featurizer,
        ladder: Ladder,
        gate: Gate,
        publish: Publish,
        frontier: Callable[[], Frontier],
        clock: Clock,
        limits: AskLimits,
        observer: AskObserver,
        changes: Changes,
        similar: Ladder | None = None,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self.tracer = tracer
        self.canaries = CanaryTrails(clock)
        self._changes = changes
        self._region = region
        self._featurizer = featurizer
        self._ladder = ladder
        self._similar = similar or ladder
        self._gate = gate
        self._publish = publish
        self._frontier = frontier
        self._clock = clock
        self._limits = limits
        self._observer = observer
        self._waits = FrontierWaits(frontier)
        self._tasks: set[asyncio.Task[None]] = set()
        self._scoring = 0
        self.model_problem: str | None = None
        """Why the newest answer did not come from the model; None when it did."""

    @property
    def scoring(self) -> int:
        """Asks that wait for the inference worker now."""
        return self._scoring

    @property
    def waiting(self) -> int:
        """Asks that wait for their read token now."""
        return len(self._waits)

    def submit(self, ask: Ask, appended_ms: int) -> None:
        """Start on an ask whose frame was just folded; `appended_ms` is when the broker appended that frame."""
        self.canaries.begin(ask, appended_ms)
        task = asyncio.create_task(self._traced(ask, appended_ms) if ask.trace else self._answer(ask, appended_ms))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, ask))

    def advanced(self) -> None:
        """The frontier moved: wake whoever waited for it."""
        self._waits.advanced()

    async def drain(self, timeout_seconds: float) -> None:
        """Let what is under way end, then drop the rest."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_seconds)
        for task in list(self._tasks):
            task.cancel()

    def _ended(self, task: "asyncio.Task[None]", ask: Ask) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            self._end(ask, "cancelled")
        elif (bug := task.exception()) is not None:
            self._observer.ask_failed(kind_of(ask), bug)
            self.canaries.end(ask, "failed")

    def _end(self, ask: Ask, outcome: str, rung: str = "none", detail: str = "") -> None:
        self._observer.ask_ended(kind_of(ask), outcome, rung)
        current().note(outcome=outcome, rung=rung, detail=detail)
        self.canaries.end(ask, outcome, detail)

    def _stage(self, ask: Ask, name: str, seconds: float) -> None:
        self._observer.stage(name, seconds)
        trace = current()
        if trace.recorded and name != SCORE:
            now = trace.now()
            trace.add(name, now - seconds, now)
        self.canaries.stage(ask, name, seconds)

    async def _traced(self, ask: Ask, appended_ms: int) -> None:
        """Answer under the trace that came with the ask: this task is where it is the current one."""
        with entered(self.tracer.continued(ask.trace)) as trace:
            error = "it was cancelled, or failed"
            try:
                await self._answer(ask, appended_ms)
                error = ""
            finally:
                trace.end("rank", kind="consumer", error=error)

    async def _answer(self, ask: Ask, appended_ms: int) -> None:
        missing = bool(uncovered(ask.after, self._frontier()))
        course = self._decide(ask, appended_ms, missing=missing)
        if course is Course.WAIT:
            started = self._clock.monotonic()
            # What is left after waiting must be enough for the other rungs, and for publishing.
            budget_ms = ask.deadline_unix_ms - 2 * self._limits.margin_ms - self._clock.unix_ms()
            missing = not await self._waits.covered(ask.after, budget_ms / 1000)
            self._stage(ask, "wait", self._clock.monotonic() - started)
            course = self._decide(ask, appended_ms, missing=False)
        if course in (Course.SCORE, Course.COUNTERS):
            left_ms = (ask.deadline_unix_ms - self._clock.unix_ms()) // 4
            with current().step("catalogue"):
                await self._changes.level(max(0, min(left_ms, self._limits.catalogue_wait_ms_max)) / 1000)
            await self._rank(ask, _Waiting(appended_ms, after_reached=not missing), course)
        else:
            self._end(ask, course.value)

    def _decide(self, ask: Ask, appended_ms: int, *, missing: bool) -> Course:
        now_ms = self._clock.unix_ms()
        return decide(
            ask,
            now_ms=now_ms,
            age_ms=now_ms - appended_ms,
            # A canary goes as far as the effect: the gate stops it there.
            gate_blocker=None if ask.canary else self._gate.blocker(now_ms),
            missing=missing,
            load=Load(scoring=self._scoring, waiting=len(self._waits)),
            limits=self._limits,
        )

    async def _rank(self, ask: Ask, waiting: "_Waiting", course: Course) -> None:
        started = self._clock.monotonic()
        prepared = self._featurizer.prepare(ask)
        frontier = self._frontier().to_rows()
        prepared_at = self._clock.monotonic()
        self._stage(ask, "features", prepared_at - started)
        if course is Course.COUNTERS:
            reason = f"{self._scoring} asks are being scored, as many as are allowed"
            outcome = self._ladder_of(ask).step_down(prepared.tensors, len(prepared.items), StepDown.OVERLOADED, reason)
        else:
            outcome = await self._score(ask, prepared)
        self._stage(ask, SCORE, self._clock.monotonic() - prepared_at)
        self.canaries.scored(ask, outcome.rung.word, outcome.reason)
        self._show(ask, outcome, self._ranking(ask, waiting, prepared, outcome, frontier))

    def _ladder_of(self, ask: Ask) -> Ladder:
        return self._similar if ask.kind == "similar" else self._ladder

    async def _score(self, ask: Ask, prepared: Prepared) -> Outcome:
        now_ms = self._clock.unix_ms()
        # A canary takes nobody's place: it is one a second, and asks of users are turned away by this number.
        places = 0 if ask.canary else 1
        self._scoring += places
        try:
            # The worker continues from this span: its client names it in a header.
            with current().step(SCORE, kind="client", candidates=len(prepared.items)):
                return await self._ladder_of(ask).score(
                    prepared.tensors,
                    len(prepared.items),
                    deadline_ms=scoring_deadline_ms(ask, now_ms, self._limits),
                    now_ms=now_ms,
                )
        finally:
            self._scoring -= places

    def _ranking(
        self, ask: Ask, waiting: "_Waiting", prepared: Prepared, outcome: Outcome, frontier: list[tuple[str, int, int]]
    ) -> Ranking:
        items, scores = ranked(prepared, outcome, ask.size)
        return Ranking(
            ask_id=ask.ask_id,
            reply_to=ask.reply_to,
            ranking_id=ranking_id(ask, outcome.rung, outcome.model_version),
            items=items,
            scores=scores,
            rung=outcome.rung.word,
            model_version=outcome.model_version,
            region=self._region,
            epoch=self._gate.epoch,
            frontier=frontier,
            feature_age_ms=max(0, self._clock.unix_ms() - waiting.appended_ms),
            valid_until_ms=self._gate.valid_until_ms(ask.deadline_unix_ms),
            after_reached=waiting.after_reached,
            reason=outcome.reason,
            trace=current().passed_on(),
        )

    def _show(self, ask: Ask, outcome: Outcome, ranking: Ranking) -> None:
        """The effect. The gate is asked here and nowhere earlier counts."""
        _say(ranking)
        if (blocker := self._gate.blocker(self._clock.unix_ms())) is not None:
            self._end(ask, Course.DROP_GATE.value, detail=blocker)
            return
        try:
            self._publish(ranking)
        except DeliveryError:
            self._end(ask, "unpublished")
            return
        if not ask.canary:
            self._note_rung(outcome)
        self._end(ask, "answered", outcome.rung.word)

    def _note_rung(self, outcome: Outcome) -> None:
        self.model_problem = None
        if outcome.step_down is not StepDown.NONE:
            self.model_problem = outcome.reason
            self._observer.stepped_down(outcome.step_down)


def _say(ranking: Ranking) -> None:
    """Tell the ask's trace what came of it."""
    trace = current()
    if trace.trace_id:
        trace.findable(ranking.ranking_id)
        epoch = "{}:{}".format(*ranking.epoch)
        version, reason = ranking.model_version, ranking.reason
        trace.note(ranking_id=ranking.ranking_id, epoch=epoch, model_version=version, reason=reason)


def ranked(prepared: Prepared, outcome: Outcome, size: int) -> tuple[list[str], list[float]]:
    """The best `size` items and their scores; equal scores keep the candidates' order, unknown ones come last."""
    order = np.argsort(-outcome.scores, kind="stable")[:size]
    items = [prepared.items[i] for i in order]
    scores = [float(outcome.scores[i]) for i in order]
    lowest = scores[-1] if scores else 0.0
    rest = prepared.unknown[: size - len(items)] if len(items) < size else []
    return items + rest, scores + [lowest] * len(rest)
