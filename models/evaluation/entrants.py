"""Who takes part: every baseline frozen and fed, and models with counters as of the split and as of now.

An entrant scores the whole catalogue for a question. Models and the counters rung score the candidates that retrieval
proposes; all other items share the last places.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.encode import Tensors, counters_score
from models.evaluation.counting import Baseline, Bm25, Popularity, QueryTable
from models.evaluation.metrics import Values
from models.evaluation.neighbours import ItemKnn, Vsknn
from models.evaluation.questions import Question, Shelf
from models.export import OUTPUT
from models.registry import compare_golden, load_version
from models.walk import Step

Scorer = Callable[[Tensors], npt.NDArray[np.float32]]
"""The six tensors of one ask (B = 1) into a score for each of its K candidates, shape (K,)."""
FED: Final = "+stream"
"""Ends the name of whoever knows what happened since the split."""
COUNTERS: Final = "counters"
"""The ladder's second rung: the order of the counters alone, over the same candidates and features as the models."""
_LEARNING: Final[dict[str, Callable[[Shelf], Baseline]]] = {
    "popularity": Popularity,
    "query_table": QueryTable,
    "item_knn": ItemKnn,
    "vsknn": Vsknn,
}


@dataclass(frozen=True, slots=True)
class Entrant:
    """One ranker, as it is judged."""

    name: str
    fed: bool
    """Whether it is told what happens after the split."""
    is_model: bool
    scores: Callable[[Question], Values]
    """A score for each column of the shelf, shape (items,)."""
    learn: Callable[[Step], None] | None = None


def baselines(shelf: Shelf) -> list[Entrant]:
    """Those that learn nothing but counts, each frozen at the split and, where it learns from clicks, fed."""
    found: list[Entrant] = []
    for name, make in _LEARNING.items():
        for fed in (False, True):
            one = make(shelf)
            found.append(Entrant(name + FED * fed, fed, False, one.scores, one.learn))
    titles = Bm25(shelf)
    found.insert(2 * 2, Entrant("bm25", False, False, titles.scores, titles.learn))
    return [*found, *_of_scorer(COUNTERS, counters_score, shelf, is_model=False)]


def models(scorers: Mapping[str, Scorer], shelf: Shelf) -> list[Entrant]:
    """Each model twice: with counters as of the split, and as of now."""
    return [entrant for name, scorer in scorers.items() for entrant in _of_scorer(name, scorer, shelf, is_model=True)]


def _of_scorer(name: str, scorer: Scorer, shelf: Shelf, *, is_model: bool) -> list[Entrant]:
    def scores(question: Question, *, fed: bool) -> Values:
        moment = question.fed if fed else question.frozen
        found: Values = np.full(len(shelf), -np.inf)
        if len(moment.candidates):
            found[shelf.columns_of(moment.candidates.items)] = scorer(moment.tensors)
        return found

    return [
        Entrant(name, False, is_model, lambda question: scores(question, fed=False)),
        Entrant(name + FED, True, is_model, lambda question: scores(question, fed=True)),
    ]


def onnx_scorer(folder: Path) -> Scorer:
    """A version on ONNX Runtime, one thread, after its manifest and its golden set were checked.

    Raises VersionDamaged and GoldenMismatch.
    """
    import onnxruntime

    version = load_version(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(version.model_path), options, providers=["CPUExecutionProvider"])
    compare_golden(version.golden, session.run([OUTPUT], version.golden.inputs)[0])

    def score(tensors: Tensors) -> npt.NDArray[np.float32]:
        scores: npt.NDArray[Any] = session.run([OUTPUT], tensors)[0][0]
        return scores

    return score
