"""What each user's newest acknowledged events are, so that the next read can wait for them.

A user's events all go to one partition of one log at a time, so one coordinate per (log, partition) says it
all. Only the most recently active users are kept: forgetting one costs freshness of a single read, never
correctness."""

from __future__ import annotations

from collections import OrderedDict

from .answers import Coordinates


class ReadTokens:
    """Newest coordinates by user, for at most `users_max` users."""

    def __init__(self, users_max: int) -> None:
        self._users_max = users_max
        self._by_user: OrderedDict[str, dict[tuple[str, int], Coordinates]] = OrderedDict()

    def remember(self, user: str | None, coordinates: Coordinates | None) -> None:
        """Take note of an acknowledged event of this user."""
        if user is None or coordinates is None or self._users_max == 0:
            return
        logs = self._by_user.setdefault(user, {})
        self._by_user.move_to_end(user)
        place = (coordinates.log, coordinates.partition)
        known = logs.get(place)
        if known is None or (known.offset, known.index) < (coordinates.offset, coordinates.index):
            logs[place] = coordinates
        if len(self._by_user) > self._users_max:
            self._by_user.popitem(last=False)

    def of(self, user: str | None) -> tuple[Coordinates, ...]:
        """What to hand to `after` for this user."""
        if user is None:
            return ()
        return tuple(self._by_user.get(user, {}).values())
