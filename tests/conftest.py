"""Fixtures that every package may use: a real broker and a real etcd cluster, shared or one's own.

`MERIDIAN_KAFKA_BOOTSTRAP` is not looked at here: tests kill their broker, and must never do that to somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.runtime.kafka import KafkaBroker, running_broker
from tests.support.etcd import EtcdCluster


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker for the whole run; tests use names of their own and leave it running."""
    with running_broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def fresh_broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker for one test alone, to be killed, stopped and cut at will."""
    with running_broker(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture(scope="session")
def etcd_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """Three etcd members for the whole run; tests use keys of their own and leave them running."""
    cluster = EtcdCluster(tmp_path_factory.mktemp("etcd"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture
def fresh_etcd_cluster(tmp_path: Path) -> Iterator[EtcdCluster]:
    """Three etcd members for one test alone, to be killed, frozen and wiped at will."""
    cluster = EtcdCluster(tmp_path / "etcd")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()
