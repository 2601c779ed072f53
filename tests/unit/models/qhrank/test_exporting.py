"""The exported graph is the network, and a version of it may serve."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from models.errors import ExportWrong, GoldenMismatch, VersionDamaged
from models.export import OUTPUT, PADDING_SCORE, triton_config
from models.registry import GOLDEN_FILE, METRICS_FILE, MODEL_FILE, compare_golden, golden_bytes, write_version
from services.inference.engine_options import Device, EngineOptions
from services.inference.loading import load
from services.inference.signature import Buckets
from tests.support.small_cases import small_cases

pytest.importorskip("torch", reason="exporting needs torch: make train-env")

import onnxruntime
import torch

from models.qhrank.exporting import (
    WEIGHTS_FILE,
    check_graph,
    golden_set,
    graph_bytes,
    read_weights,
    scores_of,
    weights_bytes,
)
from models.qhrank.network import QHRank, Sizes
from models.qhrank.training import network_of

SIZES = Sizes(dim=16, layers=1, heads=2, inner=24, item_buckets=101, hidden=8)
CASES = small_cases(90)


@pytest.fixture(scope="module")
def model() -> QHRank:
    """A network with weights as they might come out of training: none of them zero."""
    torch.manual_seed(3)
    made = QHRank(SIZES)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made.eval()


@pytest.fixture(scope="module")
def graph(model: QHRank) -> bytes:
    """Its graph."""
    return graph_bytes(model, CASES.tensors(slice(0, 2)))


def test_the_graph_scores_as_the_network_at_any_size(model: QHRank, graph: bytes) -> None:
    """Three batch sizes, and other numbers of candidates than it was traced with."""
    assert check_graph(graph, model, CASES) <= 1e-4
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for rows, candidates in ((1, 1), (5, 3), (64, 16)):
        tensors = CASES.tensors(slice(0, rows))
        for name in ("candidate_items", "candidate_feats"):
            tensors[name] = tensors[name][:, :candidates]
        np.testing.assert_allclose(session.run([OUTPUT], tensors)[0], scores_of(model, tensors), atol=1e-4)


def test_the_same_network_gives_the_same_bytes(model: QHRank, graph: bytes) -> None:
    """A version can be made again and compared."""
    assert graph_bytes(model, CASES.tensors(slice(0, 2))) == graph


def test_another_networks_graph_is_refused(model: QHRank, graph: bytes) -> None:
    """A graph that is not this network's is not written."""
    other = QHRank(SIZES)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.direct.weight.add_(0.01)
    with pytest.raises(ExportWrong, match="a score differs"):
        check_graph(graph, other.eval(), CASES)


def test_padding_scores_below_everything_and_changes_nothing(model: QHRank) -> None:
    """A list's scores are the same with padding after it."""
    tensors = CASES.tensors(slice(0, 8))
    wide = dict(tensors)
    for name in ("candidate_items", "candidate_feats"):
        more = np.zeros((8, 5, *tensors[name].shape[2:]), tensors[name].dtype)
        wide[name] = np.concatenate([tensors[name], more], axis=1)
    found = scores_of(model, wide)
    np.testing.assert_allclose(found[:, :16], scores_of(model, tensors), atol=1e-5)
    assert (found[wide["candidate_items"] == 0] == np.float32(PADDING_SCORE)).all()


def test_an_item_that_was_never_trained_on_is_judged_by_its_features() -> None:
    """A fresh network's text tower has no opinion of any item."""
    fresh = QHRank(SIZES).eval()
    tensors = CASES.tensors(slice(0, 8))
    tensors["query_tokens"] = np.roll(tensors["query_tokens"], 1, axis=0)
    np.testing.assert_allclose(scores_of(fresh, tensors), scores_of(fresh, CASES.tensors(slice(0, 8))), atol=1e-6)


def test_a_written_version_may_serve(model: QHRank, graph: bytes, tmp_path: Path) -> None:
    """The worker's own loading takes it: sums, golden set in buckets, warm-up."""
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    files = {
        MODEL_FILE: graph,
        GOLDEN_FILE: golden_bytes(golden_set(model, CASES, rows=40)),
        METRICS_FILE: b"{}",
        WEIGHTS_FILE: weights_bytes(weights, SIZES),
    }
    folder = write_version(tmp_path, "ranker", 7, files, triton_config("ranker"))
    proven = load(folder, EngineOptions(Device.CPU, 1, 1 << 30), Buckets((1, 4), (16, 32)), monotonic)
    assert proven.sha256
    back, sizes = read_weights((folder / WEIGHTS_FILE).read_bytes())
    again = network_of(back, sizes)
    assert np.array_equal(scores_of(again, CASES.tensors()), scores_of(model, CASES.tensors()))


def test_a_golden_set_asks_for_no_order_that_rounding_decides(model: QHRank) -> None:
    """Scores moved by as much as may be keep their order, also with padding among the places."""
    golden = golden_set(model, CASES, rows=40)
    assert (golden.inputs["candidate_items"] == 0).any()
    rng = np.random.Generator(np.random.PCG64(1))
    moved = golden.scores + rng.uniform(-9e-5, 9e-5, golden.scores.shape).astype(np.float32)
    moved[golden.inputs["candidate_items"] == 0] = np.float32(PADDING_SCORE)
    compare_golden(golden, moved)
    with pytest.raises(GoldenMismatch):
        compare_golden(golden, golden.scores + np.float32(2e-4))


def test_a_model_that_orders_nothing_has_no_golden_set() -> None:
    """All scores alike: refused, with what to do."""
    blank = QHRank(SIZES)
    with torch.no_grad():
        blank.direct.weight.zero_()
    with pytest.raises(VersionDamaged, match="have a clear order"):
        golden_set(blank.eval(), CASES)


def test_weights_that_are_none_are_named() -> None:
    """Half a file of weights is refused with the next step."""
    with pytest.raises(VersionDamaged, match="train the version again"):
        read_weights(b"PK half")
