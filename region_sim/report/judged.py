"""A verdict as a report reads it: of today, or of any earlier version of this project.

`verdict.json` gains figures and checks with time. A report of an old run, or a comparison with one, must not fail
because of that: what is not in the file is not known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from region_sim.report.errors import NoVerdict
from region_sim.report.words import Figure
from region_sim.verdict import VERDICT_FILE

WORDS: Final = ("valid", "invalid", "unknown")
_NO_FIGURES: Final = frozenset({"verdict", "drill", "backend", "seed", "sentence", "checks", "checkers", "replay"})


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What one checker said."""

    check: str
    verdict: str
    sentence: str
    examples: list[str] = []
    first_index: int | None = None
    """Index of the first entry of the history that breaks it; None: none does, or it is not known."""


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What was forecast right before a fault."""

    seconds: float
    seconds_max: float = 0.0


class Failover(msgspec.Struct, frozen=True, kw_only=True):
    """One change of the active region, as the verdict tells it."""

    cause: str = ""
    from_region: str = ""
    to_region: str = ""
    epoch: tuple[int, int] | None = None
    rto_seconds: float | None = None
    lease_seconds: float | None = None
    acquire_seconds: float | None = None
    promotion_seconds: float | None = None
    first_answer_seconds: float | None = None
    bound_seconds: float | None = None
    bounds: dict[str, float] = {}
    forecast: Forecast | None = None
    forecast_error_seconds: float | None = None
    within: bool | None = None
    why: str = ""

    def part(self, name: str) -> float | None:
        """The measured part: lease, acquire, promotion, first_answer."""
        found = getattr(self, f"{name}_seconds")
        return None if found is None else float(found)


class _File(msgspec.Struct, frozen=True, kw_only=True):
    """What is read with its types; all else that is a number is a figure."""

    verdict: str
    drill: str = ""
    backend: str = ""
    seed: int | None = None
    sentence: str = ""
    checks: list[Check] = []
    parameters: Any = None
    replay: str = ""
    failovers: list[Failover] = []


@dataclass(frozen=True, slots=True)
class Judged:
    """One verdict."""

    path: Path
    verdict: str
    drill: str = ""
    backend: str = ""
    seed: int | None = None
    sentence: str = ""
    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
    """Everything measured, by name, in the order of the file."""
    parameters: dict[str, Any] = field(default_factory=dict)
    replay: str = ""
    failovers: list[Failover] = field(default_factory=list)

    def number(self, name: str) -> float | None:
        """A figure that is a number; None when it is not known."""
        found = self.figures.get(name)
        return None if isinstance(found, bool) else found

    def count(self, name: str) -> int | None:
        """A figure that counts."""
        found = self.number(name)
        return None if found is None else int(found)

    def mark(self, name: str) -> float | None:
        """A pass mark of the drill; None when it has none."""
        marks = self.parameters.get("marks")
        found = marks.get(name) if isinstance(marks, dict) else None
        return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def read_verdict(place: Path) -> Judged:
    """Read the verdict of a run's directory, or a verdict's file. Raises NoVerdict."""
    path = place / VERDICT_FILE if place.is_dir() else place
    try:
        content = path.read_bytes()
        read = msgspec.json.decode(content, type=_File)
        everything = msgspec.json.decode(content, type=dict[str, Any])
    except OSError as error:
        raise NoVerdict(
            f"{path} cannot be read: {error.strerror}. Name the directory of a run that was judged; "
            "`region-sim judge DIRECTORY` judges one whose history is there"
        ) from error
    except msgspec.MsgspecError as error:
        raise NoVerdict(f"{path} is no verdict: {error}") from error
    if read.verdict not in WORDS:
        raise NoVerdict(f"{path} is no verdict: it says {read.verdict!r}, none of {', '.join(WORDS)}")
    figures = {
        name: value
        for name, value in everything.items()
        if name not in _NO_FIGURES and (value is None or isinstance(value, bool | int | float))
    }
    return Judged(
        path=path,
        verdict=read.verdict,
        drill=read.drill,
        backend=read.backend,
        seed=read.seed,
        sentence=read.sentence,
        checks=read.checks,
        figures=figures,
        parameters=read.parameters if isinstance(read.parameters, dict) else {},
        replay=read.replay,
        failovers=read.failovers,
    )


def flat(parameters: object, prefix: str = "") -> dict[str, str]:
    """Nested parameters as `table.key` and what was set, as JSON."""
    if isinstance(parameters, dict):
        pairs = [(str(key), value) for key, value in parameters.items()]
    elif isinstance(parameters, list) and any(isinstance(one, dict | list) for one in parameters):
        pairs = [(str(number), value) for number, value in enumerate(parameters, start=1)]
    else:
        return {prefix: _scalar(parameters)}
    found: dict[str, str] = {}
    for key, value in pairs:
        found |= flat(value, f"{prefix}.{key}" if prefix else key)
    return found


def _scalar(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
