"""What apps were served over time: answers and latency by second and region, and by phase, with their rungs.

Figures for reports; nothing here judges. The second of an answer is that in which it was asked for, counted from the
first entry of the history, so that an outage shows where it was felt. A failure has no region: nobody answered.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import msgspec

from region_sim.checkers.recorded import Recorded
from region_sim.history import NO_CALL, Entry
from services.replay.latency import quantile

NOBODY = ""
"""The region of what was not answered."""


class Second(msgspec.Struct, frozen=True, kw_only=True):
    """One second of one region."""

    second: int
    """Since the first entry."""
    region: str
    """Who answered; empty: nobody did."""
    answers: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None
    rungs: dict[str, int]


class PhaseFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One phase of the drill: all that was asked for in it."""

    phase: str
    """warm-up, steady, fault, heal, after."""
    start_seconds: float
    end_seconds: float
    asked: int
    answered: int
    p50_ms: float | None
    p99_ms: float | None
    regions: dict[str, int]
    """Answers by region."""
    rungs: dict[str, int]
    """Answers by rung of the ladder: how good rankings were."""

    @property
    def answered_share(self) -> float | None:
        """None when nobody asked."""
        return self.answered / self.asked if self.asked else None


Asked = tuple[Entry, Entry]
"""A question and what completed it."""


def per_second(entries: Sequence[Entry]) -> list[Second]:
    """By second, then region."""
    if not entries:
        return []
    began = entries[0].monotonic_seconds
    found: dict[tuple[int, str], list[Asked]] = defaultdict(list)
    for question, answer in _searches(entries):
        region = answer.region if answer.type == "ok" else NOBODY
        found[int(question.monotonic_seconds - began), region].append((question, answer))
    made = []
    for (second, region), asked in sorted(found.items()):
        p50, p99 = _quantiles(asked)
        answers = sum(answer.type == "ok" for _, answer in asked)
        made.append(
            Second(
                second=second,
                region=region,
                answers=answers,
                failed=len(asked) - answers,
                p50_ms=p50,
                p99_ms=p99,
                rungs=_rungs(asked),
            )
        )
    return made


def per_phase(recorded: Recorded) -> list[PhaseFigures]:
    """The phases in their order; what is asked for before the first one belongs to none."""
    began = recorded.entries[0].monotonic_seconds
    marks = [entry for entry in recorded.entries if entry.op == "phase"]
    searches = [(recorded.entries[entry.call], entry) for entry in recorded.searches if entry.call != NO_CALL]
    made = []
    for number, mark in enumerate(marks):
        following = marks[number + 1] if number + 1 < len(marks) else None
        if following is None:
            break  # the load has stopped
        asked = [pair for pair in searches if mark.index < pair[0].index < following.index]
        p50, p99 = _quantiles(asked)
        regions = Counter(answer.region for _, answer in asked if answer.type == "ok")
        made.append(
            PhaseFigures(
                phase=mark.note,
                start_seconds=round(mark.monotonic_seconds - began, 3),
                end_seconds=round(following.monotonic_seconds - began, 3),
                asked=len(asked),
                answered=regions.total(),
                p50_ms=p50,
                p99_ms=p99,
                regions=dict(sorted(regions.items())),
                rungs=_rungs(asked),
            )
        )
    return made


def _searches(entries: Sequence[Entry]) -> Iterator[Asked]:
    for entry in entries:
        if entry.op == "search" and entry.type != "invoke" and entry.call != NO_CALL:
            yield entries[entry.call], entry


def _quantiles(asked: Sequence[Asked]) -> tuple[float | None, float | None]:
    took = sorted(1000 * (a.monotonic_seconds - q.monotonic_seconds) for q, a in asked if a.type == "ok")
    return (None, None) if not took else (round(quantile(took, 0.5), 3), round(quantile(took, 0.99), 3))


def _rungs(asked: Sequence[Asked]) -> dict[str, int]:
    return dict(sorted(Counter(answer.rung for _, answer in asked if answer.type == "ok").items()))
