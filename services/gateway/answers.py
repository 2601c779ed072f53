"""Requests that wait for a ranking, and the last checks before one is shown.

A ranking is an effect. It may be shown only while it is valid, and only if nobody has answered under a larger epoch:
both are asked here, on the last hop, right before the answer is written.
"""

import asyncio
import itertools

from services.common.problem import Problem
from services.gateway.metrics import GatewayMetrics
from services.gateway.processor_watch import ProcessorWatch
from streams.asks import Epoch, Ranking


class AnswerDesk:
    """Asks that are under way, by id."""

    def __init__(self, reply_to: str, asks_max: int, watch: ProcessorWatch, metrics: GatewayMetrics) -> None:
        self.reply_to = reply_to
        self._asks_max = asks_max
        self._watch = watch
        self._metrics = metrics
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Ranking]] = {}
        self._largest_epoch: Epoch = (-1, -1)

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
        elif ranking.epoch < self._largest_epoch:
            self._metrics.rankings_dropped.labels("stale_epoch").inc()
        else:
            future.set_result(ranking)

    def on_unreadable(self) -> None:
        """A record of the rankings log was not what it should be."""
        self._metrics.rankings_dropped.labels("unreadable").inc()

    def check(self, ranking: Ranking, now_ms: int) -> None:
        """The last check. Raises Problem when the ranking must not be shown."""
        if ranking.epoch < self._largest_epoch:
            self._metrics.rankings_dropped.labels("stale_epoch").inc()
            cause = "was made by a region that no longer leads"
        elif now_ms >= ranking.valid_until_ms:
            self._metrics.rankings_dropped.labels("no_longer_valid").inc()
            cause = "came too late to be shown"
        else:
            return
        raise Problem(503, "ranking-stale", f"the ranking {cause}", remedy="Ask again.", retry_after_seconds=1)
