"""Making a version of `similar`: item vectors of a QHRank version, three numbers chosen, and the usual proof.

QHRank's vectors learned from the rows before its frontier, but for the last ninth, which only decided when to stop. The
numbers are chosen on the pairs of that ninth, where vectors and co-clicks are as much worth as they will be in use:
on pairs that the vectors learned from they would be believed too much.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.code_version import code_version
from models.errors import ExportWrong, SourceUnreadable
from models.export import OUTPUT, triton_config
from models.frontier import rows_frontier
from models.records import Source
from models.registry import (
    GOLDEN_FILE,
    METRICS_FILE,
    MODEL_FILE,
    SCORE_TOLERANCE,
    TOP,
    About,
    Golden,
    golden_bytes,
    load_version,
    top_places,
    write_version,
)
from models.similar.blend import MODEL, WITHOUT_VECTORS, Blend, Float, blended, cosines, graph_bytes, item_vectors
from models.similar.pairs import Pairs, baselines, collect_pairs, hits, log_share, reciprocal_ranks

HELD_OUT_SHARE: Final = 1 / 9
PAIRS_MIN: Final = 50
"""With fewer, the choice is chance."""
GOLDEN_ROWS: Final = 512
GOLDEN_CANDIDATES: Final = 48
CHECKED_BATCHES: Final = (1, 7, 64)
WEIGHTS_FILE: Final = "weights.npz"
EMBEDDINGS: Final = (0.0, 4.0, 8.0, 16.0)
TITLES: Final = (0.0, 2.0, 4.0, 8.0)
WORTHS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
_TIE: Final = 4 * SCORE_TOLERANCE


@dataclass(frozen=True, slots=True)
class Made:
    """A version that was written, and how good it is."""

    folder: Path
    blend: Blend
    figures: dict[str, Any]
    """`chosen_on` and `judged_on`: pairs, and by ranker MRR@10 and the share of hits among the first ten."""


def make(
    source: Source,
    base: Path,
    repository: Path,
    version: int,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> Made:
    """Write a version of `similar` over the vectors of the QHRank version in the folder `base`.

    The rows after the base's frontier judge it, and decide nothing. Raises SourceUnreadable (too few pairs),
    VersionDamaged (the base), ExportWrong (the graph does not score as the formula).
    """
    of = load_version(base)
    if WEIGHTS_FILE not in of.manifest.files:
        raise SourceUnreadable(f"{base} holds no {WEIGHTS_FILE}: only a version of QHRank has item vectors")
    end = of.manifest.frontier.get("rows")
    if not isinstance(end, int) or not 0 < end <= len(source.searches):
        raise SourceUnreadable(
            f"{of.label} was trained up to row {end} of {of.manifest.trained_on or 'something unnamed'}, which "
            f"{source.name} ({len(source.searches)} rows) does not have; give the log that it was trained on"
        )
    vectors = item_vectors((base / WEIGHTS_FILE).read_bytes())
    first = end - int(end * HELD_OUT_SHARE)
    pairs = collect_pairs(source, first=first, on_progress=on_progress)
    chosen_on, judged_on = pairs.between(first, end), pairs.between(end, len(source.searches))
    if len(chosen_on) < PAIRS_MIN:
        raise SourceUnreadable(
            f"{source.name} has {len(chosen_on)} pairs of clicks in one session among rows {first + 1} to {end}, which "
            f"{of.label} held out; at least {PAIRS_MIN} are needed. Next: a version that was trained on this log"
        )
    blend = chosen(chosen_on, vectors)
    blends = {"all": blend, "embeddings_and_co_clicks": chosen(chosen_on, vectors, titles=(0.0,))}
    graph = graph_bytes(blend, vectors)
    check_graph(graph, blend, vectors, chosen_on)
    figures = {
        "model": "item vectors and co-clicks",
        "base": {"label": of.label, "sha256": of.sha256},
        "blend": msgspec.to_builtins(blend),
        "chosen_on": judged(chosen_on, blends, vectors),
        "judged_on": judged(judged_on, blends, vectors),
    }
    files = {
        MODEL_FILE: graph,
        GOLDEN_FILE: golden_bytes(golden_set(blend, vectors, chosen_on)),
        METRICS_FILE: msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n",
    }
    about = About(
        trained_on=source.name,
        frontier=msgspec.to_builtins(rows_frontier(source, end)),
        seed=of.manifest.seed,
        code_version=code_version(),
        metrics={"mrr_at_10": figures["chosen_on"]["rankers"]["all"]["mrr_at_10"]},
    )
    return Made(write_version(repository, MODEL, version, files, triton_config(MODEL), about), blend, figures)


def chosen(pairs: Pairs, vectors: Float, titles: tuple[float, ...] = TITLES) -> Blend:
    """The numbers under which what was clicked is likeliest; a few hundred ranks are too coarse to choose by."""
    cosine = cosines(vectors, pairs.tensors)
    ways = [Blend(embedding=a, title=b, worth=k) for a, b, k in itertools.product(EMBEDDINGS, titles, WORTHS)]
    return max(ways, key=lambda way: log_share(blended(way, cosine, pairs.tensors), pairs))


def judged(pairs: Pairs, blends: dict[str, Blend], vectors: Float) -> dict[str, Any]:
    """MRR@10 and hits among the first ten of every signal alone and of blends of them."""
    cosine = cosines(vectors, pairs.tensors)
    rankers = baselines(pairs, cosine)
    rankers["co_clicks_and_title"] = blended(WITHOUT_VECTORS, np.zeros_like(cosine), pairs.tensors)
    rankers |= {name: blended(blend, cosine, pairs.tensors) for name, blend in blends.items()}
    return {
        "pairs": len(pairs),
        "rankers": {
            name: {"mrr_at_10": _mean(reciprocal_ranks(found, pairs)), "hit_at_10": _mean(hits(found, pairs))}
            for name, found in rankers.items()
        },
    }


def _mean(values: npt.NDArray[np.float64]) -> float:
    return round(float(values.mean()), 6) if len(values) else 0.0


def check_graph(graph: bytes, blend: Blend, vectors: Float, pairs: Pairs) -> float:
    """Compare the graph with the formula at three batch sizes; returns the largest difference. Raises ExportWrong."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for size in CHECKED_BATCHES:
        rows = np.arange(size) % len(pairs)
        tensors = {name: array[rows] for name, array in pairs.tensors.items()}
        wanted = blended(blend, cosines(vectors, tensors), tensors)
        found = session.run([OUTPUT], tensors)[0]
        difference = float(np.abs(found - wanted).max()) if found.shape == wanted.shape else float("inf")
        if not difference <= SCORE_TOLERANCE:
            raise ExportWrong(f"in a batch of {size} a score differs by {difference:.2g} from the formula's")
        worst = max(worst, difference)
    return worst


def golden_set(blend: Blend, vectors: Float, pairs: Pairs) -> Golden:
    """Up to 512 questions with the scores they must give, candidates the best and every fourth row with padding.

    Candidates whose scores are too near to each other to be told apart on another processor are left out.
    """
    scores = blended(blend, cosines(vectors, pairs.tensors), pairs.tensors)
    kept = np.full((len(pairs), GOLDEN_CANDIDATES), -1)
    for row, given in enumerate(scores):
        places = _apart(given, pairs.tensors["candidate_items"][row] != 0)
        places = places[: GOLDEN_CANDIDATES - (GOLDEN_CANDIDATES // 6 if row % 4 == 0 else 0)]
        kept[row, : len(places)] = np.sort(places)
    rows = np.flatnonzero((kept[:, :TOP] >= 0).all(axis=1))[:GOLDEN_ROWS]
    if not len(rows):
        raise ExportWrong("no question has ten candidates whose scores differ: such a model orders nothing")
    at = kept[rows]
    inputs = {name: array[rows] for name, array in pairs.tensors.items()}
    items = np.take_along_axis(inputs["candidate_items"], np.maximum(at, 0), axis=1)
    feats = np.take_along_axis(inputs["candidate_feats"], np.maximum(at, 0)[:, :, None], axis=1)
    inputs |= {"candidate_items": np.where(at < 0, 0, items), "candidate_feats": np.where(at[..., None] < 0, 0, feats)}
    narrow = blended(blend, cosines(vectors, inputs), inputs)
    return Golden(inputs, narrow, top_places(narrow))


def _apart(scores: Float, there: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Places of the candidates from the best on, without those that all but tie with the one before."""
    order = np.argsort(-scores, kind="stable")
    order = order[there[order]]
    found: list[int] = []
    for place in order.tolist():
        if not found or scores[found[-1]] - scores[place] > _TIE:
            found.append(place)
    return np.array(found, np.int64)
