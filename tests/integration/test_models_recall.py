"""The restore drill: 1,000 logged requests to a worker, its models lost and restored, the same requests again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from models import registry
from models.registry import GOLDEN_FILE, MODEL_FILE, Golden, golden_bytes, top_places, write_version
from models.shop import ShopSettings, generate
from region_sim.faults.damaged_model import mistaken
from services.common.clock import SystemClock
from services.common.exit_codes import ExitCode
from services.common.region_settings import RegionSettings
from services.inference.settings import SHIPPED, InferenceSettings
from services.models.backing import back_up, restore
from services.models.errors import BadRequest, Unreachable, VersionRefused
from services.models.pointing import promote
from services.models.premises import Premises
from services.models.pushing import push
from services.models.recall import Recalled, record, replay
from tests.support.inference_worker import ROOT, InferenceWorker

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
REQUESTS = 1_000
BESIDE = ("version", "sha256")


class Region:
    """A region that is alone, with a repository of its own and its worker."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "var"
        self.worker = InferenceWorker(directory, directory, batch_buckets="1,8", candidate_buckets="64,256")
        del self.worker._environment["MERIDIAN_INFERENCE_MODEL_REPOSITORY"]
        inference = InferenceSettings(batch_buckets=(1, 8), candidate_buckets=(64, 256))
        region = RegionSettings(name="east", data_dir=self.home, inference_port=self.worker.port)
        assert region.check() is None
        self.premises = Premises(region, (region,), inference, "ranker", "ada", SystemClock())

    def meridian(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `meridian models ...` here."""
        return subprocess.run(
            [sys.executable, "-m", "services.cli", "models", *words],
            cwd=ROOT,
            env={**os.environ, **self.worker._environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    async def replay(self, file: Path) -> Recalled:
        """Ask again."""
        return await replay(self.premises, file, quiet)


def quiet(_: str) -> None:
    """Say nothing."""


def another_ranker(place: Path) -> Path:
    """A version that takes what the shipped one takes and scores otherwise, with a golden set of its own."""
    shipped = registry.load_version(SHIPPED / "ranker" / "1")
    graph = mistaken((shipped.folder / MODEL_FILE).read_bytes())
    session = ort.InferenceSession(graph)
    taken = {tensor.name: shipped.golden.inputs[tensor.name] for tensor in session.get_inputs()}
    (scores,) = session.run(["scores"], taken)
    golden = Golden(shipped.golden.inputs, scores, top_places(scores))
    files = {MODEL_FILE: graph, GOLDEN_FILE: golden_bytes(golden), "metrics.json": b"{}"}
    return write_version(place, "ranker", 2, files, "")


async def test_a_restored_region_answers_logged_requests_as_before(tmp_path: Path) -> None:
    """Scores and ranks of the champion, which is not the shipped one; anything else is named as a difference."""
    log = generate(ShopSettings(seed=3, items=60, searches=REQUESTS + 50, users=80, days=4))
    answers, kept = tmp_path / "answers.npz", tmp_path / "kept"
    region = Region(tmp_path)
    region.worker.start()
    try:
        assert (await push(region.premises, another_ranker(tmp_path / "built"), "2", quiet)).version == "2"
        await promote(region.premises, "2", "champion", expected="", wait_seconds=60, say=quiet)
        recorded = await record(region.premises, log, REQUESTS, answers, quiet)
        assert (recorded.version, recorded.requests) == ("2", REQUESTS)
        await back_up(region.premises, str(kept), quiet)
    finally:
        region.worker.stop()
    with pytest.raises(Unreachable, match="no worker of east serves"):
        await region.replay(answers)
    shutil.rmtree(region.home / "models")
    (region.home / "coordination.json").unlink()
    region.worker.start()
    try:
        with pytest.raises(VersionRefused, match=r"ranker/1 .* answers, and ranker/2 .* was recorded"):
            await region.replay(answers)
        found = await restore(region.premises, str(kept), quiet)
        assert (found.versions["2"], found.aliases["champion"]) == ("restored", "restored: names 2")
        await promote(region.premises, "2", "champion", expected="", wait_seconds=60, say=quiet)
        said = region.meridian("replay", str(answers))
        assert f"gives {REQUESTS} requests the scores and ranks" in said.stdout, said.stderr
        await differences_are_named(region, answers)
        with pytest.raises(BadRequest, match="no record of answers"):
            await region.replay(Path(found.model))
        wrong = region.meridian("record", "--data", str(tmp_path / "nothing.csv"), "--to", str(answers))
        assert (wrong.returncode, "does not exist" in wrong.stderr) == (ExitCode.BAD_SETTINGS, True), wrong.stderr
    finally:
        region.worker.stop()


async def differences_are_named(region: Region, answers: Path) -> None:
    """Another score, and another order of the ten best, planted into what was recorded."""
    changed = answers.with_name("changed.npz")
    with np.load(answers) as arrays:
        content = {name: np.array(arrays[name]) for name in arrays.files if name not in BESIDE}
    scores, top10 = content["scores"].copy(), content["top10"].copy()
    scores[700, 3] += 2e-4
    top10[900, [0, 9]] = top10[900, [9, 0]]
    for planted, words in (({"scores": scores}, "row 700, candidate 3"), ({"top10": top10}, "row 900, place 1")):
        np.savez(changed, **{**content, **planted})
        with zipfile.ZipFile(answers) as source, zipfile.ZipFile(changed, "a") as archive:
            for name in BESIDE:
                archive.writestr(name, source.read(name))
        with pytest.raises(VersionRefused, match=words):
            await region.replay(changed)
