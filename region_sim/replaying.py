"""Running a recorded drill again: the same drill, seed, parameters and backend, from the history that it left."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

import msgspec

from region_sim.backends.base import BACKENDS
from region_sim.demo.drill import replayed
from region_sim.errors import BadDrill, HistoryDamaged
from region_sim.evidence import DrillPlan
from region_sim.history import read_history
from region_sim.run import Ran, RunOptions, run_drill
from region_sim.spec import Drill
from region_sim.verdict import HISTORY_FILE, VERDICT_FILE


class _Said(msgspec.Struct, frozen=True):
    """What is read of the verdict of then."""

    verdict: str


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """How a drill compares with its recording."""

    directory: str
    """Of the new run."""
    verdict_then: str
    """Empty: it was not judged."""
    verdict_now: str
    same_verdict: bool
    same_history: bool | None
    """Byte for byte; None on real processes, where no two histories are the same."""

    @property
    def sentence(self) -> str:
        """For people."""
        verdict = (
            f"the verdict is the same: {self.verdict_now}"
            if self.same_verdict
            else f"the verdict was {self.verdict_then or 'never given'}, and is {self.verdict_now}"
        )
        if self.same_history is None:
            return verdict
        if self.same_history:
            return f"{verdict}; the history is the same, byte for byte"
        return f"{verdict}; the history differs: the code has changed since, or this world is not deterministic"


def planned(directory: Path) -> tuple[DrillPlan, Drill]:
    """Read what was run from a run's directory. Raises BadDrill."""
    try:
        first = next(read_history(directory / HISTORY_FILE), None)
    except HistoryDamaged as error:
        raise BadDrill(f"{error}. Name the directory of a run, such as drills/kill-active/latest") from error
    if first is None or not isinstance(first.evidence, DrillPlan):
        raise BadDrill(f"{directory / HISTORY_FILE} does not begin with the plan of its drill")
    try:
        return first.evidence, msgspec.json.decode(first.evidence.parameters, type=Drill)
    except msgspec.MsgspecError as error:
        raise BadDrill(f"the drill of {directory} is of another version of this project: {error}") from error


def replay(directory: Path, out: Path, attach: Path | None, *, keep: bool, quiet: bool) -> tuple[Ran, Replayed]:
    """Run the drill of `directory` again. Raises RegionSimError, SettingsError."""
    plan, drill = planned(directory)
    if plan.backend not in BACKENDS:
        raise BadDrill(f"{directory} was run on a backend {plan.backend!r}, which is not known here")
    before = _digest(directory)
    backend = BACKENDS[plan.backend]
    options = RunOptions(
        name=drill.name,
        changes=[],
        seed=plan.seed,
        repeat=1,
        out=out,
        attach=attach,
        keep=keep,
        quiet=quiet,
        backend=backend,
        replay=shlex.join(["region-sim", "replay", str(directory.resolve())]),
    )
    verdict_then = _verdict(directory)
    (ran,) = run_drill(replayed(drill, backend), options)
    return ran, Replayed(
        directory=str(ran.directory),
        verdict_then=verdict_then,
        verdict_now=ran.verdict.verdict,
        same_verdict=verdict_then == ran.verdict.verdict,
        same_history=before == _digest(ran.directory) if backend == "memory" else None,
    )


def _verdict(directory: Path) -> str:
    try:
        return msgspec.json.decode((directory / VERDICT_FILE).read_bytes(), type=_Said).verdict
    except (OSError, msgspec.MsgspecError):
        return ""


def _digest(directory: Path) -> str:
    with (directory / HISTORY_FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
