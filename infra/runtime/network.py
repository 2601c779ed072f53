"""A network of its own for each site, on one machine and without root: what makes a partition a real one.

Every site has a network namespace with one address; a bridge in a further namespace, "outside", joins them. Outside has
an address as well, and reaches every site whatever is cut between sites: that is where apps and operators are. The
namespaces live in a user namespace of their own, so the machine's own network, firewall and names are never touched.

Cut links drop silently, as a dead cable does. With nft that is a rule on the bridge; without it, a permanent wrong
neighbour entry in the sender's namespace sends its frames to nobody. Deleting routes or taking interfaces down was
turned down: the sender would be told, and a program that is told behaves better than one that is not.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from infra.runtime.network_holder import SITE_FD_FIRST

OUTSIDE_HOST = "10.77.0.1"
PROGRAMS = ("ip", "nsenter", "unshare")
HOLDER = Path(__file__).with_name("network_holder.py")
SLOW_LINK = Path(__file__).with_name("network_slow_link.py")
NOBODY = "02:00:00:00:00:01"
"""A hardware address that no interface has."""
CHAIN = "bridge meridian links"
SLOW_READY_SECONDS = 10.0
STOP_SECONDS = 5.0


class NetworkError(Exception):
    """A network command failed, or there is no such site."""


class NetworkUnavailable(NetworkError):
    """This machine does not let us make network namespaces; the message says why and what to do."""


def host_of(index: int) -> str:
    """Return the address of the nth site, from 0."""
    return f"10.77.0.{11 + index}"


def unavailable() -> str | None:
    """Return why namespaces cannot be had here, or None."""
    if sys.platform != "linux":
        return "network namespaces are a thing of Linux"
    missing = [program for program in PROGRAMS if _find(program) is None]
    if missing:
        return f"{', '.join(missing)} not found: install iproute2 and util-linux"
    tried = _run([*_unshare(), "true"])
    if tried.returncode != 0:
        return f"the kernel refuses: {tried.stderr.strip()} (user namespaces off, or a container without the right)"
    return None


def has_nft() -> bool:
    """Say whether links can be cut for some ports only."""
    return _find("nft") is not None


@dataclass(frozen=True, slots=True)
class Drop:
    """Lose what one site sends to another: all of it, only TCP of these ports, or all TCP but that of these ports."""

    sender: str
    receiver: str
    only_ports: tuple[int, ...] = ()
    but_ports: tuple[int, ...] = ()
    """At either end of a connection: its answers carry the port as well."""


@dataclass(frozen=True, slots=True)
class SlowLink:
    """What a site and the others say to each other, each way."""

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    """Up to so much later than the delay; packets keep their order."""
    loss_share: float = 0.0


@dataclass(frozen=True, slots=True)
class RegionNetwork:
    """The network of a deployment; any number of these may speak of the same one."""

    sites: tuple[str, ...]
    holder_pid: int

    @classmethod
    def create(cls, sites: Sequence[str], directory: Path, *, use_nft: bool = True) -> RegionNetwork:
        """Make the namespaces of `sites` and join them; they last until `close()`, or until `directory` is gone.

        Raises NetworkUnavailable.
        """
        if (reason := unavailable()) is not None:
            raise NetworkUnavailable(f"no network namespaces: {reason}. `--network loopback` works without them.")
        directory.mkdir(parents=True, exist_ok=True)
        network = cls(tuple(sites), _start_holder(directory, len(sites)))
        try:
            network._join()
            if use_nft and _find("nft") is not None:
                network._nft(f"add table bridge meridian; add chain {CHAIN} {{ type filter hook forward priority 0; }}")
        except NetworkError as error:
            network.close()
            raise NetworkUnavailable(f"no bridged namespaces here: {error}. `--network loopback` works.") from error
        return network

    @property
    def alive(self) -> bool:
        """Whether its holder lives."""
        try:
            words = Path(f"/proc/{self.holder_pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return str(HOLDER).encode() in words

    def host(self, site: str) -> str:
        """Return the address of a site."""
        return host_of(self._index(site))

    def command(self, site: str | None, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` in the namespace of `site`; None: outside. Its pid is the program's."""
        if not self.alive:
            raise NetworkError(f"the process {self.holder_pid}, which held the network, is gone: start all sites again")
        holder = f"/proc/{self.holder_pid}"
        net = f"{holder}/ns/net" if site is None else f"{holder}/fd/{SITE_FD_FIRST + self._index(site)}"
        ways = [f"--user={holder}/ns/user"] if not _is_ours(f"{holder}/ns/user", "user") else []
        if not _is_ours(net, "net"):
            ways.append(f"--net={net}")
        return [_program("nsenter"), "--preserve-credentials", *ways, "--", *argv] if ways else list(argv)

    def drop(self, sender: str, receiver: str) -> None:
        """Lose, silently, everything that `sender` sends to `receiver`; the other direction goes on."""
        if self._uses_nft():
            self._nft(self._rule(Drop(sender, receiver)))
        else:
            self._ip(sender, f"neigh replace {self.host(receiver)} lladdr {NOBODY} nud permanent dev eth0")

    def cut(self, one: str, other: str) -> None:
        """Lose everything between two sites."""
        self.drop(one, other)
        self.drop(other, one)

    def isolate(self, site: str) -> None:
        """Cut a site off from all other sites; outside still reaches it."""
        for other in self.sites:
            if other != site:
                self.cut(site, other)

    def drop_only(self, drops: Sequence[Drop]) -> None:
        """Lose exactly this and nothing else: what was cut before and is not among it goes through again.

        Raises NetworkError when some ports only are to be cut and there is no nft.
        """
        if self._uses_nft():
            self._nft("\n".join([f"flush chain {CHAIN}", *map(self._rule, drops)]))
            return
        if any(drop.only_ports or drop.but_ports for drop in drops):
            raise NetworkError("a cut of some ports only needs nft, which is not here: apt-get install nftables")
        self.heal()
        for drop in drops:
            self.drop(drop.sender, drop.receiver)

    def slow_down(self, site: str, link: SlowLink, said: Path) -> subprocess.Popen[bytes]:
        """Have every packet between `site` and other sites come late, or be lost; outside notices nothing.

        A process of this project stands between the site's cable and the bridge, because few kernels have what
        `tc netem` needs. It writes what it did to `said`, and what it complains of after that. It ends with `speed_up`,
        with the process that started it, or with the network; ending, it joins the cable to the bridge again.
        Raises NetworkError.
        """
        index = self._index(site)
        outer, inner = f"s{index}", f"t{index}"
        self._ip(
            None, f"link add {outer} type veth peer name {inner}", f"link set {inner} arp off up",
            f"link set {outer} master br0", f"link set {outer} up", f"link set p{index} nomaster",
            f"link set p{index} arp off",
        )  # fmt: skip
        figures = [str(each) for each in (link.delay_seconds, link.jitter_seconds, link.loss_share)]
        script = [sys.executable, "-I", "-S", str(SLOW_LINK), f"p{index}", inner, OUTSIDE_HOST, str(self.holder_pid)]
        log = said.with_suffix(".log")
        with log.open("wb") as complaints:
            process = subprocess.Popen(
                self.command(None, [*script, *figures, str(said)]), stdin=subprocess.DEVNULL, stdout=complaints,
                stderr=complaints, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + SLOW_READY_SECONDS
        while not said.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                self.speed_up(site, process)
                raise NetworkError(f"{site}'s link cannot be made slow: {log.read_text()[-300:] or 'no answer'}")
            time.sleep(0.02)
        return process

    def speed_up(self, site: str, slow: subprocess.Popen[bytes]) -> None:
        """End what `slow_down` began. Raises NetworkError."""
        slow.terminate()
        try:
            slow.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            slow.kill()
            slow.wait()
        index = self._index(site)
        self._ip(None, f"link set p{index} arp on", f"link set p{index} master br0")
        if self._in(None, ["ip", "link", "show", f"s{index}"]).returncode == 0:
            self._ip(None, f"link del s{index}")

    def heal(self) -> None:
        """Let everything through again."""
        if self._uses_nft():
            self._nft(f"flush chain {CHAIN}")
            return
        for sender, receiver in permutations(self.sites, 2):
            shown = self._in(sender, ["ip", "neigh", "show", self.host(receiver), "nud", "permanent"])
            if shown.stdout.strip():
                self._ip(sender, f"neigh del {self.host(receiver)} dev eth0")

    def close(self) -> None:
        """End the holder; the namespaces end with the last process in them."""
        if not self.alive:
            return
        os.kill(self.holder_pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            _reap(self.holder_pid)
            if not self.alive:
                return
            time.sleep(0.02)

    def _join(self) -> None:
        """Lay the cables: one veth pair a site, its outer end on the bridge."""
        outside = ["link set lo up", "link add br0 type bridge forward_delay 0",
                   f"addr add {OUTSIDE_HOST}/24 dev br0", "link set br0 up"]  # fmt: skip
        for index in range(len(self.sites)):
            inner = f"/proc/{self.holder_pid}/fd/{SITE_FD_FIRST + index}"
            outside += [f"link add p{index} type veth peer name eth0 netns {inner}",
                        f"link set p{index} master br0", f"link set p{index} up"]  # fmt: skip
        self._ip(None, *outside)
        for site in self.sites:
            self._ip(site, "link set lo up", f"addr add {self.host(site)}/24 dev eth0", "link set eth0 up")

    def _index(self, site: str) -> int:
        if site not in self.sites:
            raise NetworkError(f"there is no site {site!r}; there are: {', '.join(self.sites)}")
        return self.sites.index(site)

    def _rule(self, drop: Drop) -> str:
        """A slow link's port on the bridge has another name than the site's own."""
        one, other = self._index(drop.sender), self._index(drop.receiver)
        rule = f'add rule {CHAIN} iifname {{ "p{one}", "s{one}" }} oifname {{ "p{other}", "s{other}" }}'
        if drop.only_ports:
            ports = _set(drop.only_ports)
            return f"{rule} tcp dport {ports} drop\n{rule} tcp sport {ports} drop"
        if drop.but_ports:
            ports = _set(drop.but_ports)
            return f"{rule} tcp dport != {ports} tcp sport != {ports} drop"
        return f"{rule} drop"

    def _uses_nft(self) -> bool:
        return _find("nft") is not None and self._in(None, ["nft", "list", "chain", *CHAIN.split()]).returncode == 0

    def _nft(self, script: str) -> None:
        _check(self._in(None, ["nft", "-f", "-"], script), script)

    def _ip(self, site: str | None, *lines: str) -> None:
        _check(self._in(site, ["ip", "-batch", "-"], "".join(f"{line}\n" for line in lines)), "; ".join(lines))

    def _in(self, site: str | None, argv: list[str], said: str = "") -> subprocess.CompletedProcess[str]:
        return _run(self.command(site, [_program(argv[0]), *argv[1:]]), said)


def _set(ports: Sequence[int]) -> str:
    return f"{{ {', '.join(map(str, ports))} }}"


def _start_holder(directory: Path, count: int) -> int:
    python = [sys.executable, "-I", "-S", str(HOLDER), str(directory.absolute()), str(count)]
    process = subprocess.Popen(
        [*_unshare(), *python], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        if process.stdout.readline() != "ready\n":
            raise NetworkUnavailable(f"no network namespaces: {process.stderr.read().strip()}")
    process.returncode = 0  # it outlives this process: reaping it is `close`'s business, or init's
    return process.pid


def _unshare() -> list[str]:
    """A user namespace even for root: what is done inside cannot reach the machine's own network."""
    return [_program("unshare"), "--user", "--map-root-user", "--net", "--"]


def _is_ours(path: str, kind: str) -> bool:
    theirs, ours = Path(path).stat(), Path(f"/proc/self/ns/{kind}").stat()
    return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _program(name: str) -> str:
    return _find(name) or name


def _run(argv: list[str], said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, input=said, capture_output=True, text=True, check=False)


def _check(done: subprocess.CompletedProcess[str], what: str) -> None:
    if done.returncode != 0:
        raise NetworkError(f"`{what}` failed: {done.stderr.strip()}")
