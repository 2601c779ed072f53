"""When to stop asking a worker that does not answer: the pure state machine in front of the client's requests.

A hung worker (stopped, swapping, stuck in a run) takes the whole budget of everyone who waits for it, and a ranking
that could have come from the next rung at once comes late instead. So after `failures_max` failures in a row the
breaker opens: requests fail at once. After `open_seconds` one probe is let through (half-open), alone; if it is
answered the breaker closes, if not it opens again for twice as long, up to `open_seconds_max`. What the worker
*answers* is never a failure here, a refusal included: it shows that the worker is alive.

Time is an argument; there is no randomness, because one process has one client and there is no herd to spread.
"""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a breaker is."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """The bounds of a breaker."""

    failures_max: int = 3
    open_seconds: float = 0.5
    open_seconds_max: float = 8.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request that was let through, and how often the breaker had opened by then."""

    openings: int


class Breaker:
    """One breaker per worker. Not thread-safe: it lives on one event loop."""

    def __init__(self, limits: BreakerLimits) -> None:
        self._limits = limits
        self._failures = 0
        self._open_until_seconds = 0.0
        self._open_for_seconds = limits.open_seconds
        self._state = State.CLOSED
        self._openings = 0

    @property
    def state(self) -> State:
        """Where it is; HALF_OPEN means that a probe is under way."""
        return self._state

    def blocker(self, now_seconds: float) -> str | None:
        """Why a request must not be sent now; None when it may."""
        if self._state is State.CLOSED:
            return None
        if self._state is State.HALF_OPEN:
            return f"{self._failures} requests in a row failed, and one is under way to see whether it is back"
        left = self._open_until_seconds - now_seconds
        if left > 0:
            return f"{self._failures} requests in a row failed; the next is tried in {left:.2f} s"
        return None

    def begin(self) -> Attempt:
        """Note that a request is sent, after `blocker` said nothing. After an opening it is the probe."""
        if self._state is State.OPEN:
            self._state = State.HALF_OPEN
        return Attempt(self._openings)

    def succeeded(self) -> None:
        """The worker answered."""
        self._state = State.CLOSED
        self._failures = 0
        self._open_for_seconds = self._limits.open_seconds

    def failed(self, attempt: Attempt, now_seconds: float) -> None:
        """No answer came: a connection error, or a time-out counted from sending."""
        if attempt.openings != self._openings:
            return  # it was sent before the breaker opened, and tells nothing about the probe
        self._failures += 1
        if self._state is State.HALF_OPEN:
            self._open_for_seconds = min(self._open_for_seconds * 2, self._limits.open_seconds_max)
        elif self._failures < self._limits.failures_max:
            return
        self._state = State.OPEN
        self._openings += 1
        self._open_until_seconds = now_seconds + self._open_for_seconds

    def abandoned(self, attempt: Attempt) -> None:
        """The request ended without a verdict (its caller was cancelled): a probe gives its place back."""
        if self._state is State.HALF_OPEN and attempt.openings == self._openings:
            self._state = State.OPEN
