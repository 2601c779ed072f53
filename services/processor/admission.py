"""What to do with an ask, decided from numbers alone: no clock, no I/O.

Every ask ends in exactly one of these ways, and each is counted. An ask is never queued for long: whoever waits has a
deadline of tens or hundreds of milliseconds, and an answer from the counters now is worth more than one from the
model too late.
"""

from dataclasses import dataclass
from enum import Enum

from streams.asks import Ask
from streams.position import Frontier, Position


class Course(Enum):
    """How an ask goes on."""

    SCORE = "score"
    """Features now, then the ladder from its first rung."""
    WAIT = "wait"
    """A read token is not covered yet: wait for it, bounded."""
    COUNTERS = "counters"
    """Too many are being scored: answer from the counters at once."""
    DROP_EXPIRED = "expired"
    DROP_GATE = "gate"
    DROP_OVERFLOW = "overflow"


@dataclass(frozen=True, slots=True)
class AskLimits:
    """The bounds of answering."""

    scoring_max: int
    """Asks that may wait for the inference worker at once; the next are answered from the counters."""
    waiting_max: int
    """Asks that may wait for their read token at once; the next are answered without it, and say so."""
    overflow_age_ms_max: int
    """When all places are taken, asks older than this are dropped: the loop itself does not keep up."""
    margin_ms: int
    """Kept for publishing and for the gateway: answers are given up this long before their deadline."""
    infer_ms_max: int
    """The longest that the model rung may take, however late the deadline is."""
    catalogue_wait_ms_max: int
    """The longest that an ask waits for catalogue changes before it; a whole catalogue may take longer than that."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is going on when an ask comes in."""

    scoring: int
    waiting: int


def uncovered(after: list[Position], frontier: Frontier) -> list[Position]:
    """The read tokens that the frontier does not cover yet."""
    return [position for position in after if not frontier.covers(position)]


def decide(
    ask: Ask,
    *,
    now_ms: int,
    age_ms: int,
    gate_blocker: str | None,
    missing: bool,
    load: Load,
    limits: AskLimits,
) -> Course:
    """Choose the course of `ask`; `missing`: a read token is not covered; `age_ms`: how long it is in the log."""
    if now_ms >= ask.deadline_unix_ms - limits.margin_ms:
        return Course.DROP_EXPIRED
    if gate_blocker is not None:
        return Course.DROP_GATE
    if missing and load.waiting < limits.waiting_max:
        return Course.WAIT
    if load.scoring < limits.scoring_max:
        return Course.SCORE
    return Course.DROP_OVERFLOW if age_ms > limits.overflow_age_ms_max else Course.COUNTERS


def scoring_deadline_ms(ask: Ask, now_ms: int, limits: AskLimits) -> int:
    """Unix ms by which the model rung must have answered."""
    return min(ask.deadline_unix_ms - limits.margin_ms, now_ms + limits.infer_ms_max)
