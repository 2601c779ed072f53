"""Kafka and etcd from images, for tests: the parts as somebody deploys them, not as `make setup` fetched them.

Images are named by MERIDIAN_KAFKA_IMAGE and MERIDIAN_ETCD_IMAGE, else by what `make images` wrote down, else they are
the pinned public ones. Nothing is pulled: a test that begins a download of its own is none that anybody can time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException, ImageNotFound
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from infra.runtime.etcd import ELECTION_MS, HEARTBEAT_MS
from infra.runtime.etcd_members import http_json
from infra.runtime.kafka import free_ports
from services.coordination.etcd import EtcdGatewayStore
from tests.support.etcd import SITES
from tests.support.poll import wait_until

KAFKA = ("MERIDIAN_KAFKA_IMAGE", "apache/kafka:4.3.1")
ETCD = ("MERIDIAN_ETCD_IMAGE", "gcr.io/etcd-development/etcd:v3.6.16")
ROOT = Path(__file__).resolve().parents[2]
LOCAL_IMAGES = ROOT / "var" / "compose" / "images.env"
# A broker is started as docker-compose.multiregion.yml starts it, whichever image it is of.
BROKER_FILES = (
    "infra/docker/kafka/start.sh",
    "infra/docker/kafka/common.properties",
    "infra/runtime/log4j2.properties",
)
BROKER_START = "/opt/meridian/start.sh"
START_SECONDS_MAX = 60.0


def image_or_skip(kind: tuple[str, str]) -> str:
    """The image of a kind that lies on this machine; skips the test, with the reason, where there is none."""
    problem = daemon_problem()
    if problem is not None:
        pytest.skip(problem)
    image = named(kind)
    if not _is_here(image):
        pytest.skip(f"there is no image {image} here: `make images` builds one, or `docker pull {image}`")
    # What removes the containers of a test run that was killed is an image too. Without it the fixtures remove them.
    testcontainers_config.ryuk_disabled |= not _is_here(testcontainers_config.ryuk_image)
    return image


@cache
def daemon_problem() -> str | None:
    """Why no container can be started here; None when one can."""
    try:
        client = docker.from_env(timeout=5)
        client.ping()
        client.close()
    except (DockerException, OSError) as error:
        return f"no Docker daemon answers: {error}"
    return None


def named(kind: tuple[str, str]) -> str:
    """What somebody named; else what was built here; else what is public."""
    variable, public = kind
    lines = LOCAL_IMAGES.read_text(encoding="utf-8").splitlines() if LOCAL_IMAGES.exists() else []
    built = {name.strip(): image.strip() for name, equals, image in (line.partition("=") for line in lines) if equals}
    return os.environ.get(variable) or built.get(variable) or public


class ContaineredEtcd:
    """An etcd cluster of one container a site; as much of tests.support.etcd.EtcdCluster as suites need."""

    def __init__(self, image: str, sites: Sequence[str] = SITES) -> None:
        self._image = image
        self.members = dict(zip(sites, free_ports(len(sites)), strict=True))
        """By site: the port of this machine at which the member answers."""

    @property
    def endpoints(self) -> list[str]:
        """The client addresses, in the order of the sites."""
        return [f"http://127.0.0.1:{port}" for port in self.members.values()]

    def store(self) -> EtcdGatewayStore:
        """Return a new store on the cluster; close it."""
        return EtcdGatewayStore(self.endpoints, request_timeout_seconds=2.0, watch_silence_seconds=5.0)

    @contextmanager
    def running(self) -> Iterator[ContaineredEtcd]:
        """All members, until the block ends, however it ends."""
        with ExitStack() as stack:
            network = stack.enter_context(Network())
            for site, port in self.members.items():
                container = DockerContainer(self._image, env=self._settings(site, port))
                container.with_network(network).with_network_aliases(site)
                container.ports["2379/tcp"] = ("127.0.0.1", port)
                stack.enter_context(container)
            for endpoint in self.endpoints:
                wait_until(lambda endpoint=endpoint: _is_healthy(endpoint), START_SECONDS_MAX, f"etcd at {endpoint}")
            yield self

    def _settings(self, site: str, port: int) -> dict[str, str]:
        """Of one member: the same in words as members on processes have."""
        return {
            "ETCD_NAME": site,
            "ETCD_DATA_DIR": "/tmp/etcd",
            "ETCD_LISTEN_CLIENT_URLS": "http://0.0.0.0:2379",
            "ETCD_ADVERTISE_CLIENT_URLS": f"http://127.0.0.1:{port}",
            "ETCD_LISTEN_PEER_URLS": "http://0.0.0.0:2380",
            "ETCD_INITIAL_ADVERTISE_PEER_URLS": f"http://{site}:2380",
            "ETCD_INITIAL_CLUSTER": ",".join(f"{name}=http://{name}:2380" for name in self.members),
            "ETCD_INITIAL_CLUSTER_STATE": "new",
            "ETCD_HEARTBEAT_INTERVAL": str(HEARTBEAT_MS),
            "ETCD_ELECTION_TIMEOUT": str(ELECTION_MS),
            "ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL": "200ms",
        }


class ContaineredBroker:
    """A Kafka broker in a container; as much of infra.runtime.kafka.KafkaBroker as suites need."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._container: DockerContainer | None = None
        (self.port,) = free_ports(1)

    @property
    def bootstrap(self) -> str:
        """The address that clients connect to."""
        return f"127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator[ContaineredBroker]:
        """The broker, until the block ends, however it ends."""
        mounts = [(str(ROOT / there), f"/opt/meridian/{Path(there).name}", "ro") for there in BROKER_FILES]
        container = DockerContainer(self._image, env=self._settings(), volumes=mounts, entrypoint=[BROKER_START])
        # One port inside and outside, because a broker tells its clients where it is.
        container.ports[f"{self.port}/tcp"] = ("127.0.0.1", self.port)
        with container as self._container:
            self._wait()
            yield self

    def kill(self) -> None:
        """End the broker as a crash does; what it wrote stays."""
        assert self._container is not None
        self._container.get_wrapped_container().kill()

    def start(self) -> None:
        """Start a killed broker again, and return once it serves."""
        assert self._container is not None
        self._container.get_wrapped_container().start()
        self._wait()

    def _wait(self) -> None:
        assert self._container is not None
        try:
            wait_until(self._serves, START_SECONDS_MAX, f"Kafka of {self._image} at {self.bootstrap}")
        except AssertionError as late:
            late.add_note(self._container.get_wrapped_container().logs(tail=20).decode(errors="replace"))
            raise

    def _settings(self) -> dict[str, str]:
        """Of the compose file's own start script: a region whose name is this machine's."""
        return {
            "MERIDIAN_SITE": "127.0.0.1",
            "MERIDIAN_KAFKA_PORT": str(self.port),
            "MERIDIAN_KAFKA_QUORUM": "9093",
            "MERIDIAN_SITE_DIRECTORY": "/tmp",
        }

    def _serves(self) -> bool:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            return bool(
                AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0}).list_topics(timeout=2).brokers
            )
        except KafkaException:
            return False


def _is_here(image: str) -> bool:
    client = docker.from_env()
    try:
        client.images.get(image)
    except ImageNotFound:
        return False
    finally:
        client.close()
    return True


def _is_healthy(endpoint: str) -> bool:
    try:
        return http_json(f"{endpoint}/health").get("health") == "true"
    except (OSError, ValueError):
        return False
