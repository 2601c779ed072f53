"""How long to wait before trying again.

Exponential with full jitter, so that clients that failed together do not come back together; but never sooner
than the gateway asked with Retry-After. The bound is short because a takeover takes about three seconds: whoever
waits two of them for nothing has made it five. Pure: the chance is an argument."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds of the waiting between two tries."""

    first_delay_ms: int = 50
    delay_ms_max: int = 500
    multiplier: float = 2.0

    def __post_init__(self) -> None:
        if self.first_delay_ms < 1 or self.delay_ms_max < self.first_delay_ms or self.multiplier < 1:
            raise ValueError("a retry policy needs 1 <= first_delay_ms <= delay_ms_max and multiplier >= 1")

    def delay_seconds(self, tries: int, chance: float, retry_after_seconds: float | None) -> float:
        """Seconds to wait after the `tries`-th failed try (from 1); `chance` in [0, 1) is the jitter."""
        # The exponent is bounded so that an endless outage cannot overflow a float.
        ceiling_ms = min(self.first_delay_ms * self.multiplier ** min(tries - 1, 32), self.delay_ms_max)
        backoff_seconds = ceiling_ms * chance / 1000
        if retry_after_seconds is None:
            return backoff_seconds
        # Asked to wait: not sooner than that, and spread over a little more.
        return retry_after_seconds + min(backoff_seconds, retry_after_seconds / 2)
