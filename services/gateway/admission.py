"""How much may wait inside the gateway at once. Beyond that an app is told to come back, before anything is kept."""

from services.common.problem import Problem


class Admission:
    """A bound on events, and on bytes of request bodies, between their arrival and their answer."""

    def __init__(self, *, events_max: int, bytes_max: int, retry_after_seconds: float) -> None:
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._retry_after_seconds = retry_after_seconds
        self.events = 0
        self.bytes = 0

    def enter_bytes(self, count: int) -> None:
        """Reserve room for a body. Raises Problem (429)."""
        if self.bytes + count > self._bytes_max and self.bytes:
            raise self._full(f"{self.bytes} bytes of requests", "bytes-full")
        self.bytes += count

    def leave_bytes(self, count: int) -> None:
        """Give the room back."""
        self.bytes -= count

    def blocker(self, events: int) -> Problem | None:
        """Why so many more events cannot be taken now, or None."""
        if self.events + events > self._events_max:
            return self._full(f"{self.events} events", "events-full")
        return None

    def enter_events(self, count: int) -> None:
        """Reserve room for events. Raises Problem (429)."""
        blocker = self.blocker(count)
        if blocker is not None:
            raise blocker
        self.events += count

    def leave_events(self, count: int) -> None:
        """Give the room back."""
        self.events -= count

    def _full(self, what: str, reason: str) -> Problem:
        return Problem(
            429,
            reason,
            f"{what} wait for the log already; nothing of this request was kept",
            remedy="Send it again after Retry-After, with the same ids; smaller batches get in more easily.",
            retry_after_seconds=self._retry_after_seconds,
        )
