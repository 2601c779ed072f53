"""Requests that wait for a ranking, and the last checks before one is shown.

A ranking is an effect. It may be shown only while it is valid, in the term under which it was made, before that term's
deadline, and only if nobody is known to have answered under a larger epoch: all of it is asked here, on the last hop,
right before the answer is written.
"""

import asyncio
import itertools

from services.common.clock import Clock
from services.common.problem import Problem
from services.controller.client import NO_EPOCH
from services.gateway.metrics import GatewayMetrics
from services.gateway.processor_watch import ProcessorWatch
from services.gateway.routing import RETRY_SECONDS, Rights
from streams.asks import Epoch, Ranking


class AnswerDesk:
    """Asks that are under way, by id."""

    def __init__(
        self,
        reply_to: str,
        asks_max: int,
        watch: ProcessorWatch,
        metrics: GatewayMetrics,
        clock: Clock,
        rights: Rights,
    ) -> None:
        self.reply_to = reply_to
        self._asks_max = asks_max
        self._watch = watch
        self._metrics = metrics
        self._clock = clock
        self._rights = rights
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Ranking]] = {}
        self._largest_epoch: Epoch = NO_EPOCH

    @property
    def in_flight(self) -> int:
        """How many asks are under way."""
        return len(self._waiting)

    def blocker(self) -> Problem | None:
        """Why no more can be asked now, or None."""
        if len(self._waiting) < self._asks_max:
            return None
        return Problem(
            429,
            "asks-full",
            f"{len(self._waiting)} requests wait for a ranking already",
            remedy="Ask again after Retry-After.",
            retry_after_seconds=1,
        )

    def new_id(self) -> str:
        """An id that no other ask has."""
        return f"{self.reply_to}.{next(self._numbers)}"

    def expect(self, ask_id: str) -> asyncio.Future[Ranking]:
        """The future of an answer. `forget` it in the end."""
        future: asyncio.Future[Ranking] = asyncio.get_running_loop().create_future()
        self._waiting[ask_id] = future
        return future

    def forget(self, ask_id: str) -> None:
        """Nobody waits any more."""
        self._waiting.pop(ask_id, None)

    def abandon(self, reason: str) -> None:
        """No answer will come, or none that may be shown: whoever waits is told at once instead of at its deadline."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(_stale(reason))
                # Whoever waited may have gone at this very moment: then nobody retrieves it, which is no fault.
                future.exception()

    @property
    def largest_epoch(self) -> Epoch:
        """The largest epoch known of, from the rankings log and from the controller."""
        return max(self._largest_epoch, self._rights.largest_epoch)

    def on_epoch(self, epoch: Epoch) -> None:
        """Somebody, not necessarily in answer to us, wrote under this epoch."""
        self._largest_epoch = max(self._largest_epoch, epoch)

    def on_ranking(self, ranking: Ranking, epoch: Epoch) -> None:
        """An answer addressed to this process came."""
        self.on_epoch(max(epoch, ranking.epoch))
        self._watch.answered()
        future = self._waiting.get(ranking.ask_id)
        if future is None or future.done():
            self._metrics.rankings_dropped.labels("late").inc()
        elif ranking.epoch < self.largest_epoch:
            self._drop("stale_epoch")
        else:
            future.set_result(ranking)

    def on_unreadable(self) -> None:
        """A record of the rankings log was not what it should be."""
        self._metrics.rankings_dropped.labels("unreadable").inc()

    def check(self, ranking: Ranking) -> None:
        """The last check. Raises Problem when the ranking must not be shown."""
        refused = self.refusal(ranking)
        if refused is not None:
            self._drop(refused[0])
            raise _stale(f"the ranking {refused[1]}")

    def refusal(self, ranking: Ranking) -> tuple[str, str] | None:
        """Why the ranking must not be shown, as a label and in words (`it ...`); None when it may."""
        term = self._rights.term()
        if not term.active or self._clock.boottime() >= term.deadline:
            return "not_active", f"may not be shown by this region: {term.reason or 'its lease ran out'}"
        if ranking.epoch < self.largest_epoch or term.epoch not in {NO_EPOCH, ranking.epoch}:
            return "stale_epoch", "was made by a region that no longer leads, or in an earlier term"
        if self._clock.unix_ms() >= ranking.valid_until_ms:
            return "no_longer_valid", "came too late to be shown"
        return None

    def _drop(self, reason: str) -> None:
        self._metrics.rankings_dropped.labels(reason).inc()
        self._metrics.fenced.labels("gateway").inc()


def _stale(detail: str) -> Problem:
    return Problem(503, "ranking-stale", detail, remedy="Ask again.", retry_after_seconds=RETRY_SECONDS)
