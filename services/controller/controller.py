"""The shell around the decisions: it looks, decides, does, and looks again at once when something happens.

Renewing has a task of its own, because nothing that a decision waits for may cost the lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from services.common.clock import Clock
from services.common.logging import bind_process, get_logger
from services.common.waiting import news_within
from services.controller.blockers import is_last_resort, own_blocker, right_to_act
from services.controller.board import LeaseBoard, serving_epoch
from services.controller.canary import CanaryReading
from services.controller.decide import decide
from services.controller.forecast import RtoForecast, coarse
from services.controller.forecaster import Forecaster
from services.controller.metrics import ControllerMetrics
from services.controller.mirror import StoreMirror
from services.controller.model import CandidateStatus, Limits, Now, View
from services.controller.observe import Observer
from services.controller.perform import Performer
from services.coordination.base import CoordinationError
from services.coordination.election import Election
from services.coordination.registry import Registration

FAILED_SECONDS = 0.05
_NUMBERS = str.maketrans("", "", "0123456789.")

log = get_logger(__name__)


class Controller:
    """One region's controller, without its HTTP surface."""

    def __init__(
        self,
        *,
        region: str,
        instance: str,
        regions: tuple[str, ...],
        urls: tuple[str, str],
        clock: Clock,
        election: Election,
        limits: Limits,
        cycle_seconds: float,
        renew_seconds: float,
        metrics: ControllerMetrics,
    ) -> None:
        self.region = region
        self.instance = instance
        self.regions = regions
        self.limits = limits
        self.clock = clock
        self.election = election
        self.metrics = metrics
        self.sentence = "no action: starting"
        self._started_ms = clock.unix_ms()
        self._gateway_url, self._control_url = urls
        self._cycle_seconds = cycle_seconds
        self._renew_seconds = renew_seconds
        self._wake = asyncio.Event()
        self.board = LeaseBoard(self.view, clock, lambda: election.seen.epoch)
        self.canary: Callable[[], CanaryReading | None] = lambda: None
        """What the newest canary said."""
        # Given by `attach`, as they report to this object.
        self.mirror: StoreMirror
        self.observer: Observer
        self.performer: Performer
        self.registration: Registration
        self.forecaster: Forecaster | None = None
        """Who says when rankings would come from here; None: nobody does."""

    def attach(self, mirror: StoreMirror, observer: Observer, performer: Performer, registration: Registration) -> None:
        """Take the parts that report here."""
        self.mirror, self.observer, self.performer, self.registration = mirror, observer, performer, registration

    def wake(self) -> None:
        """Something changed: decide now."""
        self._wake.set()

    def now(self) -> Now:
        """Both times."""
        return Now(self.clock.boottime(), self.clock.unix_ms())

    def view(self) -> View:
        """Everything that is known."""
        own = [life for life in self.mirror.lives() if life.region == self.region]
        return View(
            region=self.region,
            instance=self.instance,
            regions=self.regions,
            incarnation=own[-1].incarnation if own else "",
            store=self.mirror.view(),
            term=self.performer.term(self.board.promised_until),
            data=self.observer.data,
            hold_down_until=self.performer.hold_down_until,
            hold_down_because=self.performer.hold_down_because,
            ended_epoch=self.election.ended,
        )

    def forecast(self) -> RtoForecast | str:
        """When rankings would come from here if the active region died now, or why that is not known."""
        if self.forecaster is None:
            return "nobody forecasts here"
        return self.forecaster.of(self.view(), self.now())

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.mirror.run())
            tasks.create_task(self.observer.run())
            tasks.create_task(self._renew())
            tasks.create_task(self._decide())
            tasks.create_task(self.registration.run())
            tasks.create_task(self._record())

    async def _renew(self) -> None:
        while True:
            began = self.clock.monotonic()
            await self.election.renew()
            self.board.refresh()
            await self.clock.sleep(max(0.0, self._renew_seconds - (self.clock.monotonic() - began)))

    async def _decide(self) -> None:
        while True:
            self._wake.clear()
            await self.cycle()
            await news_within(self._wake, self._cycle_seconds)

    async def cycle(self) -> None:
        """Look, decide, do."""
        self._heed()
        view = self.view()
        decision = decide(view, self.limits, self.now())
        self._say(decision.sentence)
        done = [await self.performer.perform(transition) for transition in decision.transitions]
        self.board.refresh()
        self._announce()
        if not all(done):
            # What failed would fail again at once, and the store has enough to do.
            await self.clock.sleep(FAILED_SECONDS)
        if done:
            self._wake.set()

    def _heed(self) -> None:
        """Hold the term against what the store and the own processes show."""
        store = self.mirror.view()
        self.election.heed(self.mirror.leader_entry, store.generation, store.revision)
        for status in store.candidates.values():
            self.election.heed_epoch(status.epoch_seen)
        if (gate := self.observer.data.gate) is not None:
            self.election.heed_epoch(gate.epoch)

    def _announce(self) -> None:
        """Tell the other controllers what this region could do, and ask its processes as often as is needed."""
        view, now = self.view(), self.now()
        gate = view.data.gate
        serves = gate is not None and gate.open and view.term is not None and gate.epoch == view.term.epoch
        seen = view.store.operation
        involved = seen is not None and self.region in {seen.operation.source, seen.operation.target}
        self.observer.hurry(involved or (view.term is not None and (not serves or view.term.shut is not None)))
        expected = self.forecast()
        self.metrics.show_forecast(expected)
        status = CandidateStatus(
            region=self.region,
            instance=self.instance,
            incarnation=view.incarnation,
            at_ms=self._started_ms,
            gateway_url=self._gateway_url,
            control_url=self._control_url,
            blocker=own_blocker(view, self.limits) or "",
            is_last_resort=is_last_resort(view, self.limits),
            serving_epoch=gate.epoch if serves and gate is not None else None,
            epoch_seen=self.election.seen.epoch,
            # Coarse, so that an entry changes when something does and not with every record.
            lag_events=None if view.data.lag.events is None else coarse(view.data.lag.events),
            lag_seconds=round(view.data.lag.seconds),
            rto_forecast=None if isinstance(expected, str) else expected,
            rto_unknown=expected if isinstance(expected, str) else "",
            canary=self.canary(),
        )
        self.registration.update(msgspec.json.encode(status))
        self._show(view, now)

    def _show(self, view: View, now: Now) -> None:
        may_act = right_to_act(view, now) is None
        self.metrics.active.set(may_act)
        self.metrics.promotable.set(own_blocker(view, self.limits) is None)
        self.metrics.last_seen.set(self.mirror.confirmed_ms / 1000)
        self.metrics.epoch_generation.set(max(0, self.election.seen.epoch[0]))
        self.metrics.epoch.set(max(0, self.election.seen.epoch[1]))
        bind_process(epoch=list(self.election.seen.epoch))
        self.metrics.lease_left.set(max(0.0, view.term.deadline - now.boottime) if view.term is not None else 0.0)
        self.metrics.paused.set(view.store.pause is not None)

    def _say(self, sentence: str) -> None:
        """Once when it changes; numbers that run by themselves are no change."""
        before, self.sentence = self.sentence, sentence
        if _without_numbers(before) != _without_numbers(sentence):
            log.info(sentence)

    async def _record(self) -> None:
        while True:
            try:
                await self.performer.record()
            except CoordinationError as problem:
                log.info("the history is written later", reason=str(problem))
            await self.clock.sleep(self._cycle_seconds)

    async def let_go(self, because: str) -> None:
        """Stop holding, when the process ends; promises that were given end within the lease's time."""
        # Others may act as soon as the key is gone, so it stays until no promise is left: at most one lease.
        if self.election.held is not None:
            left = self.board.promised_until - self.clock.boottime()
            self.election.forget(because)
            await self.clock.sleep(max(0.0, left))
        await self.election.end_leftovers()

    def acting_epoch(self) -> tuple[int, int] | None:
        """The epoch of the term that this region holds and whose deadline has not passed; None without one."""
        held = self.election.held
        return held.epoch if held is not None and self.clock.boottime() < held.deadline else None

    def rightful_epoch(self) -> tuple[int, int] | None:
        """The epoch under which this region may act now; None when it may not."""
        view = self.view()
        return view.term.epoch if view.term is not None and right_to_act(view, self.now()) is None else None

    def is_serving(self) -> bool:
        """Whether this region may act now, and its gate was open under its term when it was last asked."""
        view = self.view()
        may_act = right_to_act(view, self.now()) is None
        return may_act and view.term is not None and serving_epoch(view) == view.term.epoch


def _without_numbers(sentence: str) -> str:
    return sentence.translate(_NUMBERS)
