"""Namespaces on this machine: who hears whom before, during and after a cut, by datagrams, which know directions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.runtime.network import OUTSIDE_HOST, NetworkError, RegionNetwork, unavailable
from tests.support.poll import wait_until

REASON = unavailable()
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(REASON is not None, reason=f"no network namespaces here: {REASON}"),
]

SITES = ("east", "west", "north")
PORT = 9000
LISTEN = """
import socket, sys
heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
heard.bind((sys.argv[1], int(sys.argv[2])))
print("listening", flush=True)
while True:
    print(heard.recv(100).decode(), flush=True)
"""
SAY = """
import socket, sys
said = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for host in sys.argv[3:]:
    said.sendto(sys.argv[1].encode(), (host, int(sys.argv[2])))
"""


class Ears:
    """A listener in every site and outside."""

    def __init__(self, network: RegionNetwork, directory: Path) -> None:
        self.network = network
        self.hosts: dict[str | None, str] = {None: OUTSIDE_HOST, **{site: network.host(site) for site in SITES}}
        self.files = {site: directory / f"heard-{site}" for site in self.hosts}
        self.listeners = [self._listen(site) for site in self.hosts]
        wait_until(lambda: all("listening" in file.read_text() for file in self.files.values()), 30, "the listeners")
        self.round = 0

    def _listen(self, site: str | None) -> subprocess.Popen[bytes]:
        command = self.network.command(site, [sys.executable, "-c", LISTEN, self.hosts[site], str(PORT)])
        with self.files[site].open("wb") as file:
            return subprocess.Popen(command, stdout=file)

    def _say(self, site: str | None, words: str) -> None:
        command = [sys.executable, "-c", SAY, words, str(PORT), *self.hosts.values()]
        subprocess.run(self.network.command(site, command), check=True, timeout=30)

    def deaf_pairs(self) -> set[tuple[str | None, str | None]]:
        """Who says something that who does not hear; what outside says last shows that everything else has arrived."""
        self.round += 1
        for site in (*SITES, None):
            self._say(site, f"{self.round} {site}")
        last = f"{self.round} None"
        wait_until(lambda: all(last in file.read_text() for file in self.files.values()), 30, "word from outside")
        heard = {site: file.read_text().splitlines() for site, file in self.files.items()}
        return {(a, b) for a in self.hosts for b in self.hosts if f"{self.round} {a}" not in heard[b]}

    def close(self) -> None:
        """End the listeners."""
        for listener in self.listeners:
            listener.kill()
            listener.wait()


@pytest.fixture(params=["nft", "neighbours"])
def network(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RegionNetwork]:
    """Three sites, with each of the ways to lose packets."""
    made = RegionNetwork.create(SITES, tmp_path, use_nft=request.param == "nft")
    yield made
    made.close()
    assert not made.alive


@pytest.fixture
def ears(network: RegionNetwork, tmp_path: Path) -> Iterator[Ears]:
    """Listeners everywhere."""
    found = Ears(network, tmp_path)
    yield found
    found.close()


def test_cuts_of_all_shapes_and_their_healing(network: RegionNetwork, ears: Ears) -> None:
    """One direction, a pair, a site from all others; outside always hears and is heard."""
    assert ears.deaf_pairs() == set()
    network.drop("east", "west")
    assert ears.deaf_pairs() == {("east", "west")}
    network.cut("east", "west")
    assert ears.deaf_pairs() == {("east", "west"), ("west", "east")}
    network.heal()
    assert ears.deaf_pairs() == set()
    network.isolate("north")
    assert ears.deaf_pairs() == {("north", "east"), ("east", "north"), ("north", "west"), ("west", "north")}
    RegionNetwork(network.sites, network.holder_pid).heal()
    assert ears.deaf_pairs() == set()


def test_a_command_inside_finds_its_way_to_another_site(network: RegionNetwork) -> None:
    """A program that entered outside may start one in a site, and stays where it is when it is there already."""
    code = (
        "import os, subprocess, sys; from infra.runtime.network import RegionNetwork;"
        f"network = RegionNetwork({SITES!r}, {network.holder_pid});"
        "assert network.command(None, ['true']) == ['true'], network.command(None, ['true']);"
        "subprocess.run(network.command('west', ['ip', '-4', '-o', 'addr']))"
    )
    done = subprocess.run(
        network.command(None, [sys.executable, "-c", code]), capture_output=True, text=True, check=False, timeout=60
    )
    assert network.host("west") in done.stdout, done.stderr


def test_unknown_sites_and_a_lost_holder_are_named(network: RegionNetwork) -> None:
    """The message says what there is, and what to do."""
    with pytest.raises(NetworkError, match="no site 'south'; there are: east, west, north"):
        network.drop("east", "south")
    network.close()
    with pytest.raises(NetworkError, match=r"held the network, is gone: start all sites again"):
        network.command("east", ["true"])


def test_a_machine_without_the_programs_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is tried that cannot work; loopback is offered."""
    monkeypatch.setattr("infra.runtime.network.PROGRAMS", ("ip", "no-such-program"))
    with pytest.raises(NetworkError, match=r"no-such-program not found.*--network loopback"):
        RegionNetwork.create(SITES, tmp_path)
