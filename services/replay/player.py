"""Saying the steps of a script to a region: in bulk, at a rate, or with a ranking asked before each click.

* `bulk`: as fast as acknowledgements come back, a bounded number of calls at a time.
* `paced`: an open loop; every event has an intended time, fixed in advance.
* `ranked`: an open loop over searches. Each search asks for a ranking (which writes the search event), and
  what happened between two searches is published between them.
* `waves`: ranked as fast as it goes. A wave of consecutive searches is ranked together, then everything that
  happened up to the wave's last search is published, and the next wave waits until the region has taken it
  in. So inside a wave we know *less* than the baselines do, never more.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from services.client import (
    Accepted,
    Clock,
    Coordinates,
    Event,
    MeridianClient,
    MeridianError,
    Outcome,
    Ranking,
    TryAgain,
    Unknown,
)
from services.replay.errors import NobodyAnswers
from services.replay.judge import Expected, Judge
from services.replay.latency import Attempt
from services.replay.progress import Progress
from services.replay.script import EventStep, SearchStep, Step, chunks
from services.replay.tally import Tally, newest_of

Hook = Callable[[int], None]
BARRIER_USER = "replay-barrier"


@dataclass(frozen=True, slots=True)
class PlayerSettings:
    """Bounds of a replay."""

    bulk_events_per_call: int = 500
    bulk_calls_in_flight_max: int = 4
    ranking_timeout_ms: int = 1_000
    publish_timeout_seconds: float = 60.0
    wave_searches: int = 16
    barrier_try_ms: int = 2_000
    size: int = 10
    start_delay_seconds: float = 0.2
    """From making the schedule to its first entry."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Who answered, and when, on the client's clock of elapsed seconds."""

    finished: float
    region: str
    epoch: tuple[int, int]


class Player:
    """One replay through one client."""

    def __init__(
        self,
        client: MeridianClient,
        clock: Clock,
        tally: Tally,
        judge: Judge,
        settings: PlayerSettings | None = None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._tally = tally
        self._judge = judge
        self._settings = settings or PlayerSettings()
        self.attempts: list[Attempt] = []
        self.answers: list[Answer] = []
        self.failures: Counter[str] = Counter()
        self.rungs: Counter[str] = Counter()
        self.feature_ages_ms: list[int] = []
        self.stale = 0
        """Answers that say that the user's last acknowledged event was not folded yet."""
        self.searches = 0

    async def bulk(self, steps: Iterable[Step], progress: Progress) -> None:
        """Publish as fast as it goes. Searches are published as events; nothing is ranked."""
        slots = asyncio.Semaphore(self._settings.bulk_calls_in_flight_max)

        async def send(events: list[Event]) -> None:
            try:
                await self._publish(events)
                progress.advance(len(events))
            finally:
                slots.release()

        async with asyncio.TaskGroup() as group:
            for events in chunks(self._learning(steps), self._settings.bulk_events_per_call):
                await slots.acquire()
                group.create_task(send(events))

    async def paced(self, steps: Iterable[Step], rate: float, progress: Progress) -> None:
        """Publish at `rate` events a second, whatever the region does; latency is from the intended time."""
        start = self._clock.elapsed_seconds() + self._settings.start_delay_seconds

        async def send(events: list[Event], intended: list[float]) -> None:
            accepted = await self._publish(events)
            finished = self._clock.elapsed_seconds()
            self.attempts.extend(Attempt(at, finished, served) for at, served in zip(intended, accepted, strict=True))
            progress.advance(len(events))

        async with asyncio.TaskGroup() as group:
            due: list[Event] = []
            intended: list[float] = []
            for number, step in enumerate(self._learning(steps)):
                at = start + number / rate
                if due and at > self._clock.elapsed_seconds():
                    # Everything that is due by now goes in one call; each event keeps its own intended time.
                    group.create_task(send(due, intended))
                    due, intended = [], []
                    await self._wait_until(at)
                due.append(step.event)
                intended.append(at)
            if due:
                group.create_task(send(due, intended))

    async def ranked(
        self, steps: Iterable[Step], rate: float, progress: Progress, on_search: Hook | None = None
    ) -> None:
        """Ask for a ranking for each search, `rate` a second, and publish what came of it in between."""
        start = self._clock.elapsed_seconds() + self._settings.start_delay_seconds
        first = self.searches
        async with asyncio.TaskGroup() as group:
            for step in steps:
                number = self.searches - first
                if isinstance(step, SearchStep):
                    intended = start + number / rate
                    await self._wait_until(intended)
                    if on_search is not None:
                        on_search(number)
                    expected = self._judge.expect(step.search)
                    self.searches += 1
                    group.create_task(self._rank(step, expected, self.searches, intended, None, progress))
                else:
                    await self._wait_until(start + (number - 0.5) / rate)
                    self._learn(step)
                    group.create_task(self._publish([step.event]))

    async def waves(self, steps: Iterable[Step], progress: Progress) -> None:
        """Rank every search as fast as it goes, a wave at a time."""
        wave: list[SearchStep] = []
        happened: list[Event] = []
        told: tuple[Coordinates, ...] = ()
        pending: list[tuple[SearchStep, Expected, int]] = []
        for step in steps:
            if isinstance(step, EventStep):
                self._learn(step)
                happened.append(step.event)
                continue
            if len(wave) >= self._settings.wave_searches:
                told = await self._wave(pending, happened, told, progress)
                wave, happened, pending = [], [], []
            wave.append(step)
            self.searches += 1
            pending.append((step, self._judge.expect(step.search), self.searches))
        await self._wave(pending, happened, told, progress)

    async def barrier(self, at_ms: int, timeout_seconds: float = 60.0) -> bool:
        """Wait until the region has taken in everything acknowledged so far, asking the way any app can ask.

        Returns False when it has not by then. `at_ms` is the time that the asking is for.
        """
        tokens = self._tally.newest()
        deadline = self._clock.elapsed_seconds() + timeout_seconds
        while tokens and self._clock.elapsed_seconds() < deadline:
            try:
                answer = await self._client.recommendations(
                    BARRIER_USER, size=1, at_ms=at_ms, after=tokens, timeout_ms=self._settings.barrier_try_ms
                )
            except TryAgain:
                await self._clock.sleep(0.1)
                continue
            if answer.after_reached is not False:
                return True
        return not tokens

    async def flush(self, timeout_seconds: float = 60.0) -> None:
        """Settle what is still unknown."""
        if self._client.unacknowledged:
            self._tally.note_flushed(await self._client.flush(timeout_seconds=timeout_seconds))

    async def _wave(
        self,
        pending: Sequence[tuple[SearchStep, Expected, int]],
        happened: list[Event],
        told: tuple[Coordinates, ...],
        progress: Progress,
    ) -> tuple[Coordinates, ...]:
        """Rank a wave, publish what happened during it; returns what the next wave must wait for."""
        now = self._clock.elapsed_seconds()
        async with asyncio.TaskGroup() as group:
            for step, expected, place in pending:
                group.create_task(self._rank(step, expected, place, now, told, progress))
        if not happened:
            return told
        outcomes = await self._said(happened)
        return newest_of(outcome.coordinates for outcome in outcomes if isinstance(outcome, Accepted))

    async def _said(self, events: list[Event]) -> list[Outcome]:
        timeout_seconds = self._settings.publish_timeout_seconds
        outcomes = await self._client.publish(events, timeout_seconds=timeout_seconds)
        self._tally.note(events, outcomes)
        reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, Unknown)]
        if reasons and len(reasons) == len(outcomes):
            raise NobodyAnswers(
                f"nothing was acknowledged for {timeout_seconds:g} s ({reasons[0]}); is the region up? Look with "
                "`meridian status`, then run the same replay again: what was published counts once"
            )
        return outcomes

    def _learning(self, steps: Iterable[Step]) -> Iterable[Step]:
        for step in steps:
            self._learn(step)
            yield step

    def _learn(self, step: Step) -> None:
        if isinstance(step, EventStep) and step.outcome is not None and step.outcome.kind == "click":
            self._judge.learn(step.outcome.search.query, step.outcome.search.clicked)

    async def _publish(self, events: list[Event]) -> list[bool]:
        outcomes = await self._said(events)
        return [isinstance(outcome, Accepted) for outcome in outcomes]

    async def _rank(
        self,
        step: SearchStep,
        expected: Expected,
        place: int,
        intended: float,
        after: tuple[Coordinates, ...] | None,
        progress: Progress,
    ) -> None:
        search = step.search
        try:
            ranking = await self._client.search(
                search.user,
                search.query,
                size=self._settings.size,
                session=search.session or None,
                id=step.event.id,
                time_ms=search.time_ms,
                at_ms=search.time_ms,
                after=after,
                timeout_ms=self._settings.ranking_timeout_ms,
            )
        except MeridianError as error:
            self.attempts.append(Attempt(intended, self._clock.elapsed_seconds(), False))
            self.failures[f"{type(error).__name__}: {error}"[:200]] += 1
            # It happened all the same. The request may have written it: the same identity counts once.
            await self._publish([step.event])
        else:
            finished = self._clock.elapsed_seconds()
            self.attempts.append(Attempt(intended, finished, True))
            self.answers.append(Answer(finished, ranking.region, ranking.epoch))
            self._served(step, expected, place, ranking)
        progress.advance(1)

    def _served(self, step: SearchStep, expected: Expected, place: int, ranking: Ranking) -> None:
        self.rungs[ranking.rung] += 1
        self.stale += ranking.after_reached is False
        if ranking.feature_age_ms is not None:
            self.feature_ages_ms.append(ranking.feature_age_ms)
        if ranking.event is not None:
            self._tally.acknowledge(step.event, ranking.event)
        self._judge.take(place, expected, ranking.items, ranking.rung)

    async def _wait_until(self, at: float) -> None:
        # A late schedule is not waited for, but other tasks get their turn: the loop stays open.
        await self._clock.sleep(max(at - self._clock.elapsed_seconds(), 0))
