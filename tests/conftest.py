"""Fixtures that every package may use: a real broker and a real etcd cluster, shared or one's own.

`MERIDIAN_KAFKA_BOOTSTRAP` is not looked at here: tests kill their broker, and must never do that to somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from infra.runtime.kafka import KafkaBroker, running_broker
from tests.support.etcd import EtcdCluster

if TYPE_CHECKING:  # what talks to Docker takes a second to import: only tests that are run pay for it
    from tests.support.containers import ContaineredEtcd

# Speed is measured in bench/: on a busy machine a deadline for each example fails what is right.
hypothesis.settings.register_profile("meridian", deadline=None)
hypothesis.settings.load_profile("meridian")


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


@pytest.fixture(scope="session")
def etcd_in_containers() -> Iterator[ContaineredEtcd]:
    """Three etcd members from an image for the whole run, like `etcd_cluster`."""
    from tests.support.containers import ETCD, ContaineredEtcd, image_or_skip

    with ContaineredEtcd(image_or_skip(ETCD)).running() as cluster:
        yield cluster


@pytest.fixture
def fresh_etcd_cluster(tmp_path: Path) -> Iterator[EtcdCluster]:
    """Three etcd members for one test alone, to be killed, frozen and wiped at will."""
    cluster = EtcdCluster(tmp_path / "etcd")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()
