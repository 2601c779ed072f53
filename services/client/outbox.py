"""Events that nobody has acknowledged yet, kept in memory within a bound.

An event enters before it is first sent and leaves when the gateway has said what became of it: accepted or
refused. "Unknown" leaves it here, so a flush can send it again with the same id, and the log will count it
once. The bound is the back-pressure: an app that produces more than can be delivered hears about it instead
of growing without end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from .errors import IdReused, OutboxFull
from .events import Event


class Outbox:
    """Unacknowledged events in the order they came, each either in flight or idle."""

    def __init__(self, events_max: int) -> None:
        if events_max < 1:
            raise ValueError("outbox_events_max must be at least 1")
        self._events_max = events_max
        self._waiting: dict[tuple[str, str], Event] = {}
        self._ack: dict[tuple[str, str], str] = {}
        self._in_flight: dict[tuple[str, str], int] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, events: Sequence[Event], ack: str = "") -> None:
        """Keep all of them or, when they do not fit or an id is taken by another event, none.

        `ack`: when they count as accepted; the newest wish for an event holds, for `flush` too. Empty: as the gateway
        is set.
        """
        fresh: dict[tuple[str, str], Event] = {}
        for event in events:
            known = self._waiting.get(event.key) or fresh.get(event.key)
            if known is None:
                fresh[event.key] = event
            elif known != event:
                raise IdReused(
                    f"event id {event.id!r} of source {event.source!r} is in use for a different event: "
                    "give each event an id of its own, or let the client make one"
                )
        if len(self._waiting) + len(fresh) > self._events_max:
            raise OutboxFull(len(self._waiting), len(fresh), self._events_max)
        self._waiting.update(fresh)
        self._ack.update({event.key: ack for event in events})

    def ack_of(self, event: Event) -> str:
        """When this event counts as accepted."""
        return self._ack.get(event.key, "")

    def idle(self) -> list[Event]:
        """Those that nothing is sending just now, oldest first."""
        return [event for key, event in self._waiting.items() if key not in self._in_flight]

    def hold(self, events: Iterable[Event]) -> None:
        """Mark as being sent."""
        for event in events:
            self._in_flight[event.key] = self._in_flight.get(event.key, 0) + 1

    def settle(self, held: Iterable[Event], done: Iterable[Event]) -> None:
        """Sending ended: `done` are settled for good, the others of `held` go back to idle."""
        for event in held:
            count = self._in_flight.get(event.key, 0) - 1
            if count > 0:
                self._in_flight[event.key] = count
            else:
                self._in_flight.pop(event.key, None)
        for event in done:
            self._waiting.pop(event.key, None)
            self._ack.pop(event.key, None)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait_for_change(self, timeout_seconds: float) -> None:
        """Return after the next time that something was settled, or when the time is over."""
        changed = self._changed
        try:
            async with asyncio.timeout(timeout_seconds):
                await changed.wait()
        except TimeoutError:
            return
