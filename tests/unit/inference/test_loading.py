"""A version serves only when all of it is as it was trained; each way to be wrong is refused by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from models.registry import versions
from services.common.clock import SystemClock
from services.inference.engine import BatchItem, Session
from services.inference.engine_options import Device, EngineOptions
from services.inference.errors import DeviceRefused, ModelRefused, ModelRunFailed
from services.inference.loading import ProvenVersion, load, pace_from
from services.inference.settings import InferenceSettings
from services.inference.signature import Buckets, RequestShape
from tests.support.tiny_model import expected_scores, request_inputs, write_manifest, write_version

BUCKETS = Buckets((1, 2, 8), (16, 64))
OPTIONS = EngineOptions(device=Device.CPU)


def load_version(repository: Path, version: str = "1") -> ProvenVersion:
    """Load it with small buckets."""
    return load(repository / "ranker" / version, OPTIONS, BUCKETS, SystemClock().monotonic)


def test_a_good_version_loads_and_scores(tmp_path: Path) -> None:
    """The whole way, to the scores that the weights say."""
    write_version(tmp_path)
    session = load_version(tmp_path).session
    inputs = request_inputs(2, 16)
    np.testing.assert_allclose(session.run(inputs)["scores"], expected_scores(inputs), atol=1e-5)
    assert session.device is Device.CPU


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "metrics.json"])
def test_a_flipped_byte_is_refused_by_the_file_s_name(tmp_path: Path, name: str) -> None:
    """One bit of any file: the sums differ."""
    path = write_version(tmp_path) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelRefused, match=name):
        load_version(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "manifest.json"])
def test_a_missing_file_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    """Half a copy is no version."""
    (write_version(tmp_path) / name).unlink()
    with pytest.raises(ModelRefused, match=name):
        load_version(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"model.onnx": 3}', "{}"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """Empty, broken, of another shape, or naming nothing."""
    (write_version(tmp_path) / "manifest.json").write_text(text)
    with pytest.raises(ModelRefused, match="manifest"):
        load_version(tmp_path)


def test_a_file_that_the_manifest_does_not_name_is_refused(tmp_path: Path) -> None:
    """ONNX reads large weights from files beside the model: unsummed, they could be any."""
    (write_version(tmp_path) / "model.onnx.data").write_bytes(b"weights")
    with pytest.raises(ModelRefused, match=r"model\.onnx\.data is not named"):
        load_version(tmp_path)


@pytest.mark.parametrize("place", [-1, 40])
def test_a_golden_set_that_contradicts_itself_is_refused(tmp_path: Path, place: int) -> None:
    """Its best places are not places of its scores."""
    folder = write_version(tmp_path)
    golden = dict(np.load(folder / "golden.npz"))
    golden["top10"][5, 0] = place
    np.savez(folder / "golden.npz", **golden)
    write_manifest(folder)
    with pytest.raises(ModelRefused, match="does not name places"):
        load_version(tmp_path)


def test_a_score_that_is_no_number_fails_its_own_request(tmp_path: Path) -> None:
    """Of two requests in one batch, only the one whose score is not finite."""
    write_version(tmp_path)
    session = load_version(tmp_path).session
    items = [BatchItem({}, RequestShape(1, 2)), BatchItem({}, RequestShape(1, 2))]
    scores = np.array([[1.0, 2.0], [np.nan, 3.0]], np.float32)
    answers = session.split({"scores": scores}, items)
    assert isinstance(answers[0], dict)
    assert isinstance(answers[1], ModelRunFailed)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    """The sums are right, the contents are not ONNX."""
    folder = write_version(tmp_path)
    (folder / "model.onnx").write_bytes(b"not a model")
    write_manifest(folder)
    with pytest.raises(ModelRefused, match="cannot open"):
        load_version(tmp_path)


def test_a_golden_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """The sums are right, the contents are not arrays."""
    folder = write_version(tmp_path)
    (folder / "golden.npz").write_bytes(b"not arrays")
    write_manifest(folder)
    with pytest.raises(ModelRefused, match=r"golden\.npz"):
        load_version(tmp_path)


def test_a_score_that_differs_is_refused_with_row_candidate_and_difference(tmp_path: Path) -> None:
    """The golden set says otherwise than the model, by more than the tolerance."""
    write_version(tmp_path, golden_shift=0.001)
    with pytest.raises(ModelRefused, match=r"golden row 69, candidate 3: score .*, expected"):
        load_version(tmp_path)


def test_another_order_is_refused_though_every_score_is_within_the_tolerance(tmp_path: Path) -> None:
    """Ranks are what users see: two of the ten best changed places."""
    folder = write_version(tmp_path)
    golden = dict(np.load(folder / "golden.npz"))
    golden["top10"][5, [0, 1]] = golden["top10"][5, [1, 0]]
    np.savez(folder / "golden.npz", **golden)
    write_manifest(folder)
    with pytest.raises(ModelRefused, match="golden row 5, place 1: candidate"):
        load_version(tmp_path)


def test_a_model_whose_scores_depend_on_padding_is_refused(tmp_path: Path) -> None:
    """It scores right alone, and wrong in the padded shapes that requests run in."""
    folder = write_version(tmp_path, uses_mean=True)
    golden = dict(np.load(folder / "golden.npz"))
    scores = golden["scores"]
    golden["scores"] = scores + scores.mean(axis=1, keepdims=True)
    np.savez(folder / "golden.npz", **golden)
    write_manifest(folder)
    with pytest.raises(ModelRefused, match=r"golden row 0, candidate \d+: score"):
        load_version(tmp_path)


def test_a_frozen_batch_axis_is_refused(tmp_path: Path) -> None:
    """The classic wrong export: traced with one row."""
    folder = write_version(tmp_path)
    model = onnx.load(str(folder / "model.onnx"))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, str(folder / "model.onnx"))
    write_manifest(folder)
    with pytest.raises(ModelRefused, match="batch axis is fixed"):
        load_version(tmp_path)


def test_cuda_is_refused_where_there_is_none(tmp_path: Path) -> None:
    """Never a silent fall back to the CPU."""
    write_version(tmp_path)
    with pytest.raises(DeviceRefused, match="device=cuda"):
        Session(tmp_path / "ranker" / "1" / "model.onnx", EngineOptions(device=Device.CUDA))


@pytest.mark.parametrize(
    ("took", "rows"),
    [
        ({1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0}, 8),
        ({1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0}, 1),
        ({1: 1.0, 2: 1.8, 4: 3.5, 8: 8.0}, 2),
        ({1: 1.0, 2: 2.5, 4: 2.0, 8: 9.0}, 4),
        ({1: 1e-5, 2: 2e-5, 4: 4e-5, 8: 8e-5}, 8),
    ],
)
def test_a_batch_grows_only_as_far_as_it_makes_a_row_cheaper(took: dict[int, float], rows: int) -> None:
    """Flat runs share all, linear ones nothing, one noisy step does not end it, tiny ones share the overhead."""
    assert pace_from(took).rows_max == rows
    assert pace_from(took).run_seconds == took[rows]


def test_every_bucket_has_a_pace(tmp_path: Path) -> None:
    """Each candidate bucket was run and measured before the version may serve."""
    write_version(tmp_path)
    paces = load_version(tmp_path).paces
    assert set(paces) == {16, 64}
    assert all(pace.rows_max in BUCKETS.rows and pace.run_seconds > 0 for pace in paces.values())


def test_the_shipped_version_is_sound() -> None:
    """What a fresh clone serves passes every check in the buckets that are set by default."""
    settings = InferenceSettings()
    buckets = Buckets(settings.batch_buckets, settings.candidate_buckets)
    numbers = versions(settings.model_repository, settings.model)
    assert numbers
    folder = settings.model_repository / settings.model / str(numbers[-1])
    assert set(load(folder, OPTIONS, buckets, SystemClock().monotonic).paces) == set(buckets.candidates)


def test_the_worker_carries_nothing_that_only_retrieval_and_training_need() -> None:
    """Numba alone is 100 MB in each worker: a single import of a neighbouring module brings it in unseen."""
    heavy = ("numba", "tantivy", "torch", "scipy", "onnx", "confluent_kafka", "cryptography")
    code = f"import services.inference.server, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
