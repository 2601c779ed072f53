"""A member of the etcd cluster as a local process: three of them, at three sites, agree on who leads.

A member that lost its data must not come back as it was: it promised votes and entries that it no longer knows, and
etcd refuses it ("already been bootstrapped"). So the survivors remove the lost member and take a *learner* in its
place, which gets everything but votes only once it is promoted. Without survivors nothing is started: a second
cluster beside the first would be two leaders.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.runtime.etcd_install import EtcdRuntimeError, find_etcd, tail
from infra.runtime.kafka import free_ports
from infra.runtime.launch import launch_command

HEARTBEAT_MS: Final = 100
ELECTION_MS: Final = 1_000
PROGRESS_NOTIFY_MS: Final = 200
PROGRESS_NOTIFY: Final = f"{PROGRESS_NOTIFY_MS}ms"
READY_TIMEOUT_SECONDS: Final = 60.0
STOP_TIMEOUT_SECONDS: Final = 10.0
START_FILE: Final = "start.json"


@dataclass(frozen=True, slots=True)
class EtcdTls:
    """What a member shows to its clients, and which clients it accepts."""

    cert_file: Path
    key_file: Path
    ca_file: Path | None = None
    """Clients must show a certificate of this authority; None: any client may connect."""


class EtcdMember:
    """One member in `directory`; the object owns the process it started and no other."""

    def __init__(
        self,
        name: str,
        directory: Path,
        host: str,
        client_port: int,
        peer_port: int,
        members: Mapping[str, str],
        client_urls: Sequence[str],
        *,
        token: str = "meridian",  # noqa: S107 - names a cluster, protects nothing
        tls: EtcdTls | None = None,
        log_path: Path | None = None,
        extra_arguments: Sequence[str] = (),
    ) -> None:
        """`members` maps every name to its peer address, this one's too; `client_urls` are where members answer."""
        self.name = name
        self.directory = directory
        self.host = host
        self.client_port = client_port
        self.peer_port = peer_port
        self.members = dict(members)
        self.token = token
        self.tls = tls
        self.log_path = log_path or directory / "etcd.log"
        self.extra_arguments = tuple(extra_arguments)
        self._survivors = [url for url in client_urls if url != self.client_url]
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def client_url(self) -> str:
        """The address that clients connect to."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.client_port}"

    @property
    def peer_url(self) -> str:
        """The address that other members connect to."""
        return f"http://{self.host}:{self.peer_port}"

    @property
    def data_dir(self) -> Path:
        """What the member must not lose."""
        return self.directory / "data"

    @property
    def has_data(self) -> bool:
        """Whether this member was in a cluster before, and remembers it."""
        return any((self.data_dir / "member" / "wal").glob("*.wal"))

    @property
    def began_new(self) -> bool:
        """Whether it was decided here, and never undone by a wipe, that this member begins with the cluster."""
        try:
            return bool(json.loads((self.directory / START_FILE).read_text())["state"] == "new")
        except (OSError, ValueError, KeyError, TypeError):
            return False

    @property
    def pid(self) -> int | None:
        """The process id while the member runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def prepare(self, bootstrapped: bool) -> None:  # noqa: FBT001 - the contract of the supervisor's plan
        """Decide how the member starts, and write it down for `command`.

        With data, nothing is to be done. Without data, a deployment that never ran starts a new cluster; in one that
        did (`bootstrapped`) this site was wiped, and the survivors take the member in again.
        Raises EtcdRuntimeError when they cannot: try again later.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.has_data:
            return
        if not bootstrapped:
            self._write_start("new", self.members)
            return
        from infra.runtime.etcd_members import JoinRefused, join_as_learner  # HTTP costs a supervisor 6 MB

        try:
            cluster = join_as_learner(self.name, self.peer_url, self.members, self._survivors)
        except JoinRefused as refused:
            raise EtcdRuntimeError(
                f"the etcd member of {self.name} lost its data, and the others cannot take it in yet: {refused}\n"
                "  Next: nothing, it is tried again; if the others are lost as well, see docs/operating/etcd.md."
            ) from refused
        self._write_start("existing", cluster)

    def command(self) -> list[str]:
        """Return the command line that runs the member in the foreground. `prepare` must have been called once."""
        settings = {
            **self._settings(),
            # A watch proves five times a second that it is alive.
            "watch-progress-notify-interval": PROGRESS_NOTIFY,
            "log-outputs": "stderr",
        }
        flags = [f"--{name}={value}" for name, value in settings.items()]
        return [str(find_etcd()), *flags, *self._tls_arguments(), *self.extra_arguments]

    def config_file(self, listen_host: str) -> str:
        """Return the same as a file for `etcd --config-file`, for an etcd that something else starts.

        It listens on `listen_host`, an IP address: `host` may be a name, which etcd takes only to be reached under.
        """
        settings: dict[str, object] = {
            **self._settings(),
            "listen-client-urls": f"http://{listen_host}:{self.client_port}",
            "listen-peer-urls": f"http://{listen_host}:{self.peer_port}",
            "watch-progress-notify-interval": PROGRESS_NOTIFY_MS * 1_000_000,
            "log-outputs": ["stderr"],
        }
        return json.dumps(settings, indent=1) + "\n"

    def _settings(self) -> dict[str, str | int]:
        state, cluster = self._read_start()
        return {
            "name": self.name,
            "data-dir": str(self.data_dir),
            "listen-client-urls": self.client_url,
            "advertise-client-urls": self.client_url,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            "initial-cluster": ",".join(f"{name}={url}" for name, url in cluster.items()),
            "initial-cluster-state": state,
            "initial-cluster-token": self.token,
            "heartbeat-interval": HEARTBEAT_MS,
            "election-timeout": ELECTION_MS,
            # Acknowledged ends are written several times a second: old revisions must go, and memory stays small.
            "auto-compaction-mode": "periodic",
            "auto-compaction-retention": "10m",
            "snapshot-count": 5000,
            "log-level": "warn",
        }

    def start(self, *, wait: bool = True) -> None:
        """Start the process; with `wait`, return once it answers, which takes a quorum. It ends with this process."""
        if self.pid is not None:
            raise EtcdRuntimeError(f"the etcd member {self.name} runs already (process {self.pid})")
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                launch_command(self.command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout_seconds: float = READY_TIMEOUT_SECONDS) -> None:
        """Return once the member answers clients; raises EtcdRuntimeError with its last lines if it does not."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if self.is_healthy():
                return
            if self.pid is None:
                break
            time.sleep(0.05)
        with contextlib.suppress(OSError), self.log_path.open("rb") as log:
            log.seek(self._log_start)
            said = tail(log.read().decode(errors="replace"))
        state = "did not answer in time" if self.pid else "ended while starting"
        raise EtcdRuntimeError(f"the etcd member {self.name} {state}; {self.log_path} ends with\n{said}")

    def is_healthy(self) -> bool:
        """Say whether the member answers, with a leader and a quorum behind it. With TLS: whether it listens."""
        if self.tls is not None:
            import socket

            with contextlib.suppress(OSError), socket.create_connection((self.host, self.client_port), 1.0):
                return True
            return False
        from infra.runtime.etcd_members import http_json

        try:
            return http_json(f"{self.client_url}/health").get("health") == "true"
        except (OSError, ValueError):
            return False

    def stop(self, timeout_seconds: float = STOP_TIMEOUT_SECONDS) -> None:
        """End the member in good order, or kill it after the time-out."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_seconds)
        self.kill()

    def kill(self) -> None:
        """End the member as a crash does (SIGKILL), and reap it."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def pause(self) -> None:
        """Freeze the process, as a hanging machine does (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "the member runs"
        self._process.send_signal(number)

    def _tls_arguments(self) -> list[str]:
        if self.tls is None:
            return []
        arguments = [f"--cert-file={self.tls.cert_file}", f"--key-file={self.tls.key_file}"]
        if self.tls.ca_file is not None:
            arguments += ["--client-cert-auth", f"--trusted-ca-file={self.tls.ca_file}"]
        return arguments

    def _write_start(self, state: str, cluster: Mapping[str, str]) -> None:
        path = self.directory / START_FILE
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps({"state": state, "cluster": dict(cluster)}, indent=1) + "\n")
        beside.replace(path)

    def _read_start(self) -> tuple[str, dict[str, str]]:
        """What the first start said; etcd itself looks at it only while it has no data."""
        try:
            found = json.loads((self.directory / START_FILE).read_text())
            return str(found["state"]), dict(found["cluster"])
        except (OSError, ValueError, KeyError, TypeError):
            if self.has_data:
                return "existing", self.members
            raise EtcdRuntimeError(f"{self.directory} was not prepared: `prepare` decides how it starts") from None


@contextlib.contextmanager
def running_members(directory: Path, names: Sequence[str] = ("east", "west", "north")) -> Iterator[list[EtcdMember]]:
    """Run a whole cluster on free ports for the length of a `with` block."""
    members = make_members(directory, names)
    try:
        for member in members:
            member.prepare(bootstrapped=False)
            member.start(wait=False)
        for member in members:
            member.wait_ready()
        yield members
    finally:
        for member in members:
            member.kill()


def make_members(directory: Path, names: Sequence[str], host: str = "127.0.0.1") -> list[EtcdMember]:
    """Return members on free ports that know each other; none is prepared or started."""
    ports = free_ports(2 * len(names))
    clients, peers = ports[: len(names)], ports[len(names) :]
    peer_urls = {name: f"http://{host}:{port}" for name, port in zip(names, peers, strict=True)}
    client_urls = [f"http://{host}:{port}" for port in clients]
    return [
        EtcdMember(name, directory / name, host, client, peer, peer_urls, client_urls)
        for name, client, peer in zip(names, clients, peers, strict=True)
    ]
