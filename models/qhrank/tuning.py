"""A small search for settings, by a library that learns from the trials before (tree-structured Parzen estimator).

Each trial is a whole training that is judged on the held-out cases; none looks at anything later. The network's sizes
are not searched: they decide what serving costs.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import optuna

from models.cases import Cases
from models.qhrank.batches import Changes
from models.qhrank.training import TrainingSettings, Weights, fit


class Trial(msgspec.Struct, frozen=True):
    """One training of the search."""

    number: int
    """From 1."""
    trials: int
    merit: float
    """See `models.qhrank.judging.Judged.merit`."""
    best_merit: float
    changed: dict[str, float]
    """What was tried."""


def search(
    train: Cases,
    held_out: Cases,
    settings: TrainingSettings,
    trials: int,
    *,
    base: Weights | None = None,
    on_trial: Callable[[Trial], None] = lambda _: None,
) -> TrainingSettings:
    """The settings of the best of `trials` trainings, the first of which is of `settings` as they are.

    The same arguments give the same trials.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=settings.seed))
    study.enqueue_trial(_as_they_are(settings))

    def judged(trial: Any) -> float:
        tried = msgspec.structs.replace(_suggested(trial, settings), up_to_end=False)
        merit: float = fit(train, held_out, tried, base=base).judged.merit
        return merit

    def told(study: Any, trial: Any) -> None:
        on_trial(Trial(trial.number + 1, trials, trial.value, study.best_value, dict(trial.params)))

    study.optimize(judged, n_trials=trials, callbacks=[told])
    return _suggested(optuna.trial.FixedTrial(study.best_params), settings)


def _as_they_are(settings: TrainingSettings) -> dict[str, float]:
    return {
        "text_rate": settings.text_rate,
        "head_rate": settings.head_rate,
        "dropout": settings.dropout,
        "weight_decay": settings.weight_decay,
        "tokens_dropped": settings.changes.tokens_dropped,
        "queries_changed": settings.changes.queries_changed,
    }


def _suggested(trial: Any, settings: TrainingSettings) -> TrainingSettings:
    changes: Changes = msgspec.structs.replace(
        settings.changes,
        tokens_dropped=trial.suggest_float("tokens_dropped", 0.0, 0.4),
        queries_changed=trial.suggest_float("queries_changed", 0.0, 0.3),
    )
    return msgspec.structs.replace(
        settings,
        text_rate=trial.suggest_float("text_rate", 5e-4, 5e-3, log=True),
        head_rate=trial.suggest_float("head_rate", 5e-4, 1e-2, log=True),
        dropout=trial.suggest_float("dropout", 0.0, 0.4),
        weight_decay=trial.suggest_float("weight_decay", 1e-3, 1e-1, log=True),
        changes=changes,
    )
