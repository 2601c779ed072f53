"""What a drill on containers says before it starts anything, and how it reads what Docker says."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from infra.runtime.network import Drop
from region_sim.backends import compose
from region_sim.backends.compose import machine_problem
from region_sim.backends.container_network import _rule
from region_sim.backends.containers import number_inside
from region_sim.errors import BadDrill
from region_sim.faults.refusals import refusal_of
from region_sim.spec import Drill, Partition, load_drill

HOSTS = {"east": "172.30.0.2", "west": "172.30.0.3"}
RUNS_ON_CONTAINERS = {
    "broker-kill",
    "etcd-leader-and-active",
    "etcd-quorum-lost",
    "failback-herd",
    "inference-hang",
    "inference-kill",
    "kill-active",
    "kill-etcd-leader",
    "pause-active",
    "poison-events",
    "processor-crash-loop",
    "replicator-kill",
    "rolling-restart",
    "second-loss-after-failover",
    "switchover-under-load",
    "wipe-active",
    "wipe-active-ack-remote",
    "wipe-passive",
}


def refused(drill: Drill) -> str | None:
    """Why the compose backend does not run it."""
    ask = refusal_of("compose", drill)
    return next((why for fault in drill.faults if (why := ask(fault)) is not None), None)


@pytest.mark.parametrize("name", sorted(RUNS_ON_CONTAINERS))
def test_drills_that_run_on_containers(name: str) -> None:
    """All that signals, removed volumes and operators can do."""
    assert refused(load_drill(name)) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("slow-link", "nothing stands between"),
        ("disk-full", "volumes"),
        ("unflushed-loss", "starts a broker again"),
        ("topic-data-loss", "starts a broker again"),
        ("corrupt-model", "part of its image"),
        ("clock-step", "use --backend memory"),
        ("double-failure", "has the sites east, west and north"),
    ],
)
def test_what_containers_cannot_do_is_refused_with_who_can(name: str, words: str) -> None:
    """Unknown, never silently another fault."""
    why = refused(load_drill(name))
    assert why is not None
    assert words in why
    assert "use --backend" in why


def test_dropping_packets_needs_nft_and_disconnecting_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the package."""
    monkeypatch.setattr("infra.runtime.network.has_nft", lambda: False)
    drill = load_drill("partition-active")
    assert "apt-get install nftables" in str(refused(drill))
    assert refused(load_drill("partition-active", ["faults.0.how=disconnect"])) is None


def test_a_disconnect_is_for_containers_and_takes_everything() -> None:
    """Elsewhere it is refused; with a part of the traffic it is a contradiction."""
    drill = load_drill("partition-active", ["faults.0.how=disconnect"])
    for backend in ("process", "memory"):
        assert "use --backend compose" in str(refusal_of(backend, drill)(drill.faults[0]))  # type: ignore[arg-type]
    with pytest.raises(BadDrill, match='shape "etcd" needs "drop"'):
        load_drill("partition-active", ["faults.0.how=disconnect", "faults.0.shape=etcd"])
    assert msgspec.convert({}, Partition).how == "drop"


def test_rules_drop_at_the_receiver_by_the_senders_address() -> None:
    """All of it, only some ports at either end, or all but those."""
    assert _rule(Drop("east", "west"), HOSTS) == ["add rule inet meridian_drill links ip saddr 172.30.0.2 drop"]
    only = _rule(Drop("east", "west", only_ports=(8087, 8088)), HOSTS)
    assert [rule.rpartition("172.30.0.2 ")[2] for rule in only] == [
        "tcp dport { 8087, 8088 } drop",
        "tcp sport { 8087, 8088 } drop",
    ]
    (but,) = _rule(Drop("west", "east", but_ports=(8087,)), HOSTS)
    assert but.endswith("ip saddr 172.30.0.3 tcp dport != { 8087 } tcp sport != { 8087 } drop")


def test_the_number_of_a_process_in_its_own_namespace() -> None:
    """The same as here, for a process that has no other; none for one that is gone."""
    assert number_inside(os.getpid()) == os.getpid()
    assert number_inside(2**22 + 1) is None


def test_what_the_machine_lacks_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root first, then programs, then the daemon."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "run the drill as root" in str(machine_problem())
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert "docker, nsenter, unshare, mount not found: apt-get install" in str(machine_problem())
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    assert "DOCKER_HOST names another machine" in str(machine_problem())


@pytest.mark.parametrize(
    ("version", "problem"), [("2.40.3", None), ("v2.24.0", None), ("2.23.1", "is too old"), ("1.29.2", "is too old")]
)
def test_compose_must_be_new_enough(version: str, problem: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older ones do not understand that published ports are left out."""
    monkeypatch.setattr(compose, "docker", lambda *_: version)
    found = compose._docker_problem()
    assert found is None if problem is None else problem in str(found)


def test_a_project_is_of_one_run_alone_and_has_the_images_that_were_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name of its own, no published ports, clients that are never between the sites; somebody's own images win."""
    (tmp_path / "docker-compose.multiregion.yml").write_text("services: {}\n", encoding="utf-8")
    images = tmp_path / "var" / "compose"
    images.mkdir(parents=True)
    (images / "images.env").write_text("# made\nMERIDIAN_IMAGE=a:1\nMERIDIAN_KAFKA_IMAGE=b:2\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MERIDIAN_KAFKA_IMAGE", "mine:3")
    project = compose._project(tmp_path / "20260101T000000.123" / "sites", "cgroupfs")
    assert project.name == "meridian-drill-20260101t000000123"
    assert project.container("east-net") == f"{project.name}-east-net-1"
    assert project.environment["MERIDIAN_IMAGE"] == "a:1"
    assert "MERIDIAN_KAFKA_IMAGE" not in project.environment
    assert project.environment["MERIDIAN_WEST_URL"] == "http://west:8100"
    added = Path(project.files[1]).read_text(encoding="utf-8")
    assert "networks: [east, west, north]" in added
    assert added.count("ports: !reset []") == 3
    # All containers of a daemon that uses cgroupfs have the weight of one process, unless they are taken out of there.
    assert "  east: {cgroup_parent: /, cpu_shares: 5120}\n" in added
    assert "  west-kafka: {cgroup_parent: /, cpu_shares: 1024}\n" in added
    elsewhere = compose._project(tmp_path / "20260101T000000.124" / "sites", "systemd")
    assert "cgroup_parent" not in Path(elsewhere.files[1]).read_text(encoding="utf-8")
