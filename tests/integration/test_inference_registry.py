"""A worker among several regions is listed in the coordination store while it serves, and no longer."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from services.coordination.registry import registered
from services.inference.announcement import KIND, WorkerEntry
from tests.support.etcd import EtcdCluster
from tests.support.inference_worker import InferenceWorker
from tests.support.poll import wait_until_async
from tests.support.tiny_model import write_version

pytestmark = pytest.mark.integration

REGION = "listed"


@pytest.fixture
def worker(tmp_path: Path, etcd_cluster: EtcdCluster) -> Iterator[InferenceWorker]:
    """A worker of a region that is not alone; started."""
    write_version(tmp_path / "repository", "1")
    made = InferenceWorker(tmp_path, tmp_path / "repository")
    made._environment |= {
        "MERIDIAN_REGION_NAME": REGION,
        "MERIDIAN_REGION_DEPLOYMENT": str(tmp_path / "deployment.json"),
        "MERIDIAN_COORDINATION_ENDPOINTS": ",".join(etcd_cluster.endpoints),
    }
    made.start()
    yield made
    made.stop()


async def test_a_worker_is_listed_while_it_serves(worker: InferenceWorker, etcd_cluster: EtcdCluster) -> None:
    """Where it is and what it serves; when it ends in good order it is gone at once."""
    store = etcd_cluster.store()

    async def listed() -> bool:
        found = await registered(store, REGION, KIND)
        return [msgspec.json.decode(entry.value, type=WorkerEntry) for entry in found] == [
            WorkerEntry(worker.url, "ranker")
        ]

    await wait_until_async(listed, 60, "the worker to be listed")
    assert worker.stop() == 0
    assert await registered(store, REGION, KIND) == []
    await store.close()


async def test_a_killed_worker_is_listed_no_longer_than_its_lease(
    worker: InferenceWorker, etcd_cluster: EtcdCluster
) -> None:
    """Nobody has to clean up after it."""
    store = etcd_cluster.store()

    async def count(expected: int) -> bool:
        return len(await registered(store, REGION, KIND)) == expected

    await wait_until_async(lambda: count(1), 60, "the worker to be listed")
    worker.signal(signal.SIGKILL)
    await wait_until_async(lambda: count(0), 60, "its lease to end")
    await store.close()
