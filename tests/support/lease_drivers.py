"""One harness a driver, so that the contract of leases is asked of each of them in the same words."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any, Protocol

from infra.runtime.etcd_members import http_json
from services.coordination import MemoryStore
from services.coordination.cluster import EtcdCluster as Admin
from services.coordination.etcd import EtcdGatewayStore
from services.coordination.lease import LeaseStore
from services.coordination.settings import CoordinationSettings
from tests.support.mute_proxy import MuteProxy


def new_root() -> str:
    """A prefix that no other test has."""
    return f"/test/{os.urandom(8).hex()}/"


class Cluster(Protocol):
    """etcd members, whoever runs them."""

    members: Any
    """By site."""

    @property
    def endpoints(self) -> list[str]:
        """The client addresses."""

    def store(self) -> EtcdGatewayStore:
        """Return a new store on the cluster; close it."""


class LeaseDriver(Protocol):
    """What the contract needs besides the store itself."""

    def open(self) -> LeaseStore:
        """Another store on the same data, to be closed by the caller."""

    async def compact(self, revision: int) -> None:
        """Let the past up to a revision be forgotten."""

    async def move_leader(self) -> None:
        """Let another member lead the cluster, if there are members."""

    def mute(self) -> contextlib.AbstractAsyncContextManager[LeaseStore]:
        """Yield a store whose answers are all lost from now on, while what it asks is done."""


class MemoryDriver:
    """The fake, with leases short enough for tests in real time."""

    def __init__(self) -> None:
        self._store = MemoryStore(ttl_minimum_seconds=1.0)

    def open(self) -> LeaseStore:
        """See LeaseDriver."""
        return self._store

    async def compact(self, revision: int) -> None:
        """See LeaseDriver."""
        self._store.compact(revision)

    async def move_leader(self) -> None:
        """See LeaseDriver."""

    @contextlib.asynccontextmanager
    async def mute(self) -> AsyncIterator[LeaseStore]:
        """See LeaseDriver."""
        self._store.drop_reply()
        yield self._store


class GatewayDriver:
    """The default: etcd's JSON gateway."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def open(self) -> LeaseStore:
        """See LeaseDriver."""
        return self._cluster.store()

    async def compact(self, revision: int) -> None:
        """See LeaseDriver."""
        compact(self._cluster, revision)

    async def move_leader(self) -> None:
        """See LeaseDriver."""
        await move_leader(self._cluster)

    @contextlib.asynccontextmanager
    async def mute(self) -> AsyncIterator[LeaseStore]:
        """See LeaseDriver."""
        async with MuteProxy(self._cluster.endpoints[0]) as proxy:
            store = EtcdGatewayStore([proxy.url], request_timeout_seconds=1.0)
            await store.revision()
            proxy.mute = True
            yield store
            await store.close()


class Etcd3Driver(GatewayDriver):
    """The package `etcd3`, on one member."""

    def open(self) -> LeaseStore:
        """See LeaseDriver."""
        return self._open(self._cluster.endpoints[0], request_timeout_ms=2000)

    @contextlib.asynccontextmanager
    async def mute(self) -> AsyncIterator[LeaseStore]:
        """See LeaseDriver."""
        async with MuteProxy(self._cluster.endpoints[0]) as proxy:
            store = self._open(proxy.url, request_timeout_ms=1000)
            await store.revision()
            proxy.mute = True
            yield store
            await store.close()

    def _open(self, endpoint: str, **settings: Any) -> LeaseStore:
        from services.coordination.etcd3_driver import Etcd3Store

        patient = CoordinationSettings(lease_ttl_seconds=60, **settings)
        return Etcd3Store.from_settings(endpoint, patient)


def compact(cluster: Cluster, revision: int) -> None:
    """Compact a real cluster; what another test compacted further already is no error."""
    with contextlib.suppress(OSError):
        http_json(f"{cluster.endpoints[0]}/v3/kv/compaction", {"revision": str(revision), "physical": True})


async def move_leader(cluster: Cluster) -> None:
    """Hand the lead of a real cluster to another member."""
    store = cluster.store()
    try:
        admin = Admin(store.transport)
        others = [site for site in cluster.members if site != await admin.leader()]
        assert await admin.move_leader(others[0])
    finally:
        await store.close()
