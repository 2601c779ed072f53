"""What can go wrong, sorted by what the caller should do about it.

`CallerError`: the request or the way the client is used must change. `TryAgain`: the same call may work
later, with the same event id. `BadAnswer`: the other side spoke nonsense, which is a bug on one of the two
sides."""

from __future__ import annotations

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An RFC 9457 problem document, as the gateway sends it."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    instance: str = ""
    field: str = ""
    """What of the request is wrong, such as `data.user`; empty when it is not about one field."""
    remedy: str = ""
    """What to do next."""

    def sentence(self) -> str:
        """The problem in one line."""
        text = ": ".join(part for part in (self.title, self.detail) if part) or self.type
        return f"{self.status} {text}" if self.status else text


class MeridianError(Exception):
    """The root of everything this library raises on purpose."""


class CallerError(MeridianError):
    """Trying the same thing again cannot help."""


class RequestRefused(CallerError):
    """The gateway read the request and said no."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"the gateway refused the request: {problem.sentence()}")
        self.problem = problem


class OutboxFull(CallerError):
    """More events wait for an acknowledgement than the outbox may hold. None of this call's was kept."""

    def __init__(self, waiting: int, offered: int, limit: int) -> None:
        super().__init__(
            f"the outbox holds {waiting} unacknowledged events of {limit} and cannot take {offered} more: "
            "wait for `await client.flush()`, publish less at a time, or raise outbox_events_max"
        )
        self.waiting, self.offered, self.limit = waiting, offered, limit


class IdReused(CallerError):
    """Two different events carry the same source and id, so one of them would be taken for a repetition."""


class BadAddress(CallerError, ValueError):
    """A gateway URL is none."""


class BadReceipt(CallerError, ValueError):
    """What was handed over as a receipt is none."""


class ClientClosed(CallerError):
    """The client was used before `async with` began or after it ended."""


class TryAgain(MeridianError):
    """Nothing is wrong with the request. The outcome may be unknown: repeat it with the same id."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class GatewayUnavailable(TryAgain):
    """No gateway could be reached, or all of them answered 503."""


class Busy(TryAgain):
    """The gateway's queue is full (429)."""


class AnswerTooLate(TryAgain):
    """No answer within the caller's own time-out, counted from sending; a later one was thrown away."""


class StaleAnswer(TryAgain):
    """The answer is from before a takeover that this client has seen already: it was thrown away, and is counted."""


class BadAnswer(MeridianError):
    """The answer is not what the API promises."""
