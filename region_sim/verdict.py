"""From a history to a verdict: all checkers, the worst of them, and the file that other tools read."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from region_sim.checkers import (
    counting,
    digests,
    holders,
    loss,
    markers,
    marks,
    order,
    paused,
    predictions,
    receipts,
    recovery,
    remote,
    rto,
    sent,
    stale,
    steady,
    took,
)
from region_sim.checkers.base import Failover, Figures, Finding, VerdictWord, merged, worst
from region_sim.checkers.failovers import failovers
from region_sim.checkers.recorded import Recorded, record
from region_sim.checkers.series import PhaseFigures, per_phase
from region_sim.history import Entry, read_history

CHECKERS: Final[dict[str, Callable[[Recorded], Finding]]] = {
    "every-fault-took": took.check,
    "tested-something": steady.check,
    "one-holder-an-epoch": holders.check,
    "no-stale-epoch": stale.check,
    "markers-first": markers.check,
    "nothing-acknowledged-lost": loss.check,
    "applied-was-sent": sent.check,
    "counted-once": counting.check,
    "user-order": order.check,
    "same-digest": digests.check,
    "same-predictions": predictions.check,
    "paused-means-paused": paused.check,
}
"""By the name in `verdict.json`. Beside them: recovered, rto-formula, honest-receipt, remote-is-safe, pass-marks."""
EXIT_CODES: Final[dict[VerdictWord, int]] = {"valid": 0, "invalid": 1, "unknown": 2}
VERDICT_FILE: Final = "verdict.json"
HISTORY_FILE: Final = "history.jsonl"


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What one checker said; its figures are among those of the verdict."""

    check: str
    verdict: VerdictWord
    sentence: str
    examples: list[str]
    name: str = ""
    """Under which `checkers` has it."""
    first_index: int | None = None
    """Index of the first entry of the history that breaks it; None: none does, or it is no single one."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """A checker's word and why, by its name."""

    verdict: VerdictWord
    sentence: str


class Verdict(Figures, frozen=True, kw_only=True):
    """What `verdict.json` holds: the figures, and why the verdict is what it is."""

    verdict: VerdictWord
    drill: str
    backend: str
    seed: int
    sentence: str
    checks: list[Checked]
    checkers: dict[str, Judgement]
    failovers: list[Failover]
    """Every change of the active region from the first fault on."""
    phases: list[PhaseFigures]
    """What apps were served before, during and after the faults."""
    parameters: msgspec.Raw
    replay: str
    """The command that runs the same drill again."""

    @property
    def exit_code(self) -> int:
        """0 valid, 1 invalid, 2 unknown."""
        return EXIT_CODES[self.verdict]


def judge(entries: Iterable[Entry], replay: str = "") -> Verdict:
    """Return the verdict over a history. Raises HistoryDamaged."""
    recorded = record(entries)
    named, moves, figures = _findings(recorded)
    word = worst(finding.verdict for finding in named.values())
    first = next((finding for finding in named.values() if finding.verdict == word), None)
    said = "nothing was checked" if first is None else f"{first.check}: {first.sentence}"
    return Verdict(
        **{name: getattr(figures, name) for name in Figures.__struct_fields__},
        verdict=word,
        drill=recorded.plan.drill,
        backend=recorded.plan.backend,
        seed=recorded.plan.seed,
        sentence=said if word != "valid" else "every check holds",
        checks=[
            Checked(
                name=name,
                check=found.check,
                verdict=found.verdict,
                sentence=found.sentence,
                examples=found.examples,
                first_index=found.first_index,
            )
            for name, found in named.items()
        ],
        checkers={name: Judgement(verdict=f.verdict, sentence=f.sentence) for name, f in named.items()},
        failovers=moves,
        phases=per_phase(recorded),
        parameters=recorded.plan.parameters,
        replay=replay,
    )


def _findings(recorded: Recorded) -> tuple[dict[str, Finding], list[Failover], Figures]:
    """What every checker found, by name; the failovers; all figures."""
    named = {name: check(recorded) for name, check in CHECKERS.items()}
    moves = failovers(recorded)
    named["recovered"] = recovery.check(recorded, moves)
    named["rto-formula"], judged = rto.check(recorded, moves)
    named["honest-receipt"] = receipts.check(recorded, moves)
    figures = merged(named.values())
    named["remote-is-safe"] = remote.check(recorded, figures)
    named["pass-marks"] = marks.check(figures, recorded.drill.marks, moves)
    return named, judged, figures


def judge_directory(directory: Path, replay: str = "") -> Verdict:
    """Judge the history in a drill's directory and write `verdict.json` beside it. Raises HistoryDamaged, OSError.

    Without a command in `replay`, the verdict of before keeps its own; without one, the recorded drill is named.
    """
    command = replay or _replay_of(directory)
    verdict = judge(read_history(directory / HISTORY_FILE), command)
    beside = directory / f"{VERDICT_FILE}.new"
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(verdict), indent=2) + b"\n")
    beside.replace(directory / VERDICT_FILE)
    return verdict


class _Before(msgspec.Struct, frozen=True):
    """What is kept of an earlier verdict."""

    replay: str = ""


def _replay_of(directory: Path) -> str:
    """The command of the verdict of before, of this version or another."""
    try:
        found = msgspec.json.decode((directory / VERDICT_FILE).read_bytes(), type=_Before).replay
    except (OSError, msgspec.MsgspecError):
        found = ""
    return found or shlex.join(["region-sim", "replay", str(directory)])
