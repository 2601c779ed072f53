"""How far each canary came in this processor: what a heartbeat search leaves behind instead of an answer to anybody.

A canary is an ask like any other, marked as one. Here it goes the whole way in a passive region too: features are read
and the inference worker is asked although the gate is shut, and only the gate, at the very place where it would stop an
effect, ends it. Nothing of it is published then, so the gateway that sent it asks here how far it came. Only the last
ones are kept: a canary that nobody has asked about for a while is of no use to anybody.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from services.common.clock import Clock
from services.common.waiting import news_within
from services.processor.client import CanaryTrail
from streams.asks import Ask

CANARY: Final = "canary"
"""The kind of ask as metrics have it."""
TRAILS_MAX: Final = 64


def kind_of(ask: Ask) -> str:
    """The kind of an ask for metrics: a canary is nobody's search."""
    return CANARY if ask.canary else ask.kind


@dataclass(slots=True)
class _Trail:
    stages_ms: dict[str, float] = field(default_factory=dict)
    outcome: str = ""
    rung: str = ""
    reason: str = ""
    detail: str = ""


class CanaryTrails:
    """The last canaries. One for each processor, used from its event loop only; asks that are none are not noted."""

    def __init__(self, clock: Clock, trails_max: int = TRAILS_MAX) -> None:
        self._clock = clock
        self._trails_max = trails_max
        self._trails: OrderedDict[str, _Trail] = OrderedDict()
        self._news = asyncio.Event()

    def begin(self, ask: Ask, appended_ms: int) -> None:
        """The ask's frame was folded; `appended_ms` is when the broker appended it."""
        if not ask.canary:
            return
        log_ms = max(0, self._clock.unix_ms() - appended_ms)
        self._trails[ask.ask_id] = _Trail(stages_ms={"log": float(log_ms)})
        while len(self._trails) > self._trails_max:
            self._trails.popitem(last=False)

    def stage(self, ask: Ask, name: str, seconds: float) -> None:
        """A stage is behind it."""
        if (trail := self._trail(ask)) is not None:
            trail.stages_ms[name] = round(seconds * 1000, 2)

    def scored(self, ask: Ask, rung: str, reason: str) -> None:
        """Who scored it, and why it was not the model."""
        if (trail := self._trail(ask)) is not None:
            trail.rung, trail.reason = rung, reason

    def end(self, ask: Ask, outcome: str, detail: str = "") -> None:
        """It ended like this; `detail` are the gate's words, if that stopped it."""
        if (trail := self._trail(ask)) is None:
            return
        trail.outcome, trail.detail = outcome, detail
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def ended(self, ask_id: str, wait_seconds: float) -> CanaryTrail:
        """Return how far it came once it has ended, or after the wait; empty when it was not seen (any more)."""
        until = self._clock.monotonic() + wait_seconds
        while True:
            trail = self._trails.get(ask_id)
            left = until - self._clock.monotonic()
            if left <= 0 or (trail is not None and trail.outcome):
                return _shown(ask_id, trail)
            await news_within(self._news, left)

    def _trail(self, ask: Ask) -> _Trail | None:
        return self._trails.get(ask.ask_id) if ask.canary else None


def _shown(ask_id: str, trail: _Trail | None) -> CanaryTrail:
    if trail is None:
        return CanaryTrail(canary_id=ask_id)
    return CanaryTrail(
        canary_id=ask_id,
        stages_ms=dict(trail.stages_ms),
        outcome=trail.outcome,
        rung=trail.rung,
        reason=trail.reason,
        detail=trail.detail,
    )
