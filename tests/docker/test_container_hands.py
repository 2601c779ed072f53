"""What a drill does to containers, done to a project of containers that only sleep."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from infra.runtime import network
from infra.runtime.network import Drop, NetworkError
from region_sim.backends.compose import machine_problem
from region_sim.backends.compose_project import PARTS, Project, docker, inspect
from region_sim.backends.containers import ContainerHands, number_inside
from region_sim.faults.base import Scene
from region_sim.faults.plays import play_of
from region_sim.faults.reach import Reach, reaches
from region_sim.spec import Kill, Partition, Pause, Restart, Wipe, kind_of
from services.common.clock import SystemClock
from services.common.deployment import Deployment
from services.region.deploy import plan_deployment
from tests.support.containers import KAFKA, image_or_skip
from tests.support.poll import wait_until, wait_until_async

pytestmark = pytest.mark.docker
PORT = 8080
ENDS_SLOWLY = ["sh", "-c", "trap 'sleep 1; exit 0' TERM; sleep infinity & wait"]
VOLUMES = {"kafka": "kafka", "etcd": "etcd", "": "data"}


def described(image: str) -> dict[str, object]:
    """The shape of docker-compose.multiregion.yml: a namespace a site, all else of the site in it."""
    services: dict[str, object] = {"outside": sleeping(image, networks=["east", "west", "north"])}
    for site in ("east", "west", "north"):
        attached = {site: {"aliases": [site]}, "wan": {"aliases": [site]}}
        services[f"{site}-net"] = sleeping(image, networks=attached)
        for part in ("etcd",) if site == "north" else (*PARTS[1:], ""):
            volume = VOLUMES.get(part)
            services[f"{site}-{part}".rstrip("-")] = sleeping(
                image,
                network_mode=f"service:{site}-net",
                volumes=[f"{site}-{volume}:/kept"] if volume else [],
                depends_on=[f"{site}-net"],
                **({} if part else {"entrypoint": ENDS_SLOWLY, "stop_grace_period": "10s"}),
            )
    names = [f"{site}-{kind}" for site in ("east", "west") for kind in VOLUMES.values()]
    networks = {"east": {}, "west": {}, "north": {}, "wan": {"internal": True}}
    return {"services": services, "networks": networks, "volumes": {name: {} for name in [*names, "north-etcd"]}}


def sleeping(image: str, **changes: object) -> dict[str, object]:
    """One container that does nothing, and is started again when it dies."""
    return {
        "image": image,
        "profiles": ["core"],
        "entrypoint": ["sleep", "infinity"],
        "restart": "unless-stopped",
        "stop_grace_period": "0s",
        **changes,
    }


@pytest.fixture(scope="module")
def hands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerHands]:
    """A project of its own, taken away whatever happens."""
    image = image_or_skip(KAFKA)
    if (problem := machine_problem()) is not None:
        pytest.skip(problem)
    directory = tmp_path_factory.mktemp("project")
    (directory / "compose.json").write_bytes(msgspec.json.encode(described(image)))
    project = Project(
        name=f"meridian-test-{os.getpid()}",
        files=[str(directory / "compose.json")],
        environment={},
        hosts_file=str(directory / "hosts"),
    )
    try:
        project.compose(["up", "--detach", "--no-build"], 120.0)
        yield ContainerHands(project, planned(directory))
    finally:
        project.compose(["down", "--volumes", "--timeout", "0"], 120.0)


def planned(directory: Path) -> Deployment:
    """East, west and north."""
    return plan_deployment(
        ["east", "west"],
        "north",
        base_port=PORT,
        directory=directory,
        network="containers",
        deployment_id="test",
    )


def scene(hands: ContainerHands, target: str) -> Scene:
    """A site of that project."""
    return Scene(hands, SystemClock(), target, hands.region_names)


def running(hands: ContainerHands, site: str) -> list[str]:
    """The containers of a site that run."""
    found = inspect([hands.project.container(service) for service in hands.services(site)])
    return sorted(name for name, container in found.items() if container.pid)


def test_a_killed_process_is_started_again_by_docker(hands: ContainerHands) -> None:
    """And is another process then: it was told apart by its number and its start."""
    before = hands.processes("east", ["kafka"])
    assert [number_inside(identity.pid) for identity in before] == [1]
    hands.signal(before, signal.SIGKILL)
    wait_until(lambda: hands.processes("east", ["kafka"]), 30, "Docker to start kafka of east again")
    assert hands.alive(before) == 0
    assert hands.processes("east", ["kafka"]) != before


@pytest.mark.parametrize("fault", [Kill(target="west"), Restart(target="west")], ids=kind_of)
async def test_a_site_that_was_killed_or_ended_stays_down_until_it_is_started(
    hands: ContainerHands, fault: Kill | Restart
) -> None:
    """All its containers, and none of another site's."""
    play = play_of(scene(hands, "west"), fault, "")
    await play.inject()
    assert await play.not_injected() is None
    assert running(hands, "west") == []
    assert len(running(hands, "east")) == 5
    await play.heal()
    assert await play.not_healed() is None
    assert len(running(hands, "west")) == 5


async def test_a_site_that_an_operator_ends_keeps_its_log_until_its_services_have_ended(hands: ContainerHands) -> None:
    """What is acknowledged, and the lease that is let go, go through Kafka and etcd."""
    await asyncio.to_thread(hands.stop, "west")
    names = {service: hands.project.container(service) for service in hands.services("west")}
    ended = {service: docker(["inspect", "-f", "{{.State.FinishedAt}}", name]) for service, name in names.items()}
    assert min(ended, key=ended.__getitem__) == "west"
    await asyncio.to_thread(hands.start, "west", 60.0)


async def test_a_wiped_site_has_nothing_left(hands: ContainerHands) -> None:
    """What it had written is gone; what another site has is not."""
    play = play_of(scene(hands, "east"), Wipe(target="east"), "")
    assert hands.project.volume("east-data") in str(hands.not_wiped("east"))
    await play.inject()
    assert await play.not_injected() is None
    assert hands.not_wiped("west") is not None
    await play.heal()
    assert len(running(hands, "east")) == 5


async def test_a_paused_site_is_stopped_and_goes_on(hands: ContainerHands) -> None:
    """By signals, from outside of its namespaces."""
    play = play_of(scene(hands, "east"), Pause(target="east"), "")
    await play.inject()
    await wait_until_async(lambda: _is_none(play.not_injected()), 10, "all processes to stop")
    assert await play.not_healed() is not None
    await play.heal()
    await wait_until_async(lambda: _is_none(play.not_healed()), 10, "all processes to go on")


@pytest.mark.skipif(not network.has_nft(), reason="nft is not installed: apt-get install nftables")
@pytest.mark.parametrize("shape", ["full", "outgoing", "incoming", "peer"])
async def test_packets_are_dropped_and_nobody_is_told(hands: ContainerHands, shape: str) -> None:
    """A connection ends in silence while the partition stands, and is refused by the other machine after it."""
    assert await reached(hands) is Reach.REFUSED
    play = play_of(scene(hands, "east"), msgspec.convert({"target": "east", "shape": shape}, Partition), "")
    await play.inject()
    assert await play.not_injected() is None
    assert await reached(hands) is Reach.NOBODY
    await play.heal()
    assert await play.not_healed() is None
    assert await reached(hands) is Reach.REFUSED


@pytest.mark.skipif(not network.has_nft(), reason="nft is not installed: apt-get install nftables")
async def test_some_ports_only(hands: ContainerHands) -> None:
    """What is not etcd goes through."""
    site = hands.deployment.site("west")
    drops = [Drop("east", "west", only_ports=(site.port("etcd_peer"),))]
    await asyncio.to_thread(hands.network.drop_only, drops)
    assert await reached(hands, "etcd_peer") is Reach.NOBODY
    assert await reached(hands, "kafka") is Reach.REFUSED
    await asyncio.to_thread(hands.network.drop_only, [])
    assert await reached(hands, "etcd_peer") is Reach.REFUSED


async def test_a_site_without_its_interface_has_no_address(hands: ContainerHands) -> None:
    """And has one again, under its name."""
    play = play_of(scene(hands, "east"), Partition(target="east", how="disconnect"), "")
    assert await play.not_injected() is not None
    await play.inject()
    assert await play.not_injected() is None
    with pytest.raises(NetworkError, match="east is not attached"):
        hands.network.host("east")
    await play.heal()
    assert await play.not_healed() is None
    assert await reached(hands) is Reach.REFUSED


def test_clients_see_the_sites_by_the_networks_that_they_share(hands: ContainerHands) -> None:
    """Never by the network between sites."""
    hands.tell_hosts()
    lines = Path(hands.project.hosts_file).read_text(encoding="utf-8").splitlines()
    told = {name: address for address, name in (line.split() for line in lines[1:])}
    assert set(told) == {"east", "west", "north"}
    assert told["east"] != hands.network.host("east")


async def reached(hands: ContainerHands, listener: str = "kafka") -> Reach:
    """How a connection from east to west ends: nobody listens there."""
    site = hands.deployment.site("west")
    return await reaches(hands.network, "east", hands.network.host("west"), site.port(listener))


async def _is_none(question: object) -> bool:
    return await question is None  # type: ignore[misc]
