"""Two regions and a witness as a user has them: up, a site killed, a site wiped, down without a trace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import urllib.request
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from infra.runtime.network import unavailable
from services.region import run_file
from services.region.run_file import is_alive
from streams.logs import topics_of
from tests.support.deployment import LocalDeployment, meridian, running_deployment
from tests.support.metrics_budget import REGION_SERIES_MAX, SERIES_MAX, over_budget, series_of
from tests.support.poll import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
CORE = {"etcd", "kafka", "inference", "processor", "gateway"}
MEMORY_BYTES_MAX = 3 << 30


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDeployment]:
    """One deployment for the tests of this module, which run in their order."""
    with running_deployment(tmp_path_factory.mktemp("e2e") / "two") as (found, _):
        yield found


def status(deployment: LocalDeployment) -> Any:
    """What `meridian status --json` prints."""
    done = meridian("status", "--json", "--data-dir", str(deployment.directory))
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def members(deployment: LocalDeployment, asked: str) -> dict[str, bool]:
    """The etcd members as one of them knows them: by name, whether it only learns."""
    url = f"{deployment.deployment.site(asked).url('etcd_client')}/v3/cluster/member/list"
    with urllib.request.urlopen(urllib.request.Request(url, b"{}"), timeout=10) as answer:
        listed = json.loads(answer.read())["members"]
    return {member.get("name", ""): member.get("isLearner", False) for member in listed}


def test_every_process_of_both_regions_is_ready_and_all_fit_into_three_gigabytes(deployment: LocalDeployment) -> None:
    """Each region in its first life, with a vote; the witness with nothing else."""
    found = status(deployment)
    by_site = {site["region"]: site for site in found["sites"]}
    for region in ("east", "west"):
        ready = {process["name"] for process in by_site[region]["processes"] if process["state"] == "ready"}
        assert ready >= CORE, by_site[region]["summary"]
        assert by_site[region]["incarnation"] == f"{region}-1"
    assert [process["name"] for process in by_site["north"]["processes"]] == ["etcd"]
    assert members(deployment, "north") == {"east": False, "west": False, "north": False}
    print(f"memory of two regions and a witness: {found['memory_bytes'] >> 20} MB")
    assert found["memory_bytes"] < MEMORY_BYTES_MAX


def test_metrics_of_every_process_stay_within_their_budgets(deployment: LocalDeployment) -> None:
    """Series by process and by region, and no label that holds a user, a query or an item."""
    for site in deployment.deployment.regions:
        series = 0
        for process, listener in {**{name: name for name in SERIES_MAX}, "controller": "control"}.items():
            with urllib.request.urlopen(f"{site.url(listener)}/metrics", timeout=10) as answer:
                page = answer.read().decode()
            assert over_budget(process, page) == []
            series += series_of(page)
        assert 100 < series < REGION_SERIES_MAX


def test_a_second_start_is_refused_and_another_shape_as_well(deployment: LocalDeployment) -> None:
    """Exit code 64 and the next step."""
    again = meridian("up", "-d", "--data-dir", str(deployment.directory))
    assert again.returncode == 64 and "runs already" in again.stderr
    other = meridian("up", "--regions", "a,b,c", "-d", "--data-dir", str(deployment.directory))
    assert other.returncode == 64 and "another deployment" in other.stderr
    unknown = meridian("up", "--site", "south", "--data-dir", str(deployment.directory))
    assert unknown.returncode == 64 and "There are: east, west, north" in unknown.stderr


def test_a_killed_site_takes_its_processes_along_and_comes_back_in_the_same_life(deployment: LocalDeployment) -> None:
    """Nobody restarts a site; the other one goes on; the log is whole, so the life goes on."""
    untouched = deployment.identities("west")
    deployment.kill("east")
    assert all(map(is_alive, untouched))
    outcome = deployment.up("east")
    assert {p.name for p in deployment.record("east").processes if p.phase == "ready"} >= CORE, outcome.summary
    assert deployment.incarnation("east") == "east-1"


def test_a_killed_vote_restarts_alone(deployment: LocalDeployment) -> None:
    """A crash of etcd takes nothing else down."""
    before = deployment.process("west", "etcd").identity
    gateway = deployment.process("west", "gateway").identity
    assert before is not None
    run_file.send(before, signal.SIGKILL)
    wait_until(
        lambda: (
            deployment.process("west", "etcd").identity not in (before, None)
            and deployment.process("west", "etcd").phase == "ready"
        ),
        60,
        "another etcd",
    )
    assert deployment.process("west", "gateway").identity == gateway


def publish(deployment: LocalDeployment, site: str, count: int) -> None:
    """Have a region's gateway acknowledge so many events."""
    url = f"{deployment.deployment.site(site).url('gateway')}/v1/events"
    for number in range(count):
        event = {
            "specversion": "1.0", "id": f"{site}-{number}", "source": "/apps/shop", "type": "meridian.item.v1",
            "time": "2026-11-21T12:00:00Z", "data": {"item": f"sku-{number}", "title": "USB cable"},
        }  # fmt: skip
        headers = {"Content-Type": "application/cloudevents+json"}
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(event).encode(), headers), timeout=30) as r:
            assert r.status in {200, 202}


def folded(deployment: LocalDeployment, site: str) -> tuple[str, int] | None:
    """A region's digest, and how many records of events it has folded; None while it does not answer."""
    url = f"{deployment.deployment.site(site).url('processor')}/v1/state"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            state = json.loads(answer.read())
    except OSError:
        return None
    return state["digest"], sum(end for _, _, end in state["frontier"])


def agree(deployment: LocalDeployment, records: int) -> bool:
    """Whether both regions have folded at least so many records and are in the same state."""
    states = [folded(deployment, site) for site in ("east", "west")]
    return states[0] is not None and states[0] == states[1] and states[0][1] >= records


def cut_events(deployment: LocalDeployment, site: str) -> str:
    """Kill a region's broker and take the second half of its longest partition away; return which."""
    broker = deployment.process(site, "kafka").identity
    assert broker is not None
    logs = (deployment.directory / site / "kafka" / "logs").glob(f"{deployment.incarnation(site)}.events-*")
    segment = max((log / f"{0:020}.log" for log in logs), key=lambda path: path.stat().st_size)
    run_file.send(broker, signal.SIGKILL)
    os.truncate(segment, segment.stat().st_size // 2)
    return segment.parent.name


def test_a_log_that_lost_acknowledged_records_begins_its_next_life_by_itself(deployment: LocalDeployment) -> None:
    """The old life is sealed with the cut; what was lost comes back from the peer, and both regions agree."""
    publish(deployment, "east", 60)
    wait_until(lambda: agree(deployment, 60), 90, "both regions to fold all")
    place = cut_events(deployment, "east")
    wait_until(lambda: deployment.incarnation("east") == "east-2", 240, "the next life")
    supervisor = (deployment.directory / "east" / "logs" / "supervisor.log").read_text()
    log, _, partition = place.rpartition("-")
    assert "east-1 is over" in supervisor and f"{log} partition {partition} ends at" in supervisor
    wait_until(lambda: agree(deployment, 60), 240, "both regions to agree again")
    assert (deployment.directory / "east" / "kafka.east-1").is_dir(), "the evidence is kept"


def test_a_wiped_site_comes_back_as_the_next_life(deployment: LocalDeployment) -> None:
    """New incarnation, new vote, and the topics of every life; the peer has them as well."""
    deployment.kill("west")
    shutil.rmtree(deployment.directory / "west")
    outcome = deployment.up("west")
    assert deployment.incarnation("west") == "west-2", outcome.summary
    wait_until(lambda: agree(deployment, 60), 240, "both regions to agree again")
    learns = {"east": False, "west": False, "north": False}
    wait_until(lambda: members(deployment, "north") == learns, 120, "the new member to get its vote")
    for site in ("east", "west"):
        admin = AdminClient({"bootstrap.servers": deployment.deployment.site(site).bootstrap})
        wanted = {topic for life in ("east-3", "west-1", "west-2", "west-3") for topic in topics_of(life)}
        wait_until(lambda: set(admin.list_topics(timeout=30).topics) >= wanted, 60, f"all topics in {site}")  # noqa: B023


def test_down_leaves_no_process(deployment: LocalDeployment) -> None:
    """Of all three sites."""
    living = [identity for site in ("east", "west", "north") for identity in deployment.identities(site)]
    done = meridian("down", "--data-dir", str(deployment.directory))
    assert done.returncode == 0, done.stderr
    assert not any(map(is_alive, living))
    assert meridian("status", "--data-dir", str(deployment.directory)).returncode == 3


REASON = unavailable()


@pytest.mark.skipif(REASON is not None, reason=f"no network namespaces here: {REASON}")
def test_a_deployment_with_a_network_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing of it listens on the machine's own network; commands find their way in; the holder ends with it."""
    directory = tmp_path_factory.mktemp("e2e") / "spaces"
    with running_deployment(directory, network="namespaces") as (deployment, up):
        holder = up.holder_pid
        assert psutil.pid_exists(holder)
        found = status(deployment)
        for site in found["sites"]:
            ready = {process["name"] for process in site["processes"] if process["state"] == "ready"}
            assert ready >= (CORE if site["region"] != "north" else {"etcd"}), site["summary"]
        ours = {c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        assert deployment.deployment.site("east").port("gateway") not in ours
    wait_until(lambda: not psutil.pid_exists(holder), 10, "the holder to end")
