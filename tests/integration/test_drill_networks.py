"""Faults of the network on real namespaces: cuts of some ports, several at once, and links that are slow or lossy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.runtime.network import Drop, NetworkError, RegionNetwork, SlowLink, has_nft, unavailable
from region_sim.backends.process import ProcessBackend
from region_sim.errors import DrillBroken
from region_sim.faults.base import FaultPlay, Scene
from region_sim.faults.link import LinkPlay
from region_sim.faults.plays import play_of
from region_sim.faults.reach import Reach, reaches
from region_sim.spec import Link, Partition
from services.common.clock import SystemClock
from services.common.deployment import Deployment, Site
from tests.support.poll import wait_until, wait_until_async

REASON = unavailable()
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(REASON is not None, reason=f"no network namespaces here: {REASON}"),
]
NFT = pytest.mark.skipif(not has_nft(), reason="no nft here")

SITES = ("east", "west", "north")
LISTENERS = ("etcd_peer", "kafka")
LISTEN = """
import socket, sys
ports = [int(port) for port in sys.argv[2:]]
doors = [socket.create_server((sys.argv[1], port)) for port in ports]
print("listening", flush=True)
input()
"""
EXCHANGE = """
import socket, sys, time
began = time.monotonic()
link = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
print(time.monotonic() - began)
"""


class World:
    """Three sites with a door of etcd's and one of Kafka's each, and what a drill makes of them."""

    def __init__(self, directory: Path, *, use_nft: bool) -> None:
        self.network = RegionNetwork.create(SITES, directory, use_nft=use_nft)
        sites = [
            Site(
                name=name,
                kind="witness" if name == "north" else "region",
                host=self.network.host(name),
                base_port=9000,
            )
            for name in SITES
        ]
        self.deployment = Deployment(
            deployment_id="d",
            network="namespaces",
            sites=sites,
            directory=str(directory),
            holder_pid=self.network.holder_pid,
        )
        self._doors = [self._door(site, directory / f"{site.name}.txt") for site in sites]

    def _door(self, site: Site, said: Path) -> subprocess.Popen[bytes]:
        ports = [str(site.port(listener)) for listener in LISTENERS]
        command = self.network.command(site.name, [sys.executable, "-c", LISTEN, site.host, *ports])
        with said.open("wb") as file:
            door = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file)
        wait_until(lambda: "listening" in said.read_text(), 30, f"the doors of {site.name}")
        return door

    def play(self, fault: Partition | Link, target: str = "east") -> FaultPlay:
        """What carries it out."""
        return play_of(Scene(ProcessBackend(self.deployment), SystemClock(), target, ["east", "west"]), fault, "")

    async def deaf(self) -> set[tuple[str, str, str]]:
        """Who reaches which door of whom not."""
        found = set()
        for one in SITES:
            for other in SITES:
                for listener in LISTENERS:
                    host, port = self.deployment.site(other).host, self.deployment.site(other).port(listener)
                    if one != other and await reaches(self.network, one, host, port) is Reach.NOBODY:
                        found.add((one, other, listener))
        return found

    async def whole(self) -> None:
        """Wait until everybody reaches everybody: who asked for an address in vain asks again after a second."""

        async def nobody_deaf() -> bool:
            return await self.deaf() == set()

        await wait_until_async(nobody_deaf, 30, "the network to be whole")

    def connect_seconds(self, sender: str | None, receiver: str) -> float:
        """How long a connection takes to come about."""
        host, port = self.deployment.site(receiver).host, str(self.deployment.site(receiver).port("kafka"))
        command = self.network.command(sender, [sys.executable, "-c", EXCHANGE, host, port])
        return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout)

    def left_behind(self) -> list[str]:
        """Files of slow links."""
        return [path.name for path in Path(self.deployment.directory).glob(".slow*")]

    def close(self) -> None:
        """End everything."""
        for door in self._doors:
            door.kill()
            door.wait()
            if door.stdin is not None:
                door.stdin.close()
        self.network.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """With nft where it is there."""
    made = World(tmp_path, use_nft=True)
    yield made
    made.close()


def both(one: str, others: tuple[str, ...], *listeners: str) -> set[tuple[str, str, str]]:
    """Both directions, of these doors."""
    return {
        triple
        for other in others
        for listener in listeners
        for triple in ((one, other, listener), (other, one, listener))
    }


@NFT
@pytest.mark.parametrize(("shape", "cut"), [("etcd", "etcd_peer"), ("data", "kafka")])
async def test_only_etcd_or_everything_but_etcd_is_cut(world: World, shape: str, cut: str) -> None:
    """Verified by connections that must come about as well as by those that must not."""
    play = world.play(Partition(shape=shape))  # type: ignore[arg-type]
    assert play.region_lost == (shape == "etcd")
    assert await play.not_injected() is not None
    await play.inject()
    assert await play.not_injected() is None
    assert await world.deaf() == both("east", ("west", "north"), cut)
    assert await play.not_healed() is not None
    await play.heal()
    await world.whole()
    assert await play.not_healed() is None


@NFT
async def test_a_cut_of_more_than_was_meant_is_found_out(world: World) -> None:
    """Somebody else cut the rest."""
    play = world.play(Partition(shape="etcd"))
    await play.inject()
    world.network.drop("east", "west")
    assert "more is cut than was meant" in (await play.not_injected() or "")


@pytest.mark.parametrize("use_nft", [pytest.param(True, marks=NFT), False])
async def test_healing_one_partition_heals_nothing_of_another(tmp_path: Path, use_nft: bool) -> None:  # noqa: FBT001
    """They share the links between east and west."""
    world = World(tmp_path, use_nft=use_nft)
    try:
        east, west = world.play(Partition(), "east"), world.play(Partition(shape="outgoing"), "west")
        await east.inject()
        await west.inject()
        assert await east.not_injected() is None
        assert await west.not_injected() is None
        all_cut = both("east", ("west", "north"), *LISTENERS) | both("west", ("north",), *LISTENERS)
        assert await world.deaf() == all_cut
        await east.heal()
        await east.heal()
        assert await east.not_healed() is None  # what west cuts is not asked about
        assert await world.deaf() == both("west", ("east", "north"), *LISTENERS)
        await west.heal()
        await world.whole()
        assert await west.not_healed() is None
    finally:
        world.close()


async def test_without_nft_some_ports_cannot_be_cut_and_nothing_is(tmp_path: Path) -> None:
    """The reason stands in the fault's error."""
    world = World(tmp_path, use_nft=False)
    try:
        play = world.play(Partition(shape="data"))
        with pytest.raises(DrillBroken, match="needs nft"):
            await play.inject()
        await world.whole()
        with pytest.raises(NetworkError, match="needs nft"):
            world.network.drop_only([Drop("east", "west", only_ports=(9008,))])
    finally:
        world.close()


async def test_a_slow_link_is_slow_between_sites_only_and_only_until_it_is_healed(world: World) -> None:
    """Outside sees the region as before; a cut of the slow link is still a cut."""
    play = world.play(Link(delay_ms=150.0, jitter_ms=20.0))
    assert not play.region_lost
    assert world.connect_seconds("east", "west") < 0.15
    said = await play.inject()
    assert "150 to 170 ms late each way" in said
    assert world.connect_seconds("east", "west") >= 0.3
    assert world.connect_seconds("west", "east") >= 0.3
    assert world.connect_seconds("west", "north") < 0.15
    assert world.connect_seconds(None, "east") < 0.15

    async def seen() -> bool:
        world.connect_seconds("east", "north")
        return await play.not_injected() is None

    await wait_until_async(seen, 60, "so many packets that the play believes it")
    cut = world.play(Partition(), "east")
    await cut.inject()
    assert await cut.not_injected() is None
    await cut.heal()
    await play.heal()
    assert await play.not_healed() is None
    wait_until(lambda: world.connect_seconds("east", "west") < 0.15, 30, "the link to be as before")
    await world.whole()


async def test_a_lossy_link_loses_some_and_a_second_fault_on_it_is_refused(world: World) -> None:
    """Half of all packets: enough to be seen at once, and TCP sends again."""
    play = world.play(Link(loss_share=0.5))
    await play.inject()
    with pytest.raises(DrillBroken, match=r"^refused: the link of east is slow already"):
        await world.play(Link(delay_ms=5.0)).inject()

    async def seen() -> bool:
        await reaches(world.network, "east", world.deployment.site("west").host, 9003)
        return await play.not_injected() is None

    await wait_until_async(seen, 60, "a packet that was lost, and enough that were not")
    await play.heal()
    assert world.left_behind() == []
    await world.whole()


def test_a_drill_that_dies_leaves_no_slow_link_behind(world: World, tmp_path: Path) -> None:
    """The process in between ends with who started it, and joins the cable to the bridge again."""
    code = (
        "import sys; from pathlib import Path; from infra.runtime.network import RegionNetwork, SlowLink;"
        f"RegionNetwork({SITES!r}, {world.network.holder_pid}).slow_down("
        f"'east', SlowLink(delay_seconds=0.2), Path({str(tmp_path / 'said')!r})); print('slow', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as drill:
        assert drill.stdout is not None
        assert drill.stdout.readline() == "slow\n"
        assert world.connect_seconds("east", "west") >= 0.4
        drill.kill()
    wait_until(lambda: world.connect_seconds("east", "west") < 0.2, 20, "the link to be as before")


async def test_a_link_that_cannot_be_made_slow_stays_as_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is refused with what the machine said."""
    monkeypatch.setattr("infra.runtime.network.SLOW_LINK", Path("/no/such/script.py"))
    play = world.play(Link(delay_ms=10.0))
    assert isinstance(play, LinkPlay)
    with pytest.raises(DrillBroken, match=r"^refused: this machine cannot slow a link down: .*no/such/script"):
        await play.inject()
    await world.whole()
    with pytest.raises(NetworkError, match="there is no site"):
        world.network.slow_down("south", SlowLink(), Path("said"))
