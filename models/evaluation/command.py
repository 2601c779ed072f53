"""Evaluating a data set: split by time, train on the first part, judge everybody on the last.

Everything that is fitted or chosen sees rows before the split alone: QHRank is fitted to the first 8/9 of them and
stopped early on the last 1/9 (80 % and 10 % of all rows with the usual split). The test part is walked once, after it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.errors import EvaluationImpossible
from models.evaluation.entrants import Scorer, baselines, models, onnx_scorer
from models.evaluation.results import Results, summarise
from models.evaluation.trial import Progress, Trial
from models.records import Source

SPLIT_DEFAULT: Final = 0.9
SHIPPED: Final = Path("models/repository/ranker/1")
SMALL: Final = "small"
"""Name of the shipped version: the small ranker, which was trained on made-up shops alone."""
JUDGED_MIN: Final = 20
"""Searches with a click in the test part; with fewer no interval means anything."""
Stage = Callable[[str], Progress]
"""Told that a stage begins; gives what takes its progress."""


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What to evaluate, and how."""

    train: bool = True
    """Whether QHRank is trained on the rows before the split."""
    versions: Sequence[Path] = ()
    """Folders of model versions to judge beside; the shipped one always takes part."""
    split: float = SPLIT_DEFAULT
    """Share of the rows that comes before the test part."""
    seed: int = 7
    """Of training, typos and bootstrap draws."""
    typos: bool = True


def evaluate(source: Source, options: EvaluationOptions, stage: Stage = lambda _: lambda *_: None) -> Results:
    """Train, if asked to, and judge everybody on the test part.

    Raises EvaluationImpossible (too little data, nothing to train with), VersionDamaged and GoldenMismatch.
    """
    split = split_at(source, options.split)
    if options.train:
        from models.evaluation.trained import needed

        needed(split)
    scorers = version_scorers(options.versions)
    notes = [f"{SMALL} is the shipped version; it was trained on made-up shops and on no row of any log."]
    if options.train:
        from models.evaluation.trained import train_before

        trained = train_before(source, split, options.seed, stage)
        scorers |= trained.scorers
        notes += trained.notes
    if options.versions:
        notes.append(
            "Versions that were given may have been trained on rows of the test part; nothing here can tell. "
            "`meridian models show` says what each was trained on."
        )
    trial = Trial(
        source,
        split,
        lambda shelf: [*baselines(shelf), *models(scorers, shelf)],
        seed=options.seed,
        with_typos=options.typos,
    )
    judged = trial.run(stage("Ranking the test part"))
    return summarise(source, split, judged, trial.entrants, seed=options.seed, notes=notes)


def split_at(source: Source, share: float) -> int:
    """The first row of the test part. Raises EvaluationImpossible when there is too little to judge by."""
    if not 0 <= share < 1:
        raise EvaluationImpossible(f"a split at {share:g} leaves nothing to judge: give a share from 0 to below 1")
    rows = len(source.searches)
    split = int(rows * share + 1e-9)
    judged = sum(bool(search.clicked) for search in source.searches[split:])
    if judged < JUDGED_MIN:
        raise EvaluationImpossible(
            f"{source.name} has {rows} rows, and {judged} with a click in its last {1 - share:.0%}: at least "
            f"{JUDGED_MIN} are needed. Next: give more data, or an earlier split"
        )
    return split


def version_scorers(folders: Sequence[Path]) -> dict[str, Scorer]:
    """The shipped version and the given ones, by name: `small`, and `ranker/2` for a folder that ends so.

    Raises VersionDamaged and GoldenMismatch.
    """
    scorers: dict[str, Scorer] = {SMALL: onnx_scorer(Path(__file__).parents[2] / SHIPPED)}
    for folder in folders:
        place = folder.resolve()
        scorers[unused(f"{place.parent.name}/{place.name}", scorers)] = onnx_scorer(place)
    return scorers


def unused(name: str, taken: Mapping[str, object]) -> str:
    """The name, or the first of `name-2`, `name-3`, ... that nobody has."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free
