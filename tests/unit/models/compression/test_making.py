"""What each step makes: smaller, and as it says it is."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.small_cases import small_cases

pytest.importorskip("torch", reason="compressing needs torch: make train-env")
pytest.importorskip("onnx", reason="compressing needs onnx: make train-env")

import torch

from models.compression.graphs import halved, in_eight_bits, opened, paces, scored
from models.compression.pruning import pruned
from models.compression.student import StudentSettings, fresh, narrowed, taught
from models.errors import SourceUnreadable
from models.qhrank.exporting import graph_bytes, scores_of
from models.qhrank.network import QHRank, Sizes
from models.qhrank.training import network_of

SIZES = Sizes(dim=16, layers=2, heads=2, inner=24, item_buckets=101, hidden=8)
CASES = small_cases(160)
STUDENT = StudentSettings(dim=8, layers=1, inner=8, epochs=3, batch=32, list_length=12, rate=1e-2)


@pytest.fixture(scope="module")
def model() -> QHRank:
    """A network with weights as they might come out of training."""
    torch.manual_seed(3)
    made = QHRank(SIZES)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        made.text.items.weight[50:] = 0
    return made.eval()


@pytest.fixture(scope="module")
def graph(model: QHRank) -> bytes:
    """Its graph."""
    return graph_bytes(model, CASES.tensors(slice(0, 2)))


def test_int8_by_ranges_of_the_batch_has_no_scores_of_its_own(graph: bytes) -> None:
    """The library's dynamic quantisation: a score changes with its neighbours, so no golden set can prove it."""
    made = in_eight_bits(graph, "dynamic", CASES)
    assert len(made) < 0.5 * len(graph)
    assert scored(opened(made), CASES).unsteady > 1e-4


@pytest.mark.parametrize("way", ["calibrated", "tables"])
def test_int8_by_fixed_ranges_is_steady(graph: bytes, way: str) -> None:
    """And scores nearly as the network does."""
    made = in_eight_bits(graph, way, CASES)
    found, wanted = scored(opened(made), CASES), scored(opened(graph), CASES)
    real = CASES.candidate_items != 0
    assert len(made) < 0.5 * len(graph)
    assert found.unsteady <= 1e-4
    assert 0 < np.abs(found.scores - wanted.scores)[real].max() < 0.1 * np.ptp(wanted.scores[real])


@pytest.mark.parametrize(("tables_only", "limit"), [(True, 0.02), (False, 0.2)])
def test_fp16_takes_and_gives_what_the_network_does(graph: bytes, limit: float, *, tables_only: bool) -> None:
    """Inputs and scores in fp32, padding still below everything."""
    made = halved(graph, tables_only=tables_only)
    found, wanted = scored(opened(made), CASES), scored(opened(graph), CASES)
    real = CASES.candidate_items != 0
    assert len(made) < 0.7 * len(graph)
    assert 0 < np.abs(found.scores - wanted.scores)[real].max() < limit
    assert np.isfinite(found.scores).all()
    assert found.scores[~real].max() < found.scores[real].min() - 1000


def test_units_that_do_nothing_are_the_first_to_go(model: QHRank) -> None:
    """With them gone the network scores as before, and is smaller; with others gone it does not."""
    weights = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    idle = {"text.blocks.0.narrow": 24, "text.blocks.1.narrow": 24, "deeper": 8, "outer": 8}
    for name, units in idle.items():
        weights[f"{name}.weight"][:, 1:units:2] = 0.0
    left, sizes = pruned(weights, SIZES, 0.5)
    assert (sizes.inner, sizes.hidden) == (12, 4)
    before = scores_of(network_of(weights, SIZES), CASES.tensors())
    assert np.abs(scores_of(network_of(left, sizes), CASES.tensors()) - before).max() < 1e-4
    fewer, sizes = pruned(weights, SIZES, 0.25)
    assert np.abs(scores_of(network_of(fewer, sizes), CASES.tensors()) - before).max() > 1e-2


def test_a_student_learns_what_its_teacher_says(model: QHRank) -> None:
    """The same every time; an item without a vector has none in the student either; the head is the teacher's."""
    untaught = {name: tensor.numpy() for name, tensor in fresh(model, STUDENT).state_dict().items()}
    weights, sizes = taught(model, CASES, STUDENT)
    again, _ = taught(model, CASES, STUDENT)
    assert all(weights[name].tobytes() == again[name].tobytes() for name in weights)
    assert (sizes.dim, sizes.layers, sizes.hidden) == (8, 1, SIZES.hidden)
    assert not weights["text.items.weight"][60:].any()
    assert (weights["hidden.weight"] == model.hidden.weight.detach().numpy()).all()
    inputs = {name: torch.from_numpy(array) for name, array in CASES.tensors().items()}

    def distance(of: dict[str, np.ndarray]) -> float:
        with torch.no_grad():
            wanted = torch.softmax(model.text_scores(inputs), dim=-1)
            said = torch.log_softmax(network_of(of, sizes).text_scores(inputs), dim=-1)
        return float(-(wanted * said).sum(dim=-1).mean())

    assert distance(dict(weights)) < distance(untaught) - 0.05


def test_no_clicks_teach_nothing(model: QHRank) -> None:
    """Said before anything is computed."""
    with pytest.raises(SourceUnreadable, match="too few to teach"):
        taught(model, CASES.take(slice(0, 1)), STUDENT)


def test_fewer_dimensions_keep_what_differs_most() -> None:
    """A table that lies in two directions loses nothing in two dimensions."""
    rng = np.random.Generator(np.random.PCG64(5))
    flat = (rng.normal(size=(30, 2)) @ rng.normal(size=(2, 6))).astype(np.float32)
    two = narrowed(flat, 2)
    assert np.allclose(two @ two.T, flat @ flat.T, atol=1e-4)
    assert narrowed(flat, 8).shape == (30, 8)


def test_paces_are_ratios_of_the_same_clock(graph: bytes) -> None:
    """A clock that says that every run of the child takes twice as long."""
    now = [0.0, 0]
    session = opened(graph)

    class Slow:
        def run(self, names: list[str], tensors: dict[str, np.ndarray]) -> object:
            now[0] += 0.001
            return session.run(names, tensors)

    class Usual:
        def run(self, names: list[str], tensors: dict[str, np.ndarray]) -> object:
            now[0] += 0.0005
            return session.run(names, tensors)

    found = paces(Slow(), Usual(), CASES, lambda: now[0])
    assert [pace.batch for pace in found] == [1, 8]
    assert all(pace.ratio == pytest.approx(2.0) and pace.ms == pytest.approx(1.0) for pace in found)
