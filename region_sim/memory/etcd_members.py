"""The members of the modelled etcd, the watches that they serve, and what can be wrong on the way to a client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from region_sim.memory.kernel import Process
from services.common.clock import Clock
from services.coordination.lease import Change


@dataclass(slots=True)
class ClientFaults:
    """What meets the clients of one site."""

    lost_reply_share: float = 0.0
    """Of the answers to writes, grants and renewals; what was asked has happened."""
    silent_watches: bool = False
    """Watches say nothing more, and new ones do not begin."""


class Stream:
    """One watch, between the member that serves it and the client that reads it."""

    def __init__(self, client: str, prefix: str, after_revision: int, process: Process | None) -> None:
        self.client = client
        self.prefix = prefix
        self.after_revision = after_revision
        self.process = process
        """The client's; when that is dead, so is the connection."""
        self.position = 0
        """Of all changes ever, how many it was told."""
        self.told_at = float("-inf")
        self.arrives_at = 0.0
        """When what was said last arrives: nothing overtakes it."""
        self.is_closed = False
        """The client has gone."""
        self.has_ended = False
        """The member has ended it."""
        self._inbox: deque[Sequence[Change] | Exception] = deque()
        self._waiter: asyncio.Future[bool] | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing needs to be said any more."""
        return self.is_closed or self.has_ended or (self.process is not None and not self.process.is_alive)

    def deliver(self, message: Sequence[Change] | Exception) -> None:
        """A message has arrived where the client is."""
        self._inbox.append(message)
        _settle(self._waiter, arrived=True)

    async def next(self, silence_seconds: float) -> Sequence[Change] | Exception | None:
        """The next message, an error that ends the watch, or None after so long a silence."""
        if not self._inbox:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(silence_seconds, _settle, self._waiter)
            try:
                if not await self._waiter:
                    return None
            finally:
                timer.cancel()
                self._waiter = None
        return self._inbox.popleft()


def _settle(waiter: asyncio.Future[bool] | None, *, arrived: bool = False) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(arrived)


@dataclass(slots=True)
class Member:
    """One member. Its data outlives its process, unless it is wiped."""

    site: str
    process: Process
    clock: Clock | None = None
    """By which it counts leases while it leads; None: the world's time."""
    holds: int = 0
    """How many commits have reached it."""
    applied: int = 0
    """How many changes it tells its watches of."""
    is_empty: bool = False
    """Wiped, and not taken in again: no vote."""
    heard_at: float = float("-inf")
    """When it was last in touch with a leader."""
    ends: dict[int, float] = field(default_factory=dict)
    """When leases end, by its clock, as far as it knows; of the leader these count."""
    may_revoke_stale: bool = False
    """It was deposed while it was stopped, and does not know it yet."""
    streams: list[Stream] = field(default_factory=list)

    @property
    def is_up(self) -> bool:
        """Whether it runs."""
        return self.process.is_alive and not self.process.is_paused
