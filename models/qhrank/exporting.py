"""From trained weights to a version: the ONNX graph, its proof, and the weights for whoever goes on from them.

The graph has open batch and candidate axes, and is compared with the network at three batch sizes before anything is
written. It is traced by torch's older exporter: on this network it takes two seconds instead of ninety, its graph runs
a tenth faster, and its bytes are the same every time.

The golden set holds no near ties: two candidates whose scores differ by less than rounding may change places on another
processor, and a set that asks for one order of them would refuse a sound model there.
"""

import io
import warnings
import zipfile
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from models.cases import Cases
from models.encode import FEATURE, Tensors
from models.errors import ExportWrong, VersionDamaged
from models.export import BATCH, CANDIDATES, INPUTS, OUTPUT
from models.qhrank.batches import as_inputs
from models.qhrank.network import QHRank, Sizes
from models.qhrank.training import Weights
from models.registry import SCORE_TOLERANCE, TOP, Golden, top_places

WEIGHTS_FILE: Final = "weights.npz"
GOLDEN_ROWS: Final = 512
GOLDEN_CANDIDATES: Final = 48
CHECKED_BATCHES: Final = (1, 7, 64)
_OPSET: Final = 17
_SIZES: Final = "sizes"
_TIE: Final = 4 * SCORE_TOLERANCE
"""Scores nearer than this are not asked for in an order; padding, all of one score, is."""
_OUT_OF_REACH: Final = -1e6
"""No candidate scores as low; padding does."""


def graph_bytes(model: QHRank, example: Tensors) -> bytes:
    """The serialised ONNX model; `example` (two rows or more) is what it is traced with."""
    model.eval()
    inputs = as_inputs(example)
    both = {0: BATCH, 1: CANDIDATES}
    axes = {name: both if shape[1] == CANDIDATES else {0: BATCH} for name, (_, shape) in INPUTS.items()}
    sink = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that this exporter is the older one
        torch.onnx.export(
            model,
            tuple(inputs[name] for name in INPUTS),
            sink,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            opset_version=_OPSET,
            dynamic_axes={**axes, OUTPUT: both},
            dynamo=False,
        )
    return sink.getvalue()


def scores_of(model: QHRank, tensors: Tensors) -> npt.NDArray[np.float32]:
    """The network's scores (B, K)."""
    with torch.no_grad():
        scores: npt.NDArray[np.float32] = model(*(as_inputs(tensors)[name] for name in INPUTS)).numpy()
    return scores


def check_graph(graph: bytes, model: QHRank, cases: Cases, batches: Sequence[int] = CHECKED_BATCHES) -> float:
    """Compare the graph with the network at several batch sizes; returns the largest difference of a score.

    Raises ExportWrong when a score differs by more than 1e-4, or the ten best are others (near ties aside).
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for size in batches:
        rows = np.arange(size) * max(len(cases) // size, 1) % len(cases)
        tensors = cases.tensors(rows)
        wanted = scores_of(model, tensors)
        found: npt.NDArray[np.float32] = session.run([OUTPUT], tensors)[0]
        if found.shape != wanted.shape:
            raise ExportWrong(f"a batch of {size} gives scores of shape {found.shape}, the network {wanted.shape}")
        difference = float(np.abs(found - wanted).max())
        if not difference <= SCORE_TOLERANCE:
            raise ExportWrong(f"in a batch of {size} a score differs by {difference:.2g} from the network's")
        clear = decided(wanted)
        if (top_places(found)[clear] != top_places(wanted)[clear]).any():
            raise ExportWrong(f"in a batch of {size} the ten best are not the network's")
        worst = max(worst, difference)
    return worst


def decided(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Shape (n,): rows whose ten best, and the eleventh, are apart by more than rounding, or equal by construction."""
    best = -np.sort(-scores, axis=1)[:, : TOP + 1]
    gaps = best[:, :-1] - best[:, 1:]
    clear = (gaps > _TIE) | (gaps == 0) & (best[:, 1:] < _OUT_OF_REACH)
    return np.asarray(clear.all(axis=1))


def golden_set(model: QHRank, cases: Cases, rows: int = GOLDEN_ROWS) -> Golden:
    """Real inputs with the scores they must give, spread over the cases; every fourth row ends in padding.

    Raises VersionDamaged when fewer than a tenth of the cases have a clear order: such a model orders nothing.
    """
    wide = min(GOLDEN_CANDIDATES, cases.width)
    order = np.argsort(-(cases.candidate_feats[:, :, FEATURE["blend"]].astype(np.float32)), axis=1, kind="stable")
    places = np.sort(order[:, :wide], axis=1)
    places[np.take_along_axis(cases.candidate_items, places, axis=1) == 0] = -1
    places[::4, wide - wide // 6 :] = -1
    narrow = cases.with_candidates(places)
    narrow = narrow.take((narrow.candidate_items != 0).any(axis=1))
    scores = np.concatenate(
        [scores_of(model, narrow.tensors(slice(at, at + GOLDEN_ROWS))) for at in range(0, len(narrow), GOLDEN_ROWS)]
    )
    clear = np.flatnonzero(decided(scores))
    if len(clear) < max(len(narrow) // 10, 1):
        raise VersionDamaged(
            f"only {len(clear)} of {len(narrow)} rankings have a clear order; train longer, or on more searches"
        )
    chosen = clear[np.linspace(0, len(clear) - 1, min(rows, len(clear))).astype(np.int64)]
    return Golden(narrow.tensors(chosen), scores[chosen], top_places(scores[chosen]))


def weights_bytes(weights: Weights, sizes: Sizes) -> bytes:
    """The file of weights; the same weights give the same bytes."""
    sink = io.BytesIO()
    arrays: dict[str, Any] = dict(sorted(weights.items()))
    np.savez_compressed(sink, allow_pickle=False, **{_SIZES: np.array(msgspec.json.encode(sizes).decode())}, **arrays)
    return sink.getvalue()


def read_weights(content: bytes) -> tuple[dict[str, npt.NDArray[Any]], Sizes]:
    """What `weights_bytes` wrote. Raises VersionDamaged."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            sizes = msgspec.json.decode(str(arrays[_SIZES]), type=Sizes)
            return {name: arrays[name] for name in arrays.files if name != _SIZES}, sizes
    except (KeyError, ValueError, OSError, zipfile.BadZipFile, msgspec.DecodeError) as error:
        raise VersionDamaged(f"{WEIGHTS_FILE} holds no weights of QHRank ({error}); train the version again") from error
