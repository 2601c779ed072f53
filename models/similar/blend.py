"""How much an item goes with another: clicks on both in one session, and before there are any, likeness.

    score(j | i) = log( (c_ij + k p_ij) / (sum over the candidates of c_ij + k) )
    p_ij proportional to exp(a cos(v_i, v_j) + b title_ij + log(popularity_j + 0.01))

c_ij are the sessions of the last weeks with clicks on both (the features `co_clicks`), v the item vectors that QHRank
learned, title_ij the feature `coverage`. It is the Dirichlet prior of `models.encode` once more: counts, backed off to
a guess that is worth k of them. The three numbers a, b, k are chosen on pairs that the vectors did not learn from.

Counters stay features: a click counts for the very next answer. The item asked about is the first of the history.
"""

import io
import zipfile
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.encode import FEATURE, FEATURE_NAMES, Tensors
from models.errors import VersionDamaged
from models.export import BATCH, CANDIDATES, INPUTS, OUTPUT, PADDING_SCORE

MODEL: Final = "similar"
"""Its name in the registry."""
DAMPING: Final = 0.3
"""Vectors much shorter than this count as none, as in the network that learned them."""
POPULARITY_FLOOR: Final = 0.01
VECTORS: Final = "text.items.weight"
"""The item table among QHRank's weights."""
_OPSET, _IR_VERSION = 17, 8
_FAR: Final = -1e4
Float = npt.NDArray[np.float32]


class Blend(msgspec.Struct, frozen=True, kw_only=True):
    """The three numbers."""

    embedding: float
    """a: how sharply likeness of the vectors decides."""
    title: float
    """b: the same for words of the title."""
    worth: float
    """k: how many co-clicks the guess is worth; above 0."""


WITHOUT_VECTORS: Final = Blend(embedding=0.0, title=4.0, worth=4.0)
"""Of the counters rung."""


def item_vectors(weights: bytes) -> Float:
    """Shape (buckets + 1, d), each at a length just under 1, out of the `weights.npz` of a QHRank version.

    Raises VersionDamaged.
    """
    try:
        with np.load(io.BytesIO(weights), allow_pickle=False) as arrays:
            table: Float = arrays[VECTORS].astype(np.float32)
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise VersionDamaged(f"there are no item vectors of QHRank ({error}); name a version of QHRank") from error
    if table.ndim != 2 or len(table) < 2 or not np.isfinite(table).all():
        raise VersionDamaged("the item vectors are no table of numbers; train the version again")
    lengths = np.sqrt((table.astype(np.float64) ** 2).sum(axis=1, keepdims=True) + DAMPING**2)
    short: Float = (table / lengths).astype(np.float32)
    return short


def cosines(vectors: Float, tensors: Tensors) -> Float:
    """Damped cosine (n, K) of each candidate with the first item of the history."""
    anchor = vectors[_buckets(tensors["history_items"][:, 0], len(vectors) - 1)]
    found: Float = np.einsum("nkd,nd->nk", vectors[_buckets(tensors["candidate_items"], len(vectors) - 1)], anchor)
    return found


def blended(blend: Blend, cosine: Float, tensors: Tensors) -> Float:
    """Scores (n, K): what the graph gives, in NumPy."""
    features, padding = tensors["candidate_feats"], tensors["candidate_items"] == 0
    clicks = np.expm1(features[..., FEATURE["co_clicks"]])
    popularity = np.log(features[..., FEATURE["popularity_share_long"]] + POPULARITY_FLOOR)
    guess = blend.embedding * cosine + blend.title * features[..., FEATURE["coverage"]] + popularity
    guess = np.where(padding, _FAR, guess)
    weights = np.exp(guess - guess.max(axis=1, keepdims=True))
    prior = weights / weights.sum(axis=1, keepdims=True)
    share = (clicks + blend.worth * prior) / (clicks.sum(axis=1, keepdims=True) + blend.worth)
    return np.where(padding, PADDING_SCORE, np.log(share + 1e-9)).astype(np.float32)


def counters_alone(tensors: Tensors) -> Float:
    """The counters rung for `similar`, shape (K,): the same share without vectors.

    All zero when no click on any candidate is known, as `models.encode.counters_score`.
    """
    features = tensors["candidate_feats"]
    if not features[..., FEATURE["popularity_share_long"]].any():
        return np.zeros(features.shape[1], np.float32)
    found: Float = np.exp(blended(WITHOUT_VECTORS, np.zeros(features.shape[:2], np.float32), tensors))[0]
    return found


def _buckets(items: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    return np.where(items == 0, 0, 1 + items % count)


def graph_bytes(blend: Blend, vectors: Float) -> bytes:
    """The serialised ONNX model, with open batch and candidate axes. Needs `onnx`; the same numbers, the same bytes."""
    from onnx import TensorProto, checker, helper, numpy_helper

    types = {"INT32": TensorProto.INT32, "INT64": TensorProto.INT64, "FP32": TensorProto.FLOAT}
    graph = helper.make_graph(
        [_node(helper.make_node, *node) for node in _nodes()],
        MODEL,
        [helper.make_tensor_value_info(name, types[kind], shape) for name, (kind, shape) in INPUTS.items()],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, CANDIDATES])],
        [numpy_helper.from_array(value, name) for name, value in _constants(blend, vectors).items()],
    )
    model = helper.make_model(
        graph,
        producer_name="meridian",
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    model.metadata_props.add(key="features", value=" ".join(FEATURE_NAMES))
    checker.check_model(model)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def _constants(blend: Blend, vectors: Float) -> dict[str, npt.NDArray[Any]]:
    numbers = {
        "embedding": blend.embedding,
        "title": blend.title,
        "worth": blend.worth,
        "unit": 1.0,
        "floor": POPULARITY_FLOOR,
        "tiny": 1e-9,
        "far": _FAR,
        "padding_score": PADDING_SCORE,
    }
    places = {name: np.array(FEATURE[name], np.int64) for name in ("co_clicks", "popularity_share_long", "coverage")}
    return {
        "vectors": vectors,
        **{name: np.array(value, np.float32) for name, value in numbers.items()},
        **{f"at_{name}": place for name, place in places.items()},
        "none": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "first": np.array([0], np.int64),
        "buckets": np.array(len(vectors) - 1, np.int64),
        "last_axis": np.array([-1], np.int64),
        "along": np.array([1], np.int64),
    }


def _node(make: Any, kind: str, taken: tuple[str, ...], given: str, attributes: dict[str, int]) -> Any:
    return make(kind, list(taken), [given], **attributes)


def _nodes() -> list[tuple[str, tuple[str, ...], str, dict[str, int]]]:
    """Operator, inputs, output, attributes."""

    def bucketed(items: str, out: str) -> list[tuple[str, tuple[str, ...], str, dict[str, int]]]:
        return [
            ("Mod", (items, "buckets"), f"{out}_rest", {}),
            ("Add", (f"{out}_rest", "one"), f"{out}_filled", {}),
            ("Equal", (items, "none"), f"{out}_absent", {}),
            ("Where", (f"{out}_absent", "none", f"{out}_filled"), f"{out}_bucket", {}),
            ("Gather", ("vectors", f"{out}_bucket"), out, {"axis": 0}),
        ]

    def feature(name: str) -> tuple[str, tuple[str, ...], str, dict[str, int]]:
        return "Gather", ("candidate_feats", f"at_{name}"), name, {"axis": 2}

    return [
        ("Gather", ("history_items", "first"), "asked", {"axis": 1}),
        *bucketed("asked", "anchor"),
        *bucketed("candidate_items", "others"),
        ("Mul", ("others", "anchor"), "products", {}),
        ("ReduceSum", ("products", "last_axis"), "cosine", {"keepdims": 0}),
        *map(feature, ("co_clicks", "popularity_share_long", "coverage")),
        ("Exp", ("co_clicks",), "clicks_and_one", {}),
        ("Sub", ("clicks_and_one", "unit"), "clicks", {}),
        ("Add", ("popularity_share_long", "floor"), "popular", {}),
        ("Log", ("popular",), "popularity", {}),
        ("Mul", ("cosine", "embedding"), "by_vector", {}),
        ("Mul", ("coverage", "title"), "by_title", {}),
        ("Sum", ("by_vector", "by_title", "popularity"), "open_guess", {}),
        ("Where", ("others_absent", "far", "open_guess"), "guess", {}),
        ("Softmax", ("guess",), "prior", {"axis": 1}),
        ("Mul", ("prior", "worth"), "owed", {}),
        ("Add", ("clicks", "owed"), "counted", {}),
        ("ReduceSum", ("clicks", "along"), "clicks_sum", {"keepdims": 1}),
        ("Add", ("clicks_sum", "worth"), "sum", {}),
        ("Div", ("counted", "sum"), "share", {}),
        ("Add", ("share", "tiny"), "some_share", {}),
        ("Log", ("some_share",), "scored", {}),
        ("Where", ("others_absent", "padding_score", "scored"), OUTPUT, {}),
    ]
