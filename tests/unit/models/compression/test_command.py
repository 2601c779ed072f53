"""A chain of steps: what passes is a complete version, what is refused is not there."""

from __future__ import annotations

from pathlib import Path
from time import monotonic, thread_time

import msgspec
import numpy as np
import pytest

from models.cases import Cases
from models.errors import SourceUnreadable, VersionDamaged
from models.export import triton_config
from models.records import SearchRecord, Source
from models.registry import GOLDEN_FILE, METRICS_FILE, MODEL_FILE, About, golden_bytes, load_version, write_version
from tests.support.small_cases import small_cases

pytest.importorskip("torch", reason="compressing needs torch: make train-env")
pytest.importorskip("onnx", reason="compressing needs onnx: make train-env")

import torch

from models.compression.command import CompressionRun, Surroundings, checked_steps, compress
from models.compression.gate import Limits
from models.qhrank.exporting import WEIGHTS_FILE, golden_set, graph_bytes, weights_bytes
from models.qhrank.network import QHRank, Sizes
from services.inference.engine_options import Device, EngineOptions
from services.inference.errors import ModelRefused
from services.inference.loading import load
from services.inference.signature import Buckets

SIZES = Sizes(dim=16, layers=1, heads=2, inner=24, item_buckets=101, hidden=8)
CASES = small_cases(500)
SOURCE = Source(
    name="small",
    items=[],
    searches=[
        SearchRecord(index=place, time_ms=place * 1000, user="u", query=query)
        for place, query in enumerate(CASES.query.tolist())
    ],
)


def prove(folder: Path) -> None:
    """As a worker does, with fewer shapes to warm up for."""
    try:
        load(folder, EngineOptions(device=Device.CPU), Buckets((1, 8), (32,)), monotonic)
    except ModelRefused as refused:
        raise VersionDamaged(str(refused)) from refused


AROUND = Surroundings(prove, thread_time)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with version 1, and its cases beside it."""
    place = tmp_path_factory.mktemp("compression")
    CASES.take(slice(0, 450)).save(place / "cases.npz")
    torch.manual_seed(3)
    model = QHRank(SIZES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    files = {
        MODEL_FILE: graph_bytes(model, CASES.tensors(slice(0, 2))),
        GOLDEN_FILE: golden_bytes(golden_set(model, CASES, rows=128)),
        METRICS_FILE: b'{"model": "qhrank"}',
        WEIGHTS_FILE: weights_bytes(weights, SIZES),
    }
    about = About(trained_on="small", frontier={"rows": 400}, seed=3)
    write_version(place / "repository", "ranker", 1, files, triton_config("ranker"), about)
    return place


def run_of(place: Path, out: Path, steps: str, fall_max: float) -> CompressionRun:
    """A compression of version 1, whose made-up network has no ranking worth keeping: only the fall is asked about."""
    return CompressionRun(
        folder=place / "repository" / "ranker" / "1",
        repository=out,
        steps=checked_steps(steps),
        limits=Limits(fall_max=fall_max, same_best_min=0.0, top10_min=0.0),
        cases=place / "cases.npz",
    )


def test_every_step_that_passes_is_a_version_that_may_serve(place: Path, tmp_path: Path) -> None:
    """Proven as a worker does, with its parent's sum and the gate's figures; int8 by batch ranges never is one."""
    found = compress(SOURCE, run_of(place, tmp_path, "student,prune,int8,fp16", 1.0), AROUND)
    passed = {line.step: line for line in found.lines if not line.refused}
    assert list(passed) == ["", "student", "prune", "int8", "fp16"]
    assert not found.refused_steps
    ways = {(line.step, line.way): line.refused for line in found.lines}
    assert "what else is in the batch" in ways["int8", "dynamic"]
    for step, parent in (("student", "ranker/1"), ("prune", "ranker/2"), ("int8", "ranker/3"), ("fp16", "ranker/3")):
        version = load_version(Path(passed[step].folder))
        prove(version.folder)
        assert version.metrics["parent"]["version"] == passed[step].parent == parent
        assert version.metrics["gate"]["ndcg_at_10"] == version.manifest.metrics["gate_ndcg_at_10"]
        assert version.manifest.frontier == {"rows": 400}
        assert (WEIGHTS_FILE in version.manifest.files) == (step in ("student", "prune"))
    assert version.metrics["parent"]["sha256"] == load_version(tmp_path / "ranker" / "3").sha256
    assert passed["int8"].bytes < 0.5 * passed["prune"].bytes


@pytest.mark.parametrize("step", ["student", "prune", "int8", "fp16"])
def test_a_refused_step_writes_nothing(place: Path, tmp_path: Path, step: str) -> None:
    """A gate that wants NDCG@10 to rise by 1 refuses all; where refused ones are kept, they are there."""
    run = run_of(place, tmp_path / "out", step, -1.0)
    found = compress(SOURCE, msgspec.structs.replace(run, keep_refused=tmp_path / "kept"), AROUND)
    assert found.refused_steps == [step]
    refusals = [line.refused for line in found.lines[1:] if line.way != "dynamic"]
    assert all("at most -1 is allowed" in refused for refused in refusals)
    assert not any(line.version for line in found.lines[1:])
    assert not (tmp_path / "out").exists()
    assert load_version(tmp_path / "kept" / "ranker" / "2").metrics["compression"]["step"] == step


def test_what_a_worker_would_not_serve_is_refused(place: Path, tmp_path: Path) -> None:
    """The gate lets it pass, the proof does not."""

    def never(_: Path) -> None:
        raise VersionDamaged("it does not score as it was shipped")

    found = compress(SOURCE, run_of(place, tmp_path, "int8", 1.0), Surroundings(never, thread_time))
    assert found.lines[-1].refused == "it does not score as it was shipped"
    assert not (tmp_path / "ranker").exists()


def test_nobody_is_judged_by_rows_that_it_learned_from(place: Path, tmp_path: Path) -> None:
    """Nor by the last tenth; the first may be asked for, and is then said."""
    run = run_of(place, tmp_path, "fp16", 1.0)
    early = msgspec.structs.replace(run, held_out=(0.7, 0.9))
    with pytest.raises(SourceUnreadable, match=r"learned from 400 rows .* --end 350"):
        compress(SOURCE, early, AROUND)
    assert compress(SOURCE, msgspec.structs.replace(early, seen_rows=True), AROUND).held_out_seen
    with pytest.raises(SourceUnreadable, match="the final evaluation"):
        compress(SOURCE, msgspec.structs.replace(run, held_out=(0.8, 0.95)), AROUND)


def test_cases_of_another_log_are_refused(place: Path, tmp_path: Path) -> None:
    """By their queries; a file that ends too early is too."""
    other = msgspec.structs.replace(SOURCE, searches=[*SOURCE.searches[1:], SOURCE.searches[0]])
    with pytest.raises(SourceUnreadable, match="another log"):
        compress(other, run_of(place, tmp_path, "fp16", 1.0), AROUND)
    short = tmp_path / "short.npz"
    Cases.load(place / "cases.npz").take(np.arange(430)).save(short)
    with pytest.raises(SourceUnreadable, match="does not reach row 450"):
        compress(SOURCE, msgspec.structs.replace(run_of(place, tmp_path, "fp16", 1.0), cases=short), AROUND)


def test_a_version_without_weights_is_not_taught_from(place: Path, tmp_path: Path) -> None:
    """The small ranker has no such weights."""
    files = {file: (place / "repository" / "ranker" / "1" / file).read_bytes()
             for file in (MODEL_FILE, GOLDEN_FILE, METRICS_FILE)}  # fmt: skip
    about = About(trained_on="elsewhere", frontier={"rows": 9})
    folder = write_version(tmp_path, "ranker", 5, files, triton_config("ranker"), about)
    run = msgspec.structs.replace(run_of(place, tmp_path, "student", 1.0), folder=folder)
    with pytest.raises(SourceUnreadable, match=r"needs weights\.npz"):
        compress(SOURCE, run, AROUND)


@pytest.mark.parametrize("words", ["", "student,student", "int4", "prune,,zip"])
def test_steps_are_named_or_refused(words: str) -> None:
    """With those that there are."""
    with pytest.raises(SourceUnreadable, match="student, prune, int8, fp16"):
        checked_steps(words)
