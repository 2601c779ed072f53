"""Asking a region's controller: may this region act, under which epoch, until when?

Whoever passes a lease on measures from before it asks: the controller answers with the time that is left, and the
asker counts it from before it *sent* the question, on the clock that goes on through suspends. So a slow answer, a
paused process or a paused machine can only shorten a term, never stretch it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
import msgspec

from services.common.clock import Clock
from services.common.logging import get_logger

log = get_logger(__name__)

Epoch = tuple[int, int]
"""(generation, create revision of the leader key); compared as a pair."""
NO_EPOCH: Final[Epoch] = (-1, -1)
POLL_OPEN_SECONDS: Final = 0.25
WAIT_MS: Final = 500
"""How long news are waited for: a view may become twice as old as that, and is used while younger than 2 s."""
ANSWER_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 0.1


class Leader(msgspec.Struct, frozen=True):
    """Who holds the lease, as the asked controller last saw it."""

    region: str
    epoch: Epoch
    gateway_url: str
    """Where its rankings are to be had."""
    serving: bool
    """Whether it said that its gate is open (markers written)."""


class LeaseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/lease` on the controller."""

    region: str
    """Of the controller that was asked."""
    active: bool
    """Whether that region may act."""
    epoch: Epoch
    """Its own epoch when active; NO_EPOCH otherwise."""
    remaining_ms: int
    """For how long it may act, counted from before this was asked; 0 when not active."""
    reason: str
    """Why it may not act; empty when active."""
    largest_epoch: Epoch
    """The largest epoch that the controller knows of, anywhere."""
    leader: Leader | None
    view_age_ms: int
    """How long ago the store last confirmed this view of the leader."""
    version: int
    """Changes whenever anything above changes but the times; hand it back as `since` to wait for the next change."""


@dataclass(frozen=True, slots=True)
class Term:
    """What a process believes about its region's right to act."""

    active: bool
    epoch: Epoch
    deadline: float
    """On `Clock.boottime`: act only before it."""
    reason: str
    """Why not active."""


@dataclass(frozen=True, slots=True)
class LeasePace:
    """How often a controller is asked."""

    poll_open_seconds: float = POLL_OPEN_SECONDS
    """While the region is active."""
    wait_ms: int = WAIT_MS


USUAL_PACE: Final = LeasePace()


class LeaseFollower:
    """Keeps a region's term up to date by asking its controller. One for each process; `run` is its task."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        clock: Clock,
        on_change: Callable[[LeaseAnswer], None] = lambda _: None,
        pace: LeasePace = USUAL_PACE,
    ) -> None:
        self._pace = pace
        self._url = f"{url}/v1/lease"
        self._session = session
        self._clock = clock
        self._on_change = on_change
        self._term = Term(active=False, epoch=NO_EPOCH, deadline=0.0, reason="the controller was not asked yet")
        self._answer: LeaseAnswer | None = None
        self._answered_at: float | None = None

    def term(self) -> Term:
        """What holds right now; a term whose deadline has passed is no longer active."""
        found = self._term
        if found.active and self._clock.boottime() >= found.deadline:
            return Term(active=False, epoch=found.epoch, deadline=found.deadline, reason="the region's lease ran out")
        return found

    @property
    def leader(self) -> Leader | None:
        """Who is active, as last heard."""
        return self._answer.leader if self._answer else None

    @property
    def largest_epoch(self) -> Epoch:
        """The largest epoch heard of."""
        return self._answer.largest_epoch if self._answer else NO_EPOCH

    def view_age_seconds(self) -> float | None:
        """How old the view of the leader is, the store's confirmation included; None when there is none."""
        if self._answer is None or self._answered_at is None:
            return None
        return self._clock.boottime() - self._answered_at + self._answer.view_age_ms / 1000

    async def run(self) -> None:
        """Ask for ever: often while active, waiting for news otherwise."""
        while True:
            active = self._term.active
            asked_at = self._clock.boottime()
            try:
                answer = await self.ask(wait=not active)
            except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, OSError) as problem:
                if not self.term().active:
                    self._term = Term(
                        active=False,
                        epoch=self._term.epoch,
                        deadline=0.0,
                        reason=f"the controller is silent: {problem}",
                    )
                await self._clock.sleep(RETRY_SECONDS)
                continue
            self._take(answer, asked_at)
            if active or answer.active:
                # An answer that was waited for says nothing about time: ask again at once when it became active.
                await self._clock.sleep(self._pace.poll_open_seconds if active else 0)

    async def ask(self, *, wait: bool) -> LeaseAnswer:
        """One question. Raises aiohttp.ClientError, TimeoutError, msgspec.DecodeError."""
        wait_ms = self._pace.wait_ms
        params = {"since": str(self._answer.version), "wait_ms": str(wait_ms)} if wait and self._answer else {}
        limit = ANSWER_SECONDS + (wait_ms / 1000 if params else 0)
        async with asyncio.timeout(limit), self._session.get(self._url, params=params) as response:
            response.raise_for_status()
            return msgspec.json.decode(await response.read(), type=LeaseAnswer)

    def _take(self, answer: LeaseAnswer, asked_at: float) -> None:
        changed = self._answer is None or self._answer.version != answer.version
        self._answer, self._answered_at = answer, asked_at
        self._term = Term(
            active=answer.active,
            epoch=answer.epoch,
            deadline=asked_at + answer.remaining_ms / 1000,
            reason=answer.reason,
        )
        if changed:
            self._on_change(answer)
