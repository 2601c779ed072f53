"""A real Alertmanager with our configuration: what is inhibited stays quiet, and comes back when its cause is over."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.runtime.kafka import free_ports
from tests.support.poll import wait_until

CONFIG = Path(__file__).resolve().parents[2] / "infra" / "alertmanager" / "alertmanager.yml"
PROGRAMS = ("alertmanager", "prometheus-alertmanager")
PAGE = {"alertname": "RegionInactive", "severity": "page"}
FOLLOWS = {"alertname": "CanaryLost", "severity": "page", "region": "east"}
OTHER = {"alertname": "GapAlarm", "severity": "page", "region": "east", "process": "replicator"}
LAG = {"alertname": "ReplicationLagHigh", "severity": "warn", "region": "east"}
LAG_ELSEWHERE = {"alertname": "ReplicationLagHigh", "severity": "warn", "region": "west"}


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Where it listens; ended with the test."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("alertmanager is not installed (apt-get install prometheus-alertmanager)")
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    words = [program, f"--config.file={CONFIG}", f"--storage.path={tmp_path}", f"--web.listen-address={address}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*words, "--cluster.listen-address="], stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(f"http://{address}") or process.poll() is not None, 30, "Alertmanager to answer")
        assert process.poll() is None, (tmp_path / "log").read_text()
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def post(url: str, *alerts: dict[str, str], seconds: float = 300) -> None:
    """Have these alerts fire for so long."""
    ends = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    body = json.dumps([{"labels": labels, "endsAt": ends} for labels in alerts]).encode()
    request = urllib.request.Request(f"{url}/api/v2/alerts", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def states(url: str) -> dict[tuple[str, str], tuple[str, list[str]]]:
    """Of each alert by name and region, its state and its receivers."""
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return {
        (each["labels"]["alertname"], each["labels"].get("region", "")): (
            each["status"]["state"],
            [receiver["name"] for receiver in each["receivers"]],
        )
        for each in found
    }


def test_what_follows_from_a_page_is_no_further_message(url: str) -> None:
    """Nobody ranks, so the canary is lost; a log that must not be trusted is not copied, in that region alone."""
    post(url, PAGE, FOLLOWS, OTHER, LAG, LAG_ELSEWHERE)
    expected = {
        ("RegionInactive", ""): ("active", ["page"]),
        ("CanaryLost", "east"): ("suppressed", ["page"]),
        ("GapAlarm", "east"): ("active", ["page"]),
        ("ReplicationLagHigh", "east"): ("suppressed", ["warn"]),
        ("ReplicationLagHigh", "west"): ("active", ["warn"]),
    }
    wait_until(lambda: states(url) == expected, 20, f"{expected}")
    post(url, PAGE, seconds=-1)
    wait_until(lambda: states(url).get(("CanaryLost", "east")) == ("active", ["page"]), 20, "the canary to be heard")


def test_a_drill_wakes_nobody(url: str) -> None:
    """Whatever its severity."""
    post(url, {**PAGE, "drill": "yes"}, {**LAG, "drill": "yes"})
    wait_until(lambda: {tuple(to) for _, to in states(url).values()} == {("drill",)}, 20, "both to go to nobody")
