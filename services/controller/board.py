"""The lease as this region's processes see it: one answer, and waiting for the next one that differs.

What is handed out is the time that is left *now*; an asker counts it from before it asked, so nothing on the way can
make it longer. The longest promise is remembered: the lease is not let go before it ends, or before the processor
said that its gate is shut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.common.clock import Clock
from services.common.waiting import news_within
from services.controller.blockers import right_to_act
from services.controller.client import NO_EPOCH, Leader, LeaseAnswer
from services.controller.model import Now, View

WAIT_SECONDS_MAX = 30.0


class LeaseBoard:
    """Answers `GET /v1/lease`."""

    def __init__(self, view: Callable[[], View], clock: Clock, largest_epoch: Callable[[], tuple[int, int]]) -> None:
        self._view = view
        self._clock = clock
        self._largest_epoch = largest_epoch
        # Who asked the controller that was here before must not take a version of this one for one of that.
        self._version = clock.unix_ms()
        self._shown: tuple[object, ...] = ()
        self._news = asyncio.Event()
        self.promised_until = float("-inf")
        """The latest deadline that was handed out."""

    def refresh(self) -> None:
        """Look whether the answer changed, and wake those who wait for that."""
        self._answer()

    def answer(self) -> LeaseAnswer:
        """What holds now; counts as a promise."""
        return self._promised(self._answer())

    async def wait(self, since: int, seconds: float) -> LeaseAnswer:
        """Return the answer once it is not that of version `since` any more, or after `seconds`."""
        until = self._clock.monotonic() + min(seconds, WAIT_SECONDS_MAX)
        found = self._answer()
        while found.version == since and (left := until - self._clock.monotonic()) > 0:
            await news_within(self._news, left)
            found = self._answer()
        return self._promised(found)

    def _promised(self, found: LeaseAnswer) -> LeaseAnswer:
        if found.active:
            # Counted from now and not from before the question, which would be earlier: on the safe side.
            self.promised_until = max(self.promised_until, self._clock.boottime() + found.remaining_ms / 1000)
        return found

    def _answer(self) -> LeaseAnswer:
        view = self._view()
        now = Now(self._clock.boottime(), self._clock.unix_ms())
        reason = right_to_act(view, now)
        term = view.term
        active = reason is None and term is not None
        epoch = term.epoch if active and term is not None else NO_EPOCH
        remaining_ms = int((term.deadline - now.boottime) * 1000) if active and term is not None else 0
        leader = leader_of(view)
        content = (active, epoch, reason or "", self._largest_epoch(), leader)
        if content != self._shown:
            self._shown = content
            self._version += 1
            news, self._news = self._news, asyncio.Event()
            news.set()
        age_seconds = now.boottime - view.store.confirmed_at
        return LeaseAnswer(
            region=view.region,
            active=active,
            epoch=epoch,
            remaining_ms=max(0, remaining_ms),
            reason=reason or "",
            largest_epoch=self._largest_epoch(),
            leader=leader,
            view_age_ms=min(int(age_seconds * 1000), 1 << 40) if age_seconds != float("inf") else 1 << 40,
            version=self._version,
        )


def leader_of(view: View) -> Leader | None:
    """Who holds the lease, by the store."""
    seen = view.store.leader
    if seen is None:
        return None
    record = seen.record
    return Leader(
        region=record.region,
        epoch=seen.epoch,
        gateway_url=record.gateway_url,
        serving=serving_epoch(view) == seen.epoch,
    )


def serving_epoch(view: View) -> tuple[int, int] | None:
    """Under which epoch the holder's gate is open, as it says itself; of this region, as its processor says."""
    seen = view.store.leader
    if seen is None:
        return None
    if seen.record.region == view.region:
        gate = view.data.gate
        return gate.epoch if gate is not None and gate.open else None
    status = view.store.candidates.get(seen.record.region)
    return status.serving_epoch if status is not None else None
