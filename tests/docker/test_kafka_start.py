"""The start script of a region's broker, in its image: which life a volume is in, and how one ends."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from tests.support.containers import KAFKA, image_or_skip
from tests.support.poll import wait_until

pytestmark = pytest.mark.docker
ROOT = Path(__file__).resolve().parents[2]
SITE = "/var/meridian/east"
SECONDS_MAX = 90.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Container]:
    """A broker that keeps its log and the region's files in directories of this test."""
    image = image_or_skip(KAFKA)
    for directory in ("data", "site"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory).chmod(0o777)
    mounts = {
        str(ROOT / "infra/docker/kafka/start.sh"): "/opt/meridian/start.sh:ro",
        str(ROOT / "infra/docker/kafka/common.properties"): "/opt/meridian/common.properties:ro",
        str(ROOT / "infra/runtime/log4j2.properties"): "/opt/meridian/log4j2.properties:ro",
        str(tmp_path / "data"): "/var/lib/kafka/data",
        str(tmp_path / "site"): SITE,
    }
    client = docker.from_env()
    container = client.containers.run(
        image,
        entrypoint=["/opt/meridian/start.sh"],
        command=[],
        user=f"{os.getuid() or 1000}",
        init=True,
        detach=True,
        read_only=True,
        tmpfs={"/tmp": "mode=1777"},
        extra_hosts={"east": "127.0.0.1"},
        environment={
            "MERIDIAN_SITE": "east",
            "MERIDIAN_KAFKA_PORT": "8083",
            "MERIDIAN_KAFKA_QUORUM": "8084",
            "MERIDIAN_SITE_DIRECTORY": SITE,
        },
        volumes=[f"{here}:{there}" for here, there in mounts.items()],
    )
    try:
        yield container
    finally:
        container.remove(force=True, v=True)
        # What the broker's user wrote is not ours to remove.
        client.containers.run(image, entrypoint=["sh", "-c"], command=["rm -rf /t/data/* /t/site/*"], remove=True,
                              user="0", volumes=[f"{tmp_path}:/t"])  # fmt: skip
        client.close()


def _starts(broker: Container) -> int:
    return broker.logs().decode(errors="replace").count("Kafka Server started")


def _await_starts(broker: Container, count: int) -> None:
    try:
        wait_until(lambda: _starts(broker) >= count, SECONDS_MAX, f"start number {count} of the broker")
    except AssertionError as late:
        late.add_note(broker.logs(tail=30).decode(errors="replace"))
        raise


def _cluster(broker: Container, directory: str = "logs") -> str:
    said = broker.exec_run(["cat", f"/var/lib/kafka/data/{directory}/meta.properties"]).output.decode()
    found = re.search(r"^cluster\.id=(\S+)$", said, re.MULTILINE)
    assert found is not None, said
    return found[1]


def _put(broker: Container, path: str, text: str) -> None:
    code, said = broker.exec_run(["sh", "-c", f"mkdir -p $(dirname {path}) && printf '%s' '{text}' > {path}"])
    assert code == 0, said.decode()


@pytest.mark.timeout(400)
def test_a_life_goes_on_after_a_kill_and_ends_when_it_is_asked_to(broker: Container) -> None:
    """A killed broker is the same cluster again; a sealed life's log is kept aside and the next is another cluster."""
    _await_starts(broker, 1)
    first = _cluster(broker)
    broker.kill()
    broker.start()
    _await_starts(broker, 2)
    assert _cluster(broker) == first

    _put(broker, f"{SITE}/snapshots/newest", "folded from records that are gone")
    _put(broker, f"{SITE}/life.json", "stays")
    _put(broker, f"{SITE}/renew.json", json.dumps({"incarnation": "east-1", "because": "its log was cut"}))
    _await_starts(broker, 3)
    assert _cluster(broker) != first
    assert _cluster(broker, "kept.east-1") == first, "evidence"
    left = broker.exec_run(["ls", SITE]).output.decode().split()
    assert left == ["life.json"], "the wish is fulfilled, what hung on the old log is gone, the rest stays"


@pytest.mark.timeout(200)
def test_it_ends_in_good_order_when_it_is_stopped(broker: Container, tmp_path: Path) -> None:
    """SIGTERM reaches the broker behind the script: its next start has nothing to recover."""
    _await_starts(broker, 1)
    broker.stop(timeout=60)
    broker.reload()
    assert broker.attrs["State"]["ExitCode"] == 0
    assert (tmp_path / "data" / "logs" / ".kafka_cleanshutdown").exists()


@pytest.mark.timeout(200)
def test_a_log_that_lost_its_name_tag_is_not_removed(broker: Container, tmp_path: Path) -> None:
    """A volume without meta.properties is empty, or damaged: only the first is formatted."""
    _await_starts(broker, 1)
    broker.stop(timeout=60)
    logs = tmp_path / "data" / "logs"
    (logs / "east-1.events-0").mkdir()
    (logs / "meta.properties").unlink()
    broker.start()
    broker.wait(timeout=60)
    said = broker.logs().decode(errors="replace")
    assert "holds a log and no meta.properties" in said
    assert (logs / "east-1.events-0").is_dir()
    assert _starts(broker) == 1
