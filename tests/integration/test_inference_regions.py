"""Workers as real processes, over a real etcd: promotion in two regions, a fetch that is killed, swaps under load."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models.signing import public_key, sign
from services.common.clock import SystemClock
from services.coordination import FileStore
from services.coordination.etcd import EtcdGatewayStore
from services.coordination.keys import registry_key
from services.inference.announcement import KIND, WorkerEntry
from services.inference.client import InferenceClient
from services.inference.repository import Repository
from tests.support.etcd import EtcdCluster
from tests.support.inference_parts import KEY, MODEL, add_version, promote
from tests.support.inference_peer import Peer, listening
from tests.support.inference_worker import InferenceWorker, deadline_in
from tests.support.poll import wait_until, wait_until_async
from tests.support.tiny_model import expected_scores, request_inputs, write_version

pytestmark = pytest.mark.integration

SMALL = {"batch_buckets": "1,2", "candidate_buckets": "64", "alias_poll_seconds": 0.1, "retry_seconds_max": 1}


class RegionWorker(InferenceWorker):
    """A worker of a deployment's region, with a repository of its own that holds version 1."""

    def __init__(self, directory: Path, region: str, etcd: EtcdCluster, **settings: object) -> None:
        home = directory / region
        home.mkdir()
        super().__init__(home, home, **{**SMALL, **settings})
        del self._environment["MERIDIAN_INFERENCE_MODEL_REPOSITORY"]
        self._environment |= {
            "MERIDIAN_REGION_NAME": region,
            "MERIDIAN_REGION_DEPLOYMENT": str(directory / "deployment.json"),
            "MERIDIAN_COORDINATION_ENDPOINTS": ",".join(etcd.endpoints),
        }
        trusted = home / "var" / "trusted-model-keys"
        trusted.parent.mkdir()
        trusted.write_text(public_key(KEY).hex())
        self.repository = Repository(home / "var" / "models", home, trusted, asks_for_signatures=True)
        add_version(self.repository, "1")

    def champion(self) -> dict[str, Any]:
        """What it says of its champion."""
        with urllib.request.urlopen(f"{self.url}/v2/repository/models/{MODEL}/champion", timeout=10) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found

    def serves(self, version: str) -> bool:
        """Whether it serves a version that is what the alias names."""
        said = self.champion()
        return said["blocker"] is None and said["serving"]["version"] == version


@pytest.fixture
async def store(etcd_cluster: EtcdCluster) -> AsyncIterator[EtcdGatewayStore]:
    """The regions' store, without what another test left of the model."""
    opened = etcd_cluster.store()
    for entry in await opened.list("/meridian/models/"):
        await opened.compare_and_delete(entry.key, entry.revision)
    yield opened
    await opened.close()


@pytest.fixture
def workers(tmp_path: Path, etcd_cluster: EtcdCluster) -> Iterator[dict[str, RegionWorker]]:
    """East and west, not started."""
    made = {name: RegionWorker(tmp_path, name, etcd_cluster) for name in ("east", "west")}
    yield made
    for worker in made.values():
        if worker._process is not None:
            worker.stop()


async def test_a_promotion_reaches_the_region_that_never_had_the_version(
    workers: dict[str, RegionWorker], store: EtcdGatewayStore
) -> None:
    """Version 2 lies in east only; after the promotion both serve it and say so, and a rollback reaches both."""
    east, west = workers["east"], workers["west"]
    await asyncio.to_thread(east.start)
    await asyncio.to_thread(west.start)
    one = east.repository.manifest_sha256(MODEL, "1") or ""
    two = add_version(east.repository, "2")
    await promote(store, "2", two)
    for worker in (east, west):
        await wait_until_async(lambda worker=worker: asyncio.to_thread(worker.serves, "2"), 60, "version 2 to serve")  # type: ignore[misc]
    assert west.champion()["serving"]["sha256"] == two
    assert west.metric('meridian_inference_fetches_total{model="ranker",outcome="fetched"}') == 1
    assert west.metric("meridian_inference_degraded") == 0
    await promote(store, "1", one)
    for worker in (east, west):
        await wait_until_async(lambda worker=worker: asyncio.to_thread(worker.serves, "1"), 60, "version 1 to serve")  # type: ignore[misc]


async def test_a_worker_killed_in_the_middle_of_a_fetch_goes_on_where_it_stopped(
    workers: dict[str, RegionWorker], store: EtcdGatewayStore
) -> None:
    """By kill -9: version 1 serves after the restart, the rest is asked for by its range, and version 2 serves then."""
    west, source = workers["west"], workers["east"].repository
    two = add_version(source, "2")
    peer = Peer(source)
    peer.break_after["golden.npz"] = 30_000
    peer.stall = asyncio.Event()
    async with listening(peer) as url:
        entry = msgspec.json.encode(WorkerEntry(url, MODEL))
        lease = await store.grant(3600)
        await store.compare_and_put(registry_key("elsewhere", KIND, "test"), entry, 0, lease_id=lease.lease_id)
        await asyncio.to_thread(west.start)
        await promote(store, "2", two)
        place = west.repository.path / MODEL

        def half() -> bool:
            return any(part.stat().st_size == 30_000 for part in place.glob(".fetch-2-*/golden.npz.part"))

        await wait_until_async(half, 60, "half of a file to be there")
        west.signal(signal.SIGKILL)
        await asyncio.to_thread(west.wait)
        assert west.repository.versions(MODEL) == ["1"]
        peer.stall.set()
        await asyncio.to_thread(west.start)
        await wait_until_async(lambda: asyncio.to_thread(west.serves, "2"), 60, "version 2 to serve")
        await store.revoke(lease.lease_id)
    assert [range_ for name, range_ in peer.asked if name == "golden.npz"] == ["", "bytes=30000-"]
    assert list(place.glob(".fetch-*")) == []
    for path in source.folder(MODEL, "2").iterdir():
        assert (west.repository.folder(MODEL, "2") / path.name).read_bytes() == path.read_bytes()


async def test_twenty_promotions_under_load_fail_nothing_and_keep_no_memory(tmp_path: Path) -> None:
    """And five times a version that does not pass is refused among them; memory returns all the same."""
    versions = {"1": "", "2": "", "3": ""}
    repository = Repository(tmp_path / "var" / "models", tmp_path)
    for version in versions:
        shift = 0.01 if version == "3" else 0.0
        folder = write_version(
            repository.path, version, bias=float(version), layers=40, golden_rows=4, golden_shift=shift
        )
        sign(folder, KEY)
        versions[version] = repository.manifest_sha256(MODEL, version) or ""
    store = FileStore(tmp_path / "var" / "coordination.json")
    await promote(store, "1", versions["1"])
    worker = InferenceWorker(tmp_path, repository.path, **SMALL)
    await asyncio.to_thread(worker.start)
    inputs, seen, stop = request_inputs(1, 50), set[str](), asyncio.Event()

    async def traffic(client: InferenceClient) -> None:
        while not stop.is_set():
            scored = await client.infer(inputs, deadline_in(20.0))
            seen.add(scored.model_version)
            expected = expected_scores(inputs, bias=float(scored.model_version.removeprefix("ranker/")))
            np.testing.assert_allclose(scored.scores, expected, atol=1e-4)

    def loads(outcome: str) -> float:
        return worker.metric(f'meridian_inference_model_loads_total{{model="ranker",outcome="{outcome}"}}')

    sizes: list[int] = []
    good = itertools.cycle(["2", "1"])
    try:
        async with InferenceClient(worker.url, clock=SystemClock()) as client:
            callers = [asyncio.ensure_future(traffic(client)) for _ in range(2)]
            for number in range(25):
                version = "3" if number % 5 == 4 else next(good)
                before = await asyncio.to_thread(lambda: loads("served") + loads("refused"))
                await promote(store, version, versions[version])
                await wait_until_async(
                    lambda before=before: asyncio.to_thread(lambda: loads("served") + loads("refused") > before),  # type: ignore[misc]
                    60,
                    f"version {version} to be judged",
                )
                sizes.append(worker.rss_kib())
            stop.set()
            await asyncio.gather(*callers)
        assert loads("refused") == 5
        assert seen == {"ranker/1", "ranker/2"}
        wait_until(lambda: worker.rss_kib() < sizes[4] + (8 << 10), 10, "the memory of replaced versions to come back")
        print(f"resident KiB after 5 and 25 promotions: {sizes[4]}, {worker.rss_kib()}")
        page = worker.get("/metrics")[1].splitlines()
        assert [line for line in page if line.startswith("nv_inference_request_failure")] == []
    finally:
        worker.stop()
