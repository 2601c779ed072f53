"""Canaries on their way: heartbeat searches that prove the whole path and show nothing to anybody.

A canary is an ask without an event, in a frame of its own: nothing of it enters the state, and the one record that it
leaves holds no rows. It stands outside every bound that users' asks are counted by, so it takes nobody's place, and its
silence is not held against the processor: a passive region answers nobody by design. Each one goes through another
partition than the one before, so after a few seconds all of them were seen to work.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp

from services.common.problem import Problem
from services.gateway.client import CANARIES_FULL, CanaryStep
from services.processor.client import CanaryTrail, canary_trail
from streams.asks import Ranking
from streams.logs import partition_of

CANARIES_MAX: Final = 4
"""Under way at once, from their request to its answer."""
CANARIES_A_SECOND_MAX: Final = 10
"""Each one is a record of a log that is kept for ever, whoever asks for it."""
TrailOf = Callable[[str, float], Awaitable[CanaryTrail]]
"""(id, seconds) -> how far it came in the processor. Raises aiohttp.ClientError, TimeoutError, msgspec.DecodeError."""

_HELD_UP: Final[dict[CanaryStep, str]] = {
    "": "the log did not acknowledge it in time",
    "log": "it is in the log, and the processor did not fold it in time",
    "fold": "the processor folded it, and read no features for it in time",
    "features": "its features were read, and nobody scored it in time",
    "score": "it was scored, and not published in time",
    "published": "its ranking was published, and did not come back from the rankings log in time",
}
_ENDED: Final = {
    "expired": "the processor gave it up, because it came too late to be answered",
    "overflow": "the processor is full and gave it up",
    "unpublished": "the processor could not hand its ranking to the rankings log",
    "failed": "the processor failed on it; its log says how",
    "cancelled": "the processor was stopping",
}


class Canaries:
    """Those under way in this gateway, by id."""

    def __init__(self, reply_to: str) -> None:
        self._prefix = f"{reply_to}.canary."
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Ranking]] = {}
        self._under_way = 0
        self._began: deque[float] = deque(maxlen=CANARIES_A_SECOND_MAX)
        self._keys: tuple[int, ...] = ()
        self.trail_of: TrailOf = _nobody_asked
        """Asks the region's processor; set once the gateway knows where that is."""

    @contextmanager
    def under_way(self, now: float) -> Iterator[None]:
        """Count one for the length of the block; `now`: monotonic seconds. Raises Problem (429)."""
        if self._under_way >= CANARIES_MAX:
            raise _full(f"{CANARIES_MAX} canaries are under way already")
        if len(self._began) == CANARIES_A_SECOND_MAX and now - self._began[0] < 1.0:
            raise _full(f"{CANARIES_A_SECOND_MAX} canaries began within a second")
        self._began.append(now)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def next(self, partitions: int) -> tuple[str, int]:
        """Id and partitioning key of the next one."""
        if len(self._keys) != partitions:
            self._keys = keys_of(partitions)
        number = next(self._numbers)
        return f"{self._prefix}{number}", self._keys[number % partitions]

    def expect(self, canary_id: str) -> asyncio.Future[Ranking]:
        """The future of its answer. `forget` it in the end."""
        future: asyncio.Future[Ranking] = asyncio.get_running_loop().create_future()
        self._waiting[canary_id] = future
        return future

    def forget(self, canary_id: str) -> None:
        """Nobody waits any more."""
        self._waiting.pop(canary_id, None)

    def take(self, ranking: Ranking) -> bool:
        """Whether an answer from the rankings log is a canary's; then it is handed to whoever waits for it."""
        if not ranking.ask_id.startswith(self._prefix):
            return False
        future = self._waiting.get(ranking.ask_id)
        if future is not None and not future.done():
            future.set_result(ranking)
        return True


def keys_of(partitions: int) -> tuple[int, ...]:
    """For each partition a partitioning key that leads there."""
    found: dict[int, int] = {}
    for key in itertools.count(1):
        found.setdefault(partition_of(key, partitions), key)
        if len(found) == partitions:
            break
    return tuple(found[partition] for partition in range(partitions))


def asks_processor(session: Callable[[], aiohttp.ClientSession], url: str) -> TrailOf:
    """Ask the processor at `url`, over a connection of its own each time: that its door opens is part of the truth."""

    async def trail_of(canary_id: str, seconds: float) -> CanaryTrail:
        async with session() as http:
            return await canary_trail(http, url, canary_id, seconds)

    return trail_of


def step_of(trail: CanaryTrail | None, *, acknowledged: bool) -> CanaryStep:
    """The last step that it is known to have made; `trail` is None when the processor does not say."""
    if trail is None or not trail.stages_ms:
        return "log" if acknowledged else ""
    if trail.outcome in {"answered", "gate"}:
        return "published" if trail.outcome == "answered" else "gate"
    return next((step for step in ("score", "features") if step in trail.stages_ms), "fold")


def held_up(step: CanaryStep, trail: CanaryTrail | None, silence: str) -> str:
    """Why it came no further than `step`, in one sentence; `silence`: why the processor does not say, if so."""
    ended = _ENDED.get(trail.outcome, "") if trail is not None else ""
    return ended or _HELD_UP.get(step, "it was lost") + (f" ({silence})" if silence else "")


def _full(detail: str) -> Problem:
    return Problem(429, CANARIES_FULL, detail, remedy="Ask again after Retry-After.", retry_after_seconds=1)


async def _nobody_asked(canary_id: str, seconds: float) -> CanaryTrail:  # noqa: ARG001 - as TrailOf
    raise TimeoutError("this gateway does not know its processor yet")
