"""Consumers that go silent: the most reported trouble of Faust and aiokafka, and nothing that they notice themselves.

The log's ends are looked at by another client. When they lie ahead of the frontier and the frontier does not move, or
when no fetch is answered by a broker that answers otherwise, for longer than anything harmless takes, the process ends
and is started again: it loses nothing by that.
"""

from __future__ import annotations

from collections.abc import Mapping

from streams.errors import StreamError
from streams.truncation import Place


class DeliveryStalledError(StreamError):
    """Records are there and do not come; a restart mends it."""


LOOKS_MIN = 5
"""A process that was paused sees its clock jump; so a stall must also have been seen this often in a row."""


class _Spell:
    """How long, and how often in a row, something was seen."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._looks = 0

    def seconds(self, now_seconds: float, *, seen: bool) -> float:
        """Note one look; the length of the spell, 0 while it was not seen often enough."""
        if not seen:
            self._since, self._looks = None, 0
            return 0.0
        self._since = now_seconds if self._since is None else self._since
        self._looks += 1
        return now_seconds - self._since if self._looks > LOOKS_MIN else 0.0


class StallDetector:
    """Fed after each look at the log's ends. Time is an argument."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._next_offsets: dict[Place, int] = {}
        self._answered_at: float | None = None
        self._waiting = _Spell()
        self._unanswered = _Spell()

    def stalled(
        self,
        now_seconds: float,
        ends: Mapping[Place, int],
        next_offsets: Mapping[Place, int],
        answered_at: float | None,
    ) -> str | None:
        """Why a restart is wanted; None while all is well or too short to tell."""
        behind = any(end > next_offsets.get(place, 0) for place, end in ends.items())
        waiting = self._waiting.seconds(now_seconds, seen=behind and dict(next_offsets) == self._next_offsets)
        unanswered = self._unanswered.seconds(now_seconds, seen=answered_at == self._answered_at)
        self._next_offsets, self._answered_at = dict(next_offsets), answered_at
        if waiting >= self._limit_seconds:
            return f"records wait in the log and none was taken for {waiting:.0f} s"
        if unanswered >= self._limit_seconds:
            return f"the broker answers questions, but no fetch was answered for {unanswered:.0f} s"
        return None
