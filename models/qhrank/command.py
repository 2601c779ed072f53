"""Training on a log from end to end: walk it, split it by time, fit, prove the export, write a version.

The last part of the rows in time is held out to choose by (`models.data.splits`: nothing that is learned from reaches
into it), and nothing of the log after `end` is looked at: whoever wants to judge a version on later rows gives the row
to end before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from models.cases import collect_cases
from models.code_version import code_version
from models.data.logged import frontier_of
from models.data.splits import cases_of, time_split
from models.errors import SourceUnreadable
from models.export import triton_config
from models.qhrank.exporting import (
    WEIGHTS_FILE,
    check_graph,
    golden_set,
    graph_bytes,
    read_weights,
    weights_bytes,
)
from models.qhrank.training import Progress, Trained, TrainingSettings, fit, network_of
from models.qhrank.tuning import Trial, search
from models.records import Source
from models.registry import (
    GOLDEN_FILE,
    METRICS_FILE,
    MODEL_FILE,
    About,
    golden_bytes,
    load_version,
    write_version,
)

SEARCHES_MIN: Final = 300
LEARNED_MAX: Final = 60_000
"""Searches that are learned from, the newest: more would not fit into 4 GB."""
WITHOUT_QUERY_EVERY: Final = 6
"""Every so many searches of users with a history, their list is also learned from as for a home page."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told how far it is."""

    walked: Callable[[int, int], None] = lambda *_: None
    trained: Callable[[Progress], None] = lambda _: None
    tried: Callable[[Trial], None] = lambda _: None
    said: Callable[[str], None] = lambda _: None


class TrainingRun(msgspec.Struct, frozen=True, kw_only=True):
    """What to train, and where to."""

    repository: Path
    model: str = "ranker"
    version: int
    end: int | None = None
    """The row to end before; the last one of the log without it."""
    held_out_share: float = 1 / 9
    trials: int = 0
    """Of a search for settings; 0 takes them as they are."""
    resume: Path | None = None
    base: Path | None = None
    """Folder of a version to go on from."""


def train(source: Source, run: TrainingRun, settings: TrainingSettings, listener: Listener | None = None) -> Path:
    """Train and write a version; returns its folder.

    Raises SourceUnreadable (too little to learn from), CheckpointUnfit, VersionDamaged, ExportWrong.
    """
    listener = listener or Listener()
    end = min(run.end or len(source.searches), len(source.searches))
    if end < SEARCHES_MIN:
        raise SourceUnreadable(f"{source.name} has {end} rows before the end; at least {SEARCHES_MIN} are needed")
    base, settings = _base(run.base, settings)
    first = max(end - LEARNED_MAX, 0)
    cases = collect_cases(
        source,
        first=first,
        end=end,
        without_query_every=WITHOUT_QUERY_EVERY,
        half_precision=True,
        on_progress=listener.walked,
    )
    edge = end - int((end - first) * run.held_out_share)
    split = time_split(source.searches, first=first, choose=end - edge, test=0, end=end)
    learned, held_out = cases_of(cases, split.fit), cases_of(cases, split.choose)
    held_out = held_out.take(held_out.query != "")
    del cases
    if run.trials:
        settings = search(learned, held_out, settings, run.trials, base=base, on_trial=listener.tried)
    trained = fit(learned, held_out, settings, resume=run.resume, base=base, on_progress=listener.trained)
    model = network_of(trained.weights, trained.sizes)
    graph = graph_bytes(model, held_out.tensors(np.arange(2) % len(held_out)))
    difference = check_graph(graph, model, held_out)
    listener.said(f"the graph scores as the network does, within {difference:.1g}")
    facts = _facts(source, run, settings, trained, (len(learned), len(held_out), end))
    files = {
        MODEL_FILE: graph,
        GOLDEN_FILE: golden_bytes(golden_set(model, held_out)),
        METRICS_FILE: msgspec.json.format(msgspec.json.encode(facts), indent=1) + b"\n",
        WEIGHTS_FILE: weights_bytes(trained.weights, trained.sizes),
    }
    about = About(
        trained_on=source.name,
        frontier=msgspec.to_builtins(frontier_of(source, end)),
        seed=settings.seed,
        code_version=code_version(),
        metrics=_headline(trained),
    )
    return write_version(run.repository, run.model, run.version, files, triton_config(run.model), about)


def _base(folder: Path | None, settings: TrainingSettings) -> tuple[Mapping[str, Any] | None, TrainingSettings]:
    """The weights to go on from, and the settings with their sizes."""
    if folder is None:
        return None, settings
    version = load_version(folder)
    path = version.folder / WEIGHTS_FILE
    if not path.exists():
        raise SourceUnreadable(f"{folder} holds no {WEIGHTS_FILE}: only a version of QHRank can be gone on from")
    weights, sizes = read_weights(path.read_bytes())
    return weights, msgspec.structs.replace(settings, sizes=sizes)


def _headline(trained: Trained) -> dict[str, float]:
    return {
        "held_out_mrr_at_5": trained.judged.with_counters.mrr_at_5,
        "held_out_ndcg_at_10": trained.judged.with_counters.ndcg_at_10,
        "held_out_mrr_at_5_without_counters": trained.judged.without_counters.mrr_at_5,
    }


def _facts(
    source: Source, run: TrainingRun, settings: TrainingSettings, trained: Trained, counts: tuple[int, int, int]
) -> dict[str, Any]:
    learned, held_out, end = counts
    return {
        "model": "qhrank",
        "trained_on": source.name,
        "frontier": frontier_of(source, end),
        "code_version": code_version(),
        "settings": settings,
        "seed": settings.seed,
        "based_on": str(run.base.name) if run.base else "",
        "cases_learned": learned,
        "cases_held_out": held_out,
        "head_epoch": trained.epoch,
        "text_epochs": trained.text_epoch,
        "held_out": trained.judged,
        "parameters": sum(int(array.size) for array in trained.weights.values()),
    }
