"""Which requests run together, and when: the pure half of dynamic batching. No clock, no asyncio, no ONNX.

Requests wait in one first-in-first-out line per key (model, version, candidate bucket): only those can share a run.
There is one engine, so a batch is decided when it is free. Four things make a line due:

* `idle`   its oldest request came while the engine was free: waiting would win nothing, so it runs at once;
* `size`   a full batch stands in it (a pace says how many rows that is: on a CPU more of them may win nothing);
* `delay`  its oldest request has waited `delay_seconds` (it came during a run, and others may be just behind it);
* `slack`  its earliest deadline is only one run (as long as the last ones took) and a margin away.

Invariant (`check`): rows waiting never exceed `queue_rows_max`, and every request leaves exactly one way: in a
batch, expired, or withdrawn. Expiry is looked at both when a request comes and when a batch is decided: Triton only
looks at the second, and goes on working for callers that have left.

A queue that sorts by deadline was turned down: requests of one region have nearly the same budget, so it is the
same order at a higher price.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

Work = TypeVar("Work")
Key = tuple[str, str, int]


class Flush(StrEnum):
    """Why a batch was closed."""

    IDLE = "idle"
    SIZE = "size"
    DELAY = "delay"
    SLACK = "slack"


class Refusal(StrEnum):
    """Why a request was not taken."""

    FULL = "full"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The bounds. `slack_margin_seconds` is what it takes to get the answer out after the run."""

    delay_seconds: float = 0.001
    queue_rows_max: int = 512
    slack_margin_seconds: float = 0.002


@dataclass(frozen=True, slots=True)
class Pace:
    """What is known of a key's runs: how many rows are worth sharing one, and how long one takes."""

    rows_max: int
    run_seconds: float


@dataclass(slots=True, eq=False)
class Ticket(Generic[Work]):
    """A request's place in the queue. Times are seconds on the caller's monotonic clock; no deadline is infinity."""

    key: Key
    rows: int
    arrived_seconds: float
    deadline_seconds: float
    work: Work
    withdrawn: bool = field(default=False)


@dataclass(frozen=True, slots=True)
class Batch(Generic[Work]):
    """Requests of one key that run together."""

    key: Key
    tickets: tuple[Ticket[Work], ...]
    flush: Flush

    @property
    def rows(self) -> int:
        """Rows of all its requests, before padding."""
        return sum(ticket.rows for ticket in self.tickets)


@dataclass(frozen=True, slots=True)
class Decision(Generic[Work]):
    """What to do now: run `batch` if there is one, answer `expired`, ask again at `wake_seconds` (infinity: never)."""

    batch: Batch[Work] | None
    expired: tuple[Ticket[Work], ...]
    wake_seconds: float


class BatchQueue(Generic[Work]):
    """The lines and the rule that picks from them."""

    def __init__(self, limits: BatchLimits) -> None:
        self.limits = limits
        self._lines: dict[Key, deque[Ticket[Work]]] = {}
        self._rows = 0

    @property
    def rows_waiting(self) -> int:
        """Rows in all lines."""
        return self._rows

    def offer(self, ticket: Ticket[Work], now_seconds: float) -> Refusal | None:
        """Take a request, or say why not."""
        if ticket.deadline_seconds <= now_seconds:
            return Refusal.EXPIRED
        if self._rows + ticket.rows > self.limits.queue_rows_max:
            return Refusal.FULL
        self._lines.setdefault(ticket.key, deque()).append(ticket)
        self._rows += ticket.rows
        return None

    def withdraw(self, ticket: Ticket[Work]) -> bool:
        """Take a request out whose caller left; False when it is not waiting any more."""
        line = self._lines.get(ticket.key)
        if line is None or ticket.withdrawn or ticket not in line:
            return False
        ticket.withdrawn = True
        line.remove(ticket)
        self._rows -= ticket.rows
        if not line:
            del self._lines[ticket.key]
        return True

    def decide(
        self, now_seconds: float, idle_since_seconds: float | None, pace_of: Callable[[Key], Pace]
    ) -> Decision[Work]:
        """Drop what has expired and pick the due line whose oldest request came first.

        `idle_since_seconds` is when the engine became free, None while it runs (then only expiry is looked at).
        `pace_of(key)` says what a run of that key may hold and is expected to take.
        """
        expired = self._expire(now_seconds)
        if idle_since_seconds is None:
            return Decision(None, expired, self._earliest_deadline())
        due: tuple[float, Key, Flush] | None = None
        wake = float("inf")
        for key, line in self._lines.items():
            flush, due_at = self._due(line, now_seconds, idle_since_seconds, pace_of(key))
            if flush is None:
                wake = min(wake, due_at)
            elif due is None or line[0].arrived_seconds < due[0]:
                due = (line[0].arrived_seconds, key, flush)
        batch = None if due is None else self._take(due[1], due[2], pace_of(due[1]).rows_max)
        return Decision(batch, expired, min(wake, self._earliest_deadline()))

    def check(self) -> str | None:
        """The invariant; None when it holds, else what is broken."""
        rows = sum(ticket.rows for line in self._lines.values() for ticket in line)
        if rows != self._rows:
            return f"{rows} rows stand in the lines, but {self._rows} were counted"
        if rows > self.limits.queue_rows_max:
            return f"{rows} rows are waiting, the bound is {self.limits.queue_rows_max}"
        if not all(self._lines.values()):
            return "an empty line was kept"
        return None

    def _due(self, line: deque[Ticket[Work]], now: float, idle_since: float, pace: Pace) -> tuple[Flush | None, float]:
        oldest = line[0]
        if sum(ticket.rows for ticket in line) >= pace.rows_max:
            return Flush.SIZE, now
        if oldest.arrived_seconds >= idle_since:
            return Flush.IDLE, now
        delay_over = oldest.arrived_seconds + self.limits.delay_seconds
        if now >= delay_over:
            return Flush.DELAY, now
        earliest = min(ticket.deadline_seconds for ticket in line)
        slack_over = earliest - pace.run_seconds - self.limits.slack_margin_seconds
        if now >= slack_over:
            return Flush.SLACK, now
        return None, min(delay_over, slack_over)

    def _take(self, key: Key, flush: Flush, rows_max: int) -> Batch[Work]:
        line = self._lines[key]
        taken = [
            line.popleft()
        ]  # one request alone may have as many rows as a batch, never more: the server refuses it
        rows = taken[0].rows
        while line and rows + line[0].rows <= rows_max:
            rows += line[0].rows
            taken.append(line.popleft())
        self._rows -= rows
        if not line:
            del self._lines[key]
        return Batch(key, tuple(taken), flush)

    def _expire(self, now: float) -> tuple[Ticket[Work], ...]:
        expired: list[Ticket[Work]] = []
        for key, line in list(self._lines.items()):
            late = [ticket for ticket in line if ticket.deadline_seconds <= now]
            if not late:
                continue
            expired.extend(late)
            self._rows -= sum(ticket.rows for ticket in late)
            kept = deque(ticket for ticket in line if ticket.deadline_seconds > now)
            if kept:
                self._lines[key] = kept
            else:
                del self._lines[key]
        return tuple(expired)

    def _earliest_deadline(self) -> float:
        deadlines = (ticket.deadline_seconds for line in self._lines.values() for ticket in line)
        return min(deadlines, default=float("inf"))
