"""`meridian models` as a user calls it: over sound and damaged versions, with and without a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from models.signing import read_trusted
from services.common.exit_codes import ExitCode
from tests.support.inference_worker import ROOT, InferenceWorker, free_port
from tests.support.poll import wait_until
from tests.support.tiny_model import write_version

UNREACHABLE = 69


def meridian(
    directory: Path, port: int, *arguments: str, own_repository: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run `meridian models ...` on this test's region."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MERIDIAN_")},
        "MERIDIAN_REGION_INFERENCE_PORT": str(port),
        "MERIDIAN_REGION_DATA_DIR": str(directory / "var"),
        "MERIDIAN_INFERENCE_CANDIDATE_BUCKETS": "64",
        "MERIDIAN_INFERENCE_BATCH_BUCKETS": "1,4",
    }
    if not own_repository:
        environment["MERIDIAN_INFERENCE_MODEL_REPOSITORY"] = str(directory / "repository")
    command = [sys.executable, "-m", "services.cli", "models", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def told(done: subprocess.CompletedProcess[str]) -> Any:
    """What a command that succeeded printed as JSON."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_versions_are_listed_and_judged_without_a_worker(tmp_path: Path) -> None:
    """A damaged version is named with the reason, and the exit code is the worker's own."""
    write_version(tmp_path / "repository", "1")
    write_version(tmp_path / "repository", "2", golden_shift=0.01)
    port = free_port()
    lines = told(meridian(tmp_path, port, "list", "--json", own_repository=False))
    assert [(line["version"], line["registered"]) for line in lines] == [("1", False), ("2", False)]
    assert lines[0]["regions"] == [{"region": "east", "state": "", "reason": "no worker answers"}]
    judged = meridian(tmp_path, port, "verify", own_repository=False)
    assert judged.returncode == ExitCode.MODEL_REFUSED
    assert "ranker/1  sound" in judged.stdout
    assert "golden row 69" in judged.stdout
    assert meridian(tmp_path, port, "verify", "1", own_repository=False).returncode == 0
    assert meridian(tmp_path, port, "verify", "7", own_repository=False).returncode == ExitCode.MODEL_REFUSED


def test_what_is_refused_says_why_and_changes_nothing(tmp_path: Path) -> None:
    """Codes that a script can tell apart, and not a trace on the disk."""
    damaged = write_version(tmp_path / "built", "1", golden_shift=0.01)
    for words, code, reason in (
        (["push", str(damaged)], ExitCode.MODEL_REFUSED, "golden row 69"),
        (["push", str(tmp_path / "nowhere")], ExitCode.MODEL_REFUSED, "cannot be read"),
        (["push", str(damaged), "--version", "01"], ExitCode.BAD_SETTINGS, "whole number"),
        (["promote", "7"], ExitCode.MODEL_REFUSED, "has no version '7'"),
        (["promote", "1", "--alias", "favourite"], ExitCode.BAD_SETTINGS, "champion, challenger, shadow"),
        (["rollback"], ExitCode.BAD_SETTINGS, "nothing to go back to"),
        (["show", "shadow"], ExitCode.BAD_SETTINGS, "names no version yet"),
        (["restore", "--from", str(tmp_path / "nothing")], ExitCode.MODEL_REFUSED, "holds no backup"),
        (["list", "--region", "west"], ExitCode.BAD_SETTINGS, "no region 'west'"),
    ):
        done = meridian(tmp_path, free_port(), *words)
        assert (done.returncode, done.stdout) == (code, ""), (words, done.stderr)
        assert reason in done.stderr, (words, done.stderr)
    assert not (tmp_path / "var" / "coordination.json").exists()


def test_a_version_from_its_push_to_its_rollback(tmp_path: Path) -> None:
    """Pushed, promoted, served by the running worker, shown, compared, backed up, rolled back."""
    worker = InferenceWorker(
        tmp_path, tmp_path / "unused", candidate_buckets="64", batch_buckets="1,4", alias_poll_seconds="0.1"
    )
    del worker._environment["MERIDIAN_INFERENCE_MODEL_REPOSITORY"]  # it has a repository of its own
    worker.start()
    try:
        source = write_version(tmp_path / "built", "1", golden_rows=6)
        pushed = told(meridian(tmp_path, worker.port, "push", str(source), "--json"))
        assert pushed["version"] == "2", "1 is shipped"
        assert read_trusted(tmp_path / "var" / "trusted-model-keys")
        assert worker.get("/v2/models/ranker/versions/1/ready")[0] == 200, "a push changes nothing that serves"
        moved = told(meridian(tmp_path, worker.port, "promote", "2", "--json"))
        assert (moved["before"], moved["regions"][0]["serves"]) == ("1", True), moved
        assert worker.get("/v2/models/ranker/versions/2/ready")[0] == 200
        shown = told(meridian(tmp_path, worker.port, "show", "champion", "--json"))
        assert (shown["line"]["version"], shown["line"]["regions"][0]["state"]) == ("2", "READY")
        assert [change["version"] for change in shown["aliases"]["champion"]["history"]] == ["2", "1"]
        compared = told(meridian(tmp_path, worker.port, "diff", "1", "champion", "--json"))
        assert compared["agreement"] is None
        assert "cannot be run on both" in compared["not_compared"], "the tiny model takes other tensors"
        same = told(meridian(tmp_path, worker.port, "diff", "2", "2", "--json"))["agreement"]
        assert (same["rows"], round(same["kendall_tau"], 9), same["top10_overlap"]) == (6, 1, 1)
        kept = meridian(tmp_path, worker.port, "backup", "--to", str(tmp_path / "backups"))
        assert "ranker/1: " in kept.stdout, kept.stderr
        damage(tmp_path / "var" / "models" / "ranker" / "1" / "model.onnx")
        refused = meridian(tmp_path, worker.port, "rollback")
        assert (refused.returncode, "model.onnx" in refused.stderr) == (ExitCode.MODEL_REFUSED, True)
        assert worker.get("/v2/models/ranker/versions/2/ready")[0] == 200
        damage(tmp_path / "var" / "models" / "ranker" / "1" / "model.onnx")
        back = meridian(tmp_path, worker.port, "rollback")
        assert "champion is ranker/1" in back.stdout, back.stderr
        assert "east: serves" in back.stdout
    finally:
        assert worker.stop() == 0
    silent = meridian(tmp_path, worker.port, "promote", "2", "--wait", "0.1")
    assert (silent.returncode, "did not say that it serves it" in silent.stderr) == (UNREACHABLE, True)
    worker.start()
    try:
        wait_until(lambda: worker.get("/v2/models/ranker/versions/2/ready")[0] == 200, 30, "the champion to serve")
    finally:
        worker.stop()


def damage(path: Path) -> None:
    """Turn one byte of a file around; doing it twice mends it."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
