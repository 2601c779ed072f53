"""The small ranker learns from made-up shops, and the same seed gives the same bytes."""

from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest

from models.encode import FEATURE, FEATURE_NAMES
from models.errors import GoldenMismatch, VersionDamaged
from models.evaluation.entrants import onnx_scorer
from models.export import INPUTS, PADDING_SCORE, Weights, graph_bytes, triton_config
from models.fit import Lists, fit
from models.records import SearchRecord
from models.registry import compare_golden, load_version
from models.shop import ShopSettings, generate
from models.train import LIST_LENGTH, collect, moments, one_list, rank_in, shop_family, train
from models.walk import Walk, steps
from streams.hashing import item_hash

SHIPPED = Path(__file__).parents[3] / "models/repository/ranker/1"
SHOP = ShopSettings(seed=21, items=80, searches=400, users=80, days=10)


def some_weights() -> Weights:
    """Weights of a model that nobody trained."""
    rng = np.random.default_rng(5)
    count = len(FEATURE_NAMES)
    draw = [rng.normal(size=size).astype(np.float32) for size in (count, (count, 3), 3, 3)]
    return Weights(*draw)


def session_of(graph: bytes) -> onnxruntime.InferenceSession:
    """The graph on ONNX Runtime."""
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def inputs_of(rows: int, candidates: int) -> dict[str, np.ndarray]:
    """Random inputs of the declared types, the last two candidates of the last row being padding."""
    rng = np.random.default_rng(rows)
    types = {"INT32": np.int32, "INT64": np.int64, "FP32": np.float32}
    sizes: dict[int | str, int] = {"batch": rows, "candidates": candidates}
    made = {
        name: rng.integers(1, 99, [sizes[size] if isinstance(size, str) else size for size in shape]).astype(
            types[kind]
        )
        for name, (kind, shape) in INPUTS.items()
    }
    made["candidate_feats"] = rng.normal(size=made["candidate_feats"].shape).astype(np.float32)
    made["candidate_items"][-1, -2:] = 0
    return made


def test_the_graph_scores_like_the_weights_at_any_size() -> None:
    """One graph for every number of rows and candidates; no row depends on another or on padding."""
    weights = some_weights()
    session = session_of(graph_bytes(weights))
    for rows, candidates in ((1, 3), (2, 3), (7, 200), (64, 17)):
        inputs = inputs_of(rows, candidates)
        scores = session.run(["scores"], inputs)[0]
        assert scores.shape == (rows, candidates) and scores.dtype == np.float32
        expected = weights.score(inputs["candidate_feats"])
        expected[-1, -2:] = PADDING_SCORE
        assert np.allclose(scores, expected, atol=1e-4)


def test_the_graph_declares_every_input_of_the_full_ranker() -> None:
    """Callers send one set of tensors, whatever model serves; the run-time keeps inputs that are not looked at."""
    declared = {node.name: node.shape for node in session_of(graph_bytes(some_weights())).get_inputs()}
    assert declared == {name: list(shape) for name, (_, shape) in INPUTS.items()}
    config = triton_config("ranker")
    assert all(f'name: "{name}"' in config for name in (*INPUTS, "scores", "ranker"))


def test_fitting_finds_what_decides() -> None:
    """Where one feature alone decides the click, its weight wins; a prior is kept where nothing speaks against it."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(600, 10, 4)).astype(np.float32)
    best = features[:, :, 2].argmax(axis=1)
    features[np.arange(600), best], features[:, 0] = features[:, 0].copy(), features[np.arange(600), best].copy()
    known = np.ones((600, 10), bool)
    known[:, -1] = False
    lists = Lists(features[:500], known[:500])
    fitted = fit(lists, Lists(features[500:], known[500:]), seed=1, hidden=2, decay=1e-3, iterations=60)
    scores = fitted.weights.score(features[500:, :9])
    assert (scores.argmax(axis=1) == 0).mean() > 0.95
    assert fitted.held_out_loss < 0.5 < np.log(9)
    prior = np.array([0, 3, 0, 0], np.float32)
    kept = fit(lists, lists, seed=1, prior=prior, hidden=2, decay=1e3, iterations=20).weights
    assert np.allclose(kept.direct, prior, atol=0.01)


def test_lists_are_taken_before_their_click() -> None:
    """The first search of a shop knows no click at all, its own included."""
    first = next(moments(SHOP))
    features = first.tensors["candidate_feats"][0]
    assert not features[:, FEATURE["popularity_share_long"]].any()
    place = first.candidates.items.tolist().index(item_hash(first.search.clicked))
    assert not features[place, FEATURE["query_share_long"]]


def test_the_clicked_candidate_stands_first_in_its_list() -> None:
    """Place 0 is the label; the others are rivals of the same search, none twice."""
    rng = np.random.default_rng(0)
    for moment in list(moments(SHOP))[50:80]:
        features = one_list(moment, rng)
        place = np.flatnonzero(moment.candidates.items == np.uint64(item_hash(moment.search.clicked)))
        if features is None:
            assert not len(place)
            continue
        assert features.shape == (LIST_LENGTH, len(FEATURE_NAMES))
        assert np.array_equal(features[0], moment.tensors["candidate_feats"][0, place[0]])
        assert (~np.isnan(features[:, 0])).sum() == min(LIST_LENGTH, len(moment.candidates))


def test_held_out_lists_are_the_end_of_time() -> None:
    """About a sixth of the lists is kept apart, and there is something in both parts."""
    learn, judge = collect(shop_family(3, 300, shops=2), 3)
    assert len(learn) > 3 * len(judge) > 0


@pytest.mark.timeout(300)
def test_same_seed_same_bytes(tmp_path: Path) -> None:
    """Trained twice, every file of the version is the same; it loads, proves itself, and is better than chance."""
    folders = [train(tmp_path / name / "ranker", 1, seed=3, searches=400, iterations=12) for name in ("a", "b")]
    for name in ("manifest.json", "model.onnx", "golden.npz", "metrics.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name
    onnx_scorer(folders[0])
    metrics = load_version(folders[0]).metrics
    assert metrics["unseen_shop"]["model"]["mrr_at_5"] > metrics["unseen_shop"]["popularity"]["mrr_at_5"]


def test_the_shipped_version_proves_itself() -> None:
    """Sums, golden set (64 rows and more) and size of what is shipped, for the features of this code."""
    version = load_version(SHIPPED)
    session = onnxruntime.InferenceSession(str(version.model_path), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["features"] == " ".join(FEATURE_NAMES)
    scores = session.run(["scores"], version.golden.inputs)[0]
    compare_golden(version.golden, scores)
    assert len(version.golden.scores) >= 64 and (version.golden.scores == PADDING_SCORE).any()
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 300_000
    assert version.metrics["trained_on"] == "generated shops"
    figures = version.metrics["unseen_shop"]
    assert figures["model"]["mrr_at_5"] > max(
        figures[name]["mrr_at_5"] for name in ("counters", "query_table", "popularity")
    )


def test_a_model_with_other_weights_is_refused(tmp_path: Path) -> None:
    """A well-formed graph under a mended manifest is still not the model that was trained."""
    import hashlib
    import shutil

    folder = tmp_path / "1"
    shutil.copytree(SHIPPED, folder)
    (folder / "model.onnx").write_bytes(graph_bytes(some_weights()))
    with pytest.raises(VersionDamaged, match=r"model\.onnx"):
        onnx_scorer(folder)
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes())
    manifest["model.onnx"] = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(GoldenMismatch):
        onnx_scorer(folder)


def test_ranks_count_ties_by_place_and_misses_as_none() -> None:
    """A tie goes to the smaller hash; a clicked item that is no candidate has no rank."""
    source = generate(SHOP)
    walk = Walk()
    for step in steps(source, 1):
        if isinstance(step, SearchRecord):
            moment = walk.ask(step)
            count = len(moment.candidates)
            place = moment.candidates.items.tolist().index(item_hash(step.clicked))
            assert rank_in(moment, np.zeros(count, np.float32)) == place + 1
            assert rank_in(moment, np.arange(count, dtype=np.float32)) == count - place
            missed = msgspec.structs.replace(step, clicked="not in the catalogue")
            assert rank_in(walk.ask(missed), np.zeros(count, np.float32)) == 0
        walk.tell(step)


def test_importing_models_loads_no_runtime() -> None:
    """Whoever only ranks pays for no inference run-time, no exporter and no service."""
    import subprocess
    import sys

    names = sorted(path.stem for path in SHIPPED.parents[2].glob("*.py") if path.stem != "__init__")
    heavy = {"onnxruntime", "onnx", "torch", "services"}
    code = (
        f"import sys\nfor name in {names}: __import__('models.' + name)\n"
        f"print(sorted({{name.partition('.')[0] for name in sys.modules}} & {heavy}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"PYTHONPATH": "."}
    )
    assert len(names) > 15
    assert done.stdout.strip() == "[]"
