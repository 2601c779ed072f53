"""What Prometheus is told to scrape: every process of every site, by file, with the labels that rules count on."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

from services.common.deployment import Deployment, Site
from services.common.region_settings import RegionSettings
from services.region.scraping import ETCD_KEPT, PROCESSES, targets_alone, targets_of, whole_config
from tests.support.monitoring import ROOT, promtool

PROMETHEUS = ROOT / "infra" / "prometheus"
CONTAINERS = PROMETHEUS / "targets" / "containers.json"


def deployment(host: str = "", directory: Path = Path("/deployment")) -> Deployment:
    """Two regions and a witness, as `meridian up` and the containers have them; no host: each site its own name."""
    sites = [
        Site(name=name, kind="witness" if name == "north" else "region", host=host or name, base_port=8080 + 20 * place)
        for place, name in enumerate(("east", "west", "north"))
    ]
    return Deployment(deployment_id="d", network="loopback", sites=sites, directory=str(directory))


def test_every_process_of_every_site_is_a_target() -> None:
    """Five processes and etcd in a region, etcd alone at the witness; no two the same."""
    found = targets_of(deployment("127.0.0.1"), {"drill": "yes"})
    named = {(group.labels["region"], group.labels["process"]): group.targets for group in found}
    assert len(named) == len(found) == 2 * (len(PROCESSES) + 1) + 1
    assert named["west", "gateway"] == ["127.0.0.1:8100"] and named["north", "etcd"] == ["127.0.0.1:8127"]
    assert named["east", "controller"] == ["127.0.0.1:8086"], "ours, not Kafka's own quorum"
    assert all(group.labels["drill"] == "yes" for group in found)


def test_a_region_that_is_alone_has_three() -> None:
    """No controller, no replicator, no etcd."""
    found = targets_alone(RegionSettings())
    assert [(group.labels["process"], group.targets) for group in found] == [
        ("gateway", ["127.0.0.1:8080"]), ("processor", ["127.0.0.1:8081"]), ("inference", ["127.0.0.1:8082"]),
    ]  # fmt: skip


def test_the_file_for_the_containers_is_what_the_code_makes() -> None:
    """To make it again: write what this test compares with."""
    made = msgspec.json.format(msgspec.json.encode(targets_of(deployment())), indent=2).decode() + "\n"
    assert CONTAINERS.read_text() == made


def test_the_configuration_for_the_containers_is_sound_and_finds_rules_and_targets() -> None:
    """Asked of promtool; no pattern that matches nothing."""
    assert "WARNING" not in promtool("check", "config", PROMETHEUS / "prometheus.yml")


def test_etcd_shows_the_same_series_either_way() -> None:
    """The pattern stands twice: in the configuration for containers, and in the one that is printed."""
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    (etcd,) = [job for job in jobs if job["job_name"] == "etcd"]
    assert etcd["metric_relabel_configs"][0]["regex"] == ETCD_KEPT


def test_the_printed_configuration_is_one_that_prometheus_takes(tmp_path: Path) -> None:
    """With the rules of this installation."""
    config = tmp_path / "prometheus.yml"
    config.write_bytes(msgspec.json.encode(whole_config(targets_of(deployment("127.0.0.1")), 5)))
    said = promtool("check", "config", config)
    assert "WARNING" not in said and "alerts.yml" in said


def verb(*words: str) -> "subprocess.CompletedProcess[str]":
    """`meridian prometheus-targets`."""
    command = [sys.executable, "-m", "services.cli", "prometheus-targets", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_verb_prints_targets_and_says_what_is_wrong(tmp_path: Path) -> None:
    """JSON on the output alone; exit code 64 with the next step."""
    deployment("127.0.0.1", tmp_path).save()
    done = verb("--data-dir", str(tmp_path), "--label", "drill=yes")
    assert done.returncode == 0, done.stderr
    assert {"targets": ["127.0.0.1:8080"], "labels": {"region": "east", "process": "gateway", "drill": "yes"}} in (
        json.loads(done.stdout)
    )
    missing = verb("--data-dir", str(tmp_path / "no"))
    assert missing.returncode == 64 and "meridian up" in missing.stderr
    wrong = verb("--data-dir", str(tmp_path), "--label", "region=east")
    assert wrong.returncode == 64 and "name=value" in wrong.stderr


@pytest.mark.parametrize("process", [*PROCESSES, "etcd"])
def test_each_process_has_its_own_port(process: str) -> None:
    """No listener is named twice."""
    ports = [group.targets[0] for group in targets_of(deployment("127.0.0.1")) if group.labels["process"] == process]
    assert len(set(ports)) == len(ports)
