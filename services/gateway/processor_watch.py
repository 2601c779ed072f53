"""Is somebody answering? Says at once "come back later" instead of letting every request wait for its deadline.

A circuit breaker with two inputs. The processor's own health says why it cannot answer; it is believed when it says
no. Silence says it as well: after a few asks in a row to which no answer came, further ones are refused, except for
one trial ask now and then. An app that hardly waits learns nothing about the processor: its asks neither count as
silence nor use up a trial. Any answer, or a health report that turns from bad to good, opens it again at once. Pure:
time comes in as an argument.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """When silence counts, and how often it is put to the test."""

    silent_asks_max: int = 3
    trial_seconds: float = 0.25
    deadline_ms_min: int = 200
    """Asks with a shorter deadline prove nothing."""


class ProcessorWatch:
    """What the gateway believes about the processor."""

    def __init__(self, limits: WatchLimits) -> None:
        self._limits = limits
        self._silent_asks = 0
        self._silent_since: float | None = None
        self._next_trial = 0.0
        self._illness: str | None = None

    def asked(self, now: float, deadline_ms: int) -> str | None:
        """May an ask go out now? Returns why not, or None; then it counts as the trial if one was due."""
        if self._illness is not None:
            return f"the processor is not ready: {self._illness}"
        if self._silent_asks < self._limits.silent_asks_max or self._silent_since is None:
            return None
        if now >= self._next_trial:
            if deadline_ms >= self._limits.deadline_ms_min:
                self._next_trial = now + self._limits.trial_seconds
            return None
        return f"the processor has not answered for {now - self._silent_since:.1f} s ({self._silent_asks} asks)"

    def expired(self, now: float, deadline_ms: int) -> None:
        """An ask reached its deadline without an answer. Once the door is closed, only trials set the next trial."""
        if deadline_ms < self._limits.deadline_ms_min:
            return
        self._silent_asks += 1
        if self._silent_since is None:
            self._silent_since = now
        if self._silent_asks == self._limits.silent_asks_max:
            self._next_trial = now + self._limits.trial_seconds

    def answered(self) -> None:
        """The processor published something, in time or not."""
        self._silent_asks = 0
        self._silent_since = None

    def health(self, illness: str | None) -> None:
        """What the processor says of itself: None when it is ready, else the reason."""
        if self._illness is not None and illness is None:
            self.answered()
        self._illness = illness

    @property
    def illness(self) -> str | None:
        """Why the processor says that it is not ready, or None."""
        return self._illness

    def blocker(self, now: float) -> str | None:
        """What `asked` would say, without using up a trial; for readiness."""
        if (
            self._illness is None
            and self._silent_asks >= self._limits.silent_asks_max
            and self._silent_since is not None
        ):
            return f"the processor has not answered for {now - self._silent_since:.1f} s ({self._silent_asks} asks)"
        return None if self._illness is None else f"the processor is not ready: {self._illness}"
