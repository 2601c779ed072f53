"""`meridian models` over a repository with sound and damaged versions, with and without a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from services.common.exit_codes import ExitCode
from tests.support.inference_worker import ROOT, InferenceWorker, free_port
from tests.support.tiny_model import write_version


def meridian(directory: Path, port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `meridian models ...` on this test's repository and region."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MERIDIAN_")},
        "MERIDIAN_REGION_INFERENCE_PORT": str(port),
        "MERIDIAN_REGION_DATA_DIR": str(directory / "var"),
        "MERIDIAN_INFERENCE_MODEL_REPOSITORY": str(directory / "repository"),
        "MERIDIAN_INFERENCE_CANDIDATE_BUCKETS": "64",
    }
    command = [sys.executable, "-m", "services.cli", "models", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_versions_are_listed_and_judged_without_a_worker(tmp_path: Path) -> None:
    """A damaged version is named with the reason, and the exit code is the worker's own."""
    write_version(tmp_path / "repository", "1")
    write_version(tmp_path / "repository", "2", golden_shift=0.01)
    port = free_port()
    lines = json.loads(meridian(tmp_path, port, "list", "--json").stdout)
    assert [(line["version"], line["state"]) for line in lines] == [("1", ""), ("2", "")]
    judged = meridian(tmp_path, port, "verify")
    assert judged.returncode == ExitCode.MODEL_REFUSED
    assert "ranker/1  sound" in judged.stdout
    assert "golden row 69" in judged.stdout
    assert meridian(tmp_path, port, "verify", "1").returncode == 0
    assert meridian(tmp_path, port, "verify", "7").returncode == ExitCode.MODEL_REFUSED


def test_a_damaged_version_never_becomes_champion(tmp_path: Path) -> None:
    """It is judged before the alias moves."""
    write_version(tmp_path / "repository", "2", golden_shift=0.01)
    refused = meridian(tmp_path, free_port(), "alias", "champion", "2")
    assert refused.returncode == ExitCode.MODEL_REFUSED
    assert "champion was not changed" in refused.stderr
    assert not (tmp_path / "var" / "coordination.json").exists()


def test_a_new_champion_is_loaded_by_the_running_worker(tmp_path: Path) -> None:
    """One command: verified, recorded, served; and again after a restart."""
    for version in ("1", "2"):
        write_version(tmp_path / "repository", version)
    worker = InferenceWorker(tmp_path, tmp_path / "repository", candidate_buckets="64").start()
    try:
        moved = meridian(tmp_path, worker.port, "alias", "champion", "1")
        assert "the worker serves version 1" in moved.stdout, moved.stderr
        assert worker.get("/v2/models/ranker/versions/1/ready")[0] == 200
        listed = json.loads(meridian(tmp_path, worker.port, "list", "--json").stdout)
        assert listed[0] == {
            "model": "ranker",
            "version": "1",
            "aliases": ["champion"],
            "state": "READY",
            "reason": "",
        }
    finally:
        assert worker.stop() == 0
    worker.start()
    try:
        assert worker.get("/v2/models/ranker/versions/1/ready")[0] == 200
    finally:
        worker.stop()
