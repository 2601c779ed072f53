"""Two runs of one drill beside each other: what changed, and whether it got worse.

Times and events of a loss vary from run to run, so a change counts only beyond a tolerance: the larger of so many
seconds (or events) and a share of the earlier figure. What must never happen (a loss that no receipt lists, a double
count, a stale answer) has no tolerance. A figure that only one of both has proves nothing: the runs are not comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from region_sim.report import words
from region_sim.report.judged import Judged, flat

Change = Literal["worse", "better", "same", "not comparable", "not judged"]


class Tolerance(msgspec.Struct, frozen=True, kw_only=True):
    """Up to where a figure counts as unchanged."""

    seconds: float = 0.5
    share: float = 0.1
    events: float = 10.0

    @property
    def sentence(self) -> str:
        """How it is said to people."""
        return (
            f"a time grew by more than {self.seconds:g} s and {self.share:.0%}, RPO or losses by more than "
            f"{self.events:g} events and {self.share:.0%}, or what must never happen by one"
        )


TIMES: Final = ("rto_seconds", "rto_worst_seconds", "last_contact_before_fault_seconds")
LOSSES: Final = ("rpo_events", "lost")
NEVER: Final = ("lost_unlisted", "counted_twice", "stale_answers", "stale_bare_late", "after_term")
CORE: Final = frozenset({"rto_seconds", "rpo_events", "lost", "lost_unlisted"})
"""Figures that every version of this project has measured: one that is missing was not measured in that run."""
NO_FIGURES: Final = frozenset({"seed"})


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One figure in both runs."""

    figure: str
    before: words.Figure
    after: words.Figure
    difference: float | None
    change: Change
    why: str = ""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of it. `conclusion` is what the exit code goes by."""

    before: str
    after: str
    drill: str
    backend: str
    conclusion: Literal["no regression", "regression", "not comparable"]
    sentence: str
    tolerance: Tolerance
    lines: list[Line]
    parameters: dict[str, tuple[str, str]]
    """Those that differ."""

    @property
    def exit_code(self) -> int:
        """0 no regression, 1 regression, 2 not comparable."""
        return {"no regression": 0, "regression": 1, "not comparable": 2}[self.conclusion]


def compare(before: Judged, after: Judged, tolerance: Tolerance) -> Comparison:
    """Hold the later run against the earlier one."""
    unlike = _unlike(before, after)
    lines = [] if unlike else compared(before, after, tolerance)
    worse = [one for one in lines if one.change == "worse"]
    open_ = [one for one in lines if one.change == "not comparable"]
    conclusion: Literal["no regression", "regression", "not comparable"] = "no regression"
    sentence = "nothing got worse beyond the tolerance"
    if unlike:
        conclusion, sentence = "not comparable", unlike
    elif worse:
        conclusion, sentence = "regression", "; ".join(one.why for one in worse)
    elif open_:
        conclusion, sentence = "not comparable", "; ".join(one.why for one in open_)
    first, second = flat(before.parameters), flat(after.parameters)
    differing = {
        name: (first.get(name, "not set"), second.get(name, "not set"))
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    }
    return Comparison(
        before=str(before.path),
        after=str(after.path),
        drill=after.drill,
        backend=after.backend,
        conclusion=conclusion,
        sentence=sentence,
        tolerance=tolerance,
        lines=lines,
        parameters=differing,
    )


def figures_of(judged: Judged) -> dict[str, words.Figure]:
    """The figures of a verdict, and the longest of several takeovers."""
    found = {name: value for name, value in judged.figures.items() if name not in NO_FIGURES}
    known = [one.rto_seconds for one in judged.failovers if one.rto_seconds is not None]
    if len(judged.failovers) > 1 and known:
        found["rto_worst_seconds"] = max(known)
    return found


def compared(before: Judged, after: Judged, tolerance: Tolerance) -> list[Line]:
    """Every figure of both, the verdict first."""
    first, second = figures_of(before), figures_of(after)
    lines = [_verdicts(before, after)] if before.verdict != after.verdict else []
    names = [*first, *(name for name in second if name not in first)]
    return [*lines, *(_line(name, first.get(name), second.get(name), tolerance) for name in names)]


def _unlike(before: Judged, after: Judged) -> str:
    """Why two runs cannot be held against each other; empty when they can."""
    if before.drill != after.drill:
        return f"they are of two drills: {before.drill} and {after.drill}"
    if before.backend != after.backend:
        return f"they are of two backends: {before.backend} and {after.backend}"
    unknown = [str(one.path) for one in (before, after) if one.verdict == "unknown"]
    return f"the verdict is unknown, so its figures prove nothing: {', '.join(unknown)}" if unknown else ""


def _verdicts(before: Judged, after: Judged) -> Line:
    change: Change = "worse" if after.verdict == "invalid" else "better"
    why = f"the verdict is {after.verdict}, and was {before.verdict}: {after.sentence}"
    return Line(figure="verdict", before=None, after=None, difference=None, change=change, why=why)


def _line(name: str, before: words.Figure, after: words.Figure, tolerance: Tolerance) -> Line:
    if name == "digests_equal":
        return _digests(before, after)
    if isinstance(before, bool) or isinstance(after, bool) or before is None or after is None:
        return _incomplete(name, before, after)
    difference = round(after - before, 6)
    allowed = _allowed(name, before, tolerance)
    change: Change = "same"
    why = ""
    if allowed is None:
        change = "not judged"
    elif difference > allowed:
        change = "worse"
        why = f"{words.title_of(name)} is {words.said(name, after)}, and was {words.said(name, before)}"
    elif difference < -allowed:
        change = "better"
    return Line(figure=name, before=before, after=after, difference=difference, change=change, why=why)


def _digests(before: words.Figure, after: words.Figure) -> Line:
    change: Change = "worse" if before is True and after is False else "same" if before == after else "not judged"
    why = "the digests are not equal, and were" if change == "worse" else ""
    return Line(figure="digests_equal", before=before, after=after, difference=None, change=change, why=why)


def _incomplete(name: str, before: words.Figure, after: words.Figure) -> Line:
    """A figure that one run, or both, did not measure."""
    change: Change = "not judged"
    why = ""
    if name in CORE and (before is None) != (after is None):
        change = "not comparable"
        why = f"{words.title_of(name)} is known of the {'later' if before is None else 'earlier'} run only"
    return Line(figure=name, before=before, after=after, difference=None, change=change, why=why)


def _allowed(name: str, before: float, tolerance: Tolerance) -> float | None:
    """How much more is still the same; None for what is shown and not judged."""
    if name in TIMES:
        return max(tolerance.seconds, tolerance.share * before)
    if name in LOSSES:
        return max(tolerance.events, tolerance.share * before)
    return 0.0 if name in NEVER else None


def in_order(lines: Sequence[Line]) -> list[Line]:
    """What matters first: regressions, then what could not be compared, then the rest as it is in the file."""
    order = ("worse", "not comparable", "better", "same", "not judged")
    return sorted(lines, key=lambda one: order.index(one.change))
