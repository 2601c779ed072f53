"""`meridian models` in a deployment: a real etcd, two regions' workers, each with a repository of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.common.deployment import Deployment
from services.common.exit_codes import ExitCode
from services.coordination.etcd import EtcdGatewayStore
from services.region.deploy import make_signing_key, plan_deployment
from tests.support.deployment import free_base_port
from tests.support.etcd import EtcdCluster
from tests.support.inference_worker import ROOT, InferenceWorker
from tests.support.tiny_model import write_version

pytestmark = pytest.mark.integration
SMALL = {"batch_buckets": "1,4", "candidate_buckets": "64", "alias_poll_seconds": 0.1, "retry_seconds_max": 1}


class World:
    """A deployment's file, its keys, its workers and the command line."""

    def __init__(self, directory: Path, etcd: EtcdCluster) -> None:
        self.deployment: Deployment = plan_deployment(
            ["east", "west"],
            "north",
            base_port=free_base_port(3),
            directory=directory,
            network="loopback",
            deployment_id="d",
        )
        self.deployment.save()
        make_signing_key(self.deployment.signing_key_file, self.deployment.trusted_keys_file)
        self._endpoints = ",".join(etcd.endpoints)
        self.workers = {name: self._worker(name) for name in ("east", "west")}

    def _worker(self, name: str) -> InferenceWorker:
        home = self.deployment.site_dir(name)
        home.mkdir()
        worker = InferenceWorker(home, home, **SMALL)
        del worker._environment["MERIDIAN_INFERENCE_MODEL_REPOSITORY"]
        worker.port = self.deployment.site(name).port("inference")
        worker.url = f"http://127.0.0.1:{worker.port}"
        worker._environment |= {
            "MERIDIAN_REGION_NAME": name,
            "MERIDIAN_REGION_DATA_DIR": str(home),
            "MERIDIAN_REGION_DEPLOYMENT": str(Path(self.deployment.directory) / "deployment.json"),
            "MERIDIAN_REGION_INFERENCE_PORT": str(worker.port),
            "MERIDIAN_REGION_TRUSTED_KEYS_FILE": str(self.deployment.trusted_keys_file),
            "MERIDIAN_COORDINATION_ENDPOINTS": self._endpoints,
        }
        return worker

    def models(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `meridian models ...` on the deployment."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MERIDIAN_")},
            "MERIDIAN_COORDINATION_ENDPOINTS": self._endpoints,
            "MERIDIAN_INFERENCE_CANDIDATE_BUCKETS": "64",
            "MERIDIAN_INFERENCE_BATCH_BUCKETS": "1,4",
        }
        command = [sys.executable, "-m", "services.cli", "models", *words, "--data-dir", self.deployment.directory]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False
        )

    def told(self, *words: str) -> Any:
        """What a verb that succeeds prints as JSON."""
        done = self.models(*words, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


@pytest.fixture
async def store(etcd_cluster: EtcdCluster) -> AsyncIterator[EtcdGatewayStore]:
    """The deployment's store, without what another test left of models."""
    opened = etcd_cluster.store()
    for entry in await opened.list("/meridian/models/"):
        await opened.compare_and_delete(entry.key, entry.revision)
    yield opened
    for entry in await opened.list("/meridian/models/"):
        await opened.compare_and_delete(entry.key, entry.revision)
    await opened.close()


@pytest.fixture
def world(tmp_path: Path, etcd_cluster: EtcdCluster, store: EtcdGatewayStore) -> Iterator[World]:
    """Nothing started."""
    made = World(tmp_path, etcd_cluster)
    yield made
    for worker in made.workers.values():
        if worker._process is not None:
            worker.stop()


def test_a_version_pushed_in_one_region_serves_in_both_and_comes_back(world: World, tmp_path: Path) -> None:
    """Promoted, fetched by the other region and checked there; one refuses what was damaged; rolled back in both."""
    for worker in world.workers.values():
        worker.start()
    source = write_version(tmp_path / "built", "1", golden_rows=6)
    assert world.told("push", str(source))["version"] == "2"
    promoted = world.told("promote", "2")
    assert [(said["region"], said["serves"]) for said in promoted["regions"]] == [("east", True), ("west", True)]
    lines = world.told("list", "--region", "west")
    assert [(line["version"], line["aliases"], line["here"]) for line in lines] == [
        ("1", [], True),
        ("2", ["champion"], True),
    ]
    third = world.told("push", str(write_version(tmp_path / "third", "1", bias=1.0, golden_rows=6)))["version"]
    spoiled = world.deployment.site_dir("west") / "models" / "ranker" / third
    write_version(tmp_path / "spoiled", "1", bias=2.0, golden_rows=6).rename(spoiled)
    refused = world.models("promote", third)
    assert refused.returncode == ExitCode.MODEL_REFUSED, refused.stderr
    assert "east: serves" in refused.stdout
    assert "west: does not serve it: version folder" in refused.stdout, "another content lies under the number there"
    assert world.workers["west"].get("/v2/models/ranker/versions/2/ready")[0] == 200
    assert all(said["serves"] for said in world.told("rollback")["regions"])
    assert world.told("show", "champion")["line"]["version"] == "2"


def test_a_region_that_is_away_is_said_to_be_unknown(world: World, tmp_path: Path) -> None:
    """The alias moves all the same; the region takes the champion when it is back, from the one that has it."""
    world.workers["east"].start()
    world.told("push", str(write_version(tmp_path / "built", "1", golden_rows=6)))
    moved = world.models("promote", "2", "--wait", "20")
    assert moved.returncode == 69, moved.stderr
    assert "west: does not serve it: no worker answers" in moved.stdout
    world.workers["west"].start()
    again = world.told("promote", "2")
    assert [said["serves"] for said in again["regions"]] == [True, True]
