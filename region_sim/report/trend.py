"""All past runs of a drill, and whether the newest is worse than they were.

The newest run of each backend is held against the medians of the valid runs before it, with the tolerance of a
comparison of two. One bad run among the earlier ones moves a median little, so it hides no regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final, Literal

import msgspec

from region_sim.report import words
from region_sim.report.compare import Comparison, Tolerance, compare, figures_of
from region_sim.report.errors import NoVerdict
from region_sim.report.judged import Judged, read_verdict
from region_sim.verdict import VERDICT_FILE

RUNS_MAX: Final = 500
EARLIER_MAX: Final = 20
"""Only so many runs before the newest make its median: a drift of months is seen in the picture."""
SHOWN: Final = ("rto_seconds", "gap_seconds", "rpo_events", "lost", "lost_unlisted", "heal_seconds")


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One past run."""

    name: str
    """Of its directory: the time in UTC."""
    verdict: str
    seed: int | None
    figures: dict[str, words.Figure]


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of one drill on one backend, oldest first."""

    drill: str
    backend: str
    target_seconds: float | None
    """The newest run's mark for the RTO."""
    runs: list[Run]
    newest: Comparison | None
    """The newest against the medians of those before; None when there is nothing to hold it against."""
    conclusion: Literal["no regression", "regression", "not comparable"]
    sentence: str


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of a directory of runs."""

    directory: str
    series: list[Series]
    unreadable: list[str]
    left_out: int
    """Older runs than the newest RUNS_MAX."""

    @property
    def exit_code(self) -> int:
        """0 no regression, 1 a regression, 2 nothing could be held against anything."""
        # A first run has nothing before it, and is no reason to doubt the others.
        found = {one.conclusion for one in self.series if one.newest is not None}
        return 1 if "regression" in found else 0 if found == {"no regression"} else 2


@dataclass(frozen=True, slots=True)
class _Found:
    name: str
    judged: Judged


def trend(directory: Path, tolerance: Tolerance) -> Trend:
    """Read all runs in a directory. Raises NoVerdict when there is none."""
    try:
        places = sorted(one for one in directory.iterdir() if one.is_dir() and not one.is_symlink())
    except OSError as error:
        raise NoVerdict(f"{directory} cannot be read: {error.strerror}") from error
    places = [one for one in places if (one / VERDICT_FILE).exists()]
    if not places:
        raise NoVerdict(f"{directory} holds no runs with a verdict: name the directory of a drill, such as drills/NAME")
    found: list[_Found] = []
    unreadable = []
    for place in places[-RUNS_MAX:]:
        try:
            found.append(_Found(place.name, read_verdict(place)))
        except NoVerdict as error:
            unreadable.append(str(error))
    groups: dict[tuple[str, str], list[_Found]] = {}
    for one in found:
        groups.setdefault((one.judged.drill, one.judged.backend), []).append(one)
    return Trend(
        directory=str(directory),
        series=[_series(runs, tolerance) for _, runs in sorted(groups.items())],
        unreadable=unreadable,
        left_out=max(len(places) - RUNS_MAX, 0),
    )


def _series(found: Sequence[_Found], tolerance: Tolerance) -> Series:
    newest = found[-1].judged
    earlier = [one.judged for one in found[:-1] if one.judged.verdict == "valid"][-EARLIER_MAX:]
    comparison = compare(_typical(earlier), newest, tolerance) if earlier else None
    return Series(
        drill=newest.drill,
        backend=newest.backend,
        target_seconds=newest.mark("rto_seconds_max"),
        runs=[_run(one) for one in found],
        newest=comparison,
        conclusion="not comparable" if comparison is None else comparison.conclusion,
        sentence="no valid run came before the newest" if comparison is None else comparison.sentence,
    )


def _run(found: _Found) -> Run:
    figures = figures_of(found.judged)
    shown = {name: figures.get(name) for name in SHOWN}
    return Run(name=found.name, verdict=found.judged.verdict, seed=found.judged.seed, figures=shown)


def _typical(earlier: Sequence[Judged]) -> Judged:
    """A run whose figures are the medians of several; one that most of them did not measure is not known."""
    figures: dict[str, words.Figure] = {}
    for name in {name: None for one in earlier for name in figures_of(one)}:
        values = [figures_of(one).get(name) for one in earlier]
        numbers = [float(value) for value in values if value is not None and not isinstance(value, bool)]
        if any(isinstance(value, bool) for value in values):
            figures[name] = all(value is not False for value in values)
        else:
            figures[name] = median(numbers) if len(numbers) * 2 > len(values) else None
    name = f"median of {words.count(len(earlier), 'run')}"
    return replace(earlier[-1], path=Path(name), figures=figures, failovers=[])
