"""Numbers and times in words. What was not measured is `not known`, never a zero."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

NOT_KNOWN: Final = "not known"
Figure = float | int | bool | None

TITLES: Final[dict[str, str]] = {
    "rto_seconds": "RTO",
    "rpo_events": "RPO",
    "rto_forecast_seconds": "RTO as it was forecast",
    "rto_forecast_error_seconds": "RTO less its forecast",
    "rto_worst_seconds": "RTO, the longest of all takeovers",
    "failover_count": "changes of the active region",
    "dead_letters": "dead letters",
    "events_said": "events that apps said",
    "events_in_logs": "different events in the logs",
    "duplicates_in_logs": "duplicates in the logs",
    "after_term": "answers after the end of their term",
    "lease_seconds": "RTO: until the lease was gone",
    "acquire_seconds": "RTO: until it was taken",
    "promotion_seconds": "RTO: until the gate was open",
    "first_answer_seconds": "RTO: until the first answer",
    "gap_seconds": "longest time without answers",
    "heal_seconds": "time to heal",
    "last_contact_before_fault_seconds": "age of the last contact",
    "acknowledged": "acknowledged events",
    "lost": "lost events",
    "lost_unlisted": "lost and in no receipt",
    "counted_twice": "events counted twice",
    "digests_equal": "digests are equal",
    "stale_answers": "stale answers accepted",
    "stale_refused": "stale answers refused",
    "stale_bare_in_flight": "stale answers to bare apps, under way",
    "stale_bare_late": "stale answers to bare apps, late",
    "searches_ok": "searches answered",
    "searches_failed": "searches not answered",
}


def title_of(name: str) -> str:
    """What a figure is called for people."""
    return TITLES.get(name, name.replace("_", " ").removesuffix(" seconds").removesuffix(" events"))


def said(name: str, value: Figure) -> str:
    """A figure with its unit, which is the last part of its name."""
    if value is None:
        return NOT_KNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    for ending, words_of in (("_ms", milliseconds), ("_share", share), ("seconds", seconds)):
        if name.endswith(ending):
            return words_of(value)
    if name.endswith("_events"):
        return count(int(value), "event")
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def seconds(value: float | None) -> str:
    """Seconds, to the millisecond where that matters."""
    if value is None:
        return NOT_KNOWN
    return f"{value:,.0f} s" if abs(value) >= 1000 else f"{value:.2f} s" if abs(value) >= 1 else f"{value:.3f} s"


def milliseconds(value: float | None) -> str:
    """Milliseconds."""
    if value is None:
        return NOT_KNOWN
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms"


def share(value: float | None) -> str:
    """A share in per cent; what is not quite all of it never reads as all of it."""
    if value is None:
        return NOT_KNOWN
    if 0.9995 <= value < 1:
        return "> 99.9 %"
    if 0 < value < 0.0005:
        return "< 0.1 %"
    return f"{value:.1%}".replace("%", " %")


def count(value: int | None, noun: str = "") -> str:
    """A number of things."""
    if value is None:
        return NOT_KNOWN
    return f"{value:,}" if not noun else f"{value:,} {noun}{'' if value == 1 else 's'}"


def moment(unix_ms: int) -> str:
    """A time of the day, UTC."""
    try:
        return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):
        return NOT_KNOWN


def epoch(value: tuple[int, int] | None) -> str:
    """A fencing number as it is written elsewhere."""
    return NOT_KNOWN if value is None else f"{value[0]}.{value[1]}"
