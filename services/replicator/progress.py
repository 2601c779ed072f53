"""How far behind a copy is, how fast it comes nearer, and how much may be taken: arithmetic over given times."""

from collections import deque
from dataclasses import dataclass, field

_WINDOW_SECONDS = 10.0
_ENDS_MAX = 600


@dataclass(slots=True)
class LagSeconds:
    """For how long a partition has been behind what its origin was seen at."""

    _ends: deque[tuple[float, int]] = field(default_factory=deque)

    def saw(self, end: int, now: float) -> None:
        """The origin was seen to reach `end`."""
        if not self._ends or end > self._ends[-1][1]:
            if len(self._ends) == _ENDS_MAX:
                del self._ends[1]
            self._ends.append((now, end))

    def seconds(self, held: int, now: float) -> float:
        """The age of the oldest sighting that is not covered yet; 0 when all are."""
        while self._ends and self._ends[0][1] <= held:
            self._ends.popleft()
        return now - self._ends[0][0] if self._ends else 0.0


@dataclass(slots=True)
class Rate:
    """Records a second over the last ten seconds."""

    _points: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, total: int, now: float) -> None:
        """Until `now`, `total` records were copied."""
        self._points.append((now, total))
        while now - self._points[0][0] > _WINDOW_SECONDS:
            self._points.popleft()

    def per_second(self) -> float:
        """Return the rate; 0 before the second point."""
        if len(self._points) < 2:
            return 0.0
        (begin, before), (end, after) = self._points[0], self._points[-1]
        return (after - before) / (end - begin) if end > begin else 0.0


def eta_seconds(lag_records: int, per_second: float) -> float | None:
    """When the lag will be gone at this rate; 0 when there is none, None when nothing moves."""
    if lag_records <= 0:
        return 0.0
    return lag_records / per_second if per_second > 0 else None


class TokenBucket:
    """A throttle: bytes are taken after the fact, and the debt is waited for. Holds a quarter of a second."""

    def __init__(self, per_second: int, now: float) -> None:
        self._per_second = per_second
        self._tokens = 0.0
        self._at = now

    @property
    def is_set(self) -> bool:
        """Whether there is a limit at all."""
        return self._per_second > 0

    def take(self, count: int, now: float) -> float:
        """Take `count` bytes; return for how many seconds to wait before taking more."""
        if not self.is_set:
            return 0.0
        filled = self._tokens + (now - self._at) * self._per_second
        self._tokens = min(filled, self._per_second / 4) - count
        self._at = now
        return max(0.0, -self._tokens / self._per_second)
