"""From a history to a verdict: all checkers, the worst of them, and the file that other tools read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from region_sim.checkers import counting, digests, holders, loss, marks, receipts, recovery, remote, stale, steady
from region_sim.checkers.base import Figures, VerdictWord, merged, worst
from region_sim.checkers.recorded import record
from region_sim.history import Entry, read_history

CHECKERS: Final = (
    steady.check,
    recovery.check,
    loss.check,
    counting.check,
    digests.check,
    stale.check,
    holders.check,
    receipts.check,
)
EXIT_CODES: Final[dict[VerdictWord, int]] = {"valid": 0, "invalid": 1, "unknown": 2}
VERDICT_FILE: Final = "verdict.json"
HISTORY_FILE: Final = "history.jsonl"


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What one checker said; its figures are among those of the verdict."""

    check: str
    verdict: VerdictWord
    sentence: str
    examples: list[str]


class Verdict(Figures, frozen=True, kw_only=True):
    """What `verdict.json` holds: the figures, and why the verdict is what it is."""

    verdict: VerdictWord
    drill: str
    backend: str
    seed: int
    sentence: str
    checks: list[Checked]
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
    findings = [check(recorded) for check in CHECKERS]
    figures = merged(findings)
    findings += [remote.check(recorded, figures), marks.check(figures, recorded.drill.marks)]
    word = worst(finding.verdict for finding in findings)
    first = next((finding for finding in findings if finding.verdict == word), findings[0])
    return Verdict(
        **msgspec.structs.asdict(figures),
        verdict=word,
        drill=recorded.plan.drill,
        backend=recorded.plan.backend,
        seed=recorded.plan.seed,
        sentence=f"{first.check}: {first.sentence}" if word != "valid" else "every check holds",
        checks=[Checked(check=f.check, verdict=f.verdict, sentence=f.sentence, examples=f.examples) for f in findings],
        parameters=recorded.plan.parameters,
        replay=replay,
    )


def judge_directory(directory: Path, replay: str = "") -> Verdict:
    """Judge the history in a drill's directory and write `verdict.json` beside it. Raises HistoryDamaged."""
    verdict = judge(read_history(directory / HISTORY_FILE), replay)
    beside = directory / f"{VERDICT_FILE}.new"
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(verdict), indent=2) + b"\n")
    beside.replace(directory / VERDICT_FILE)
    return verdict
