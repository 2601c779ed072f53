"""QHRank for an evaluation: fitted and stopped on the rows before the split, and on nothing else."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from models.cases import collect_cases
from models.data.splits import cases_of, time_split
from models.errors import EvaluationImpossible
from models.evaluation.entrants import Scorer
from models.evaluation.trial import Progress
from models.records import Source

if TYPE_CHECKING:  # its module needs torch
    from models.qhrank.training import TrainingSettings

QHRANK: Final = "qhrank"
FITTED_SHARE: Final = 8 / 9
"""Of the rows before the split; the rest of them decides when to stop."""
LEARNED_MIN: Final = 300
"""Rows before the split; with fewer a network learns nothing that can be told from chance."""
LEARNED_MAX: Final = 60_000
"""The newest rows before the split that are learned from: more would not fit into 4 GB beside everything else."""


@dataclass(frozen=True, slots=True)
class TrainedHere:
    """What was trained for this evaluation."""

    scorers: dict[str, Scorer]
    notes: list[str]


def needed(split: int, library: str = "torch") -> None:
    """Say before anything takes long what stands in the way of training. Raises EvaluationImpossible."""
    if find_spec(library) is None:
        raise EvaluationImpossible(
            f"{library} is not installed, so QHRank cannot be trained. Next: `make train-env` adds it to .venv; "
            "or --no-train judges the baselines and versions that are there"
        )
    if split < LEARNED_MIN:
        raise EvaluationImpossible(
            f"{split} rows before the split are too few to train on: at least {LEARNED_MIN} are needed. "
            "Next: give more data, or --no-train"
        )


def train_before(
    source: Source, split: int, seed: int, stage: Callable[[str], Progress], settings: "TrainingSettings | None" = None
) -> TrainedHere:
    """Fit QHRank to the first 8/9 of the rows before `split`, and keep the epoch that was best on the rest of them."""
    from models.qhrank.scoring import scorer_of
    from models.qhrank.training import Progress as Training
    from models.qhrank.training import TrainingSettings, fit

    first = max(split - LEARNED_MAX, 0)
    rows = split - first
    chosen_by = rows - int(rows * FITTED_SHARE)
    parts = time_split(source.searches, choose=chosen_by, test=len(source.searches) - split, first=first)
    cases = collect_cases(
        source, first=first, end=split, half_precision=True, on_progress=stage("Walking the rows before the split")
    )
    train, held_out = cases_of(cases, parts.fit), cases_of(cases, parts.choose)
    del cases
    bar = stage("Training QHRank")

    def tell(now: Training) -> None:
        bar((now.epoch - 1) * now.steps + now.step, now.epochs * now.steps)

    trained = fit(train, held_out, settings or TrainingSettings(seed=seed), on_progress=tell)
    bar(1, 1)
    note = (
        f"{QHRANK} was trained here on rows {first + 1:,} to {split:,}, the last {chosen_by:,} held out to choose by; "
        f"{sum(edge.left_out for edge in parts.edges):,} that reach over an edge were left out. Its text tower was "
        "then fitted again on all of them. Without +stream its counters are as of the split."
    )
    return TrainedHere({QHRANK: scorer_of(trained)}, [note])
