"""What a processor finds in a deployment: the file of its sites, a controller, and copies of the other region's log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import Producer

from services.common.deployment import Deployment, Site
from streams.asks import Ask
from streams.copies import Origin, hole_headers, origin_header
from streams.frame import EventRow, encode_frame, frame_headers
from streams.logs import events_log, producer_settings, record_key
from tests.support.frames import KEY_FINGERPRINT, PARTITIONS, make_topics
from tests.support.inference_worker import free_port
from tests.support.processor_process import ProcessorProcess


def write_deployment(directory: Path, regions: Sequence[str], processor_ports: dict[str, int] | None = None) -> Path:
    """Write the file of a deployment whose other sites are nowhere, unless a processor's port is given."""
    sites = []
    for name in regions:
        base = free_port() if not processor_ports or name not in processor_ports else processor_ports[name] - 1
        sites.append(Site(name=name, kind="region", host="127.0.0.1", base_port=min(base, 65_000)))
    return Deployment(deployment_id="test", network="loopback", sites=sites, directory=str(directory)).save()


class RegionOfTwo:
    """One region of two, over a broker that also holds copies; names are the test's own, because brokers are shared."""

    def __init__(
        self,
        bootstrap: str,
        directory: Path,
        regions: tuple[str, str],
        control_port: int = 9,
        peer_port: int | None = None,
        rebuild: str = "auto",
    ) -> None:
        self.name, self.peer = regions
        self.bootstrap = bootstrap
        self.own, self.copied = f"{self.name}-1", f"{self.peer}-1"
        for life in (self.own, self.copied, f"{self.name}-2", f"{self.peer}-2"):
            make_topics(bootstrap, life)
        self.deployment = write_deployment(
            directory / f"seen-by-{self.name}", regions, {self.peer: peer_port} if peer_port else None
        )
        self.processor = ProcessorProcess(
            directory / self.name,
            bootstrap,
            self.own,
            region={"NAME": self.name, "DEPLOYMENT": self.deployment, "CONTROL_PORT": control_port},
            snapshot_interval_seconds=600,
            rebuild=rebuild,
        )


class Copier:
    """Writes a copy as a replicator does: explicit partition, origin offset in a header. It may be made to err."""

    def __init__(self, bootstrap: str, incarnation: str) -> None:
        self.log = events_log(incarnation)
        self._producer = Producer(producer_settings(bootstrap))

    def frame(self, rows: Sequence[EventRow], partition: int, origin: int, asks: Sequence[Ask] = ()) -> None:
        """Copy a frame that stands at `origin` in its own log."""
        headers = [*frame_headers(len(rows), KEY_FINGERPRINT, asks), origin_header(Origin(origin, 0))]
        self._write(encode_frame(rows), headers, partition)

    def hole(self, partition: int, start: int, end: int) -> None:
        """Nobody holds `[start, end)`."""
        self._write(None, hole_headers(start, end), partition)

    def spread(self, rows: Sequence[EventRow], frame_events: int = 10) -> None:
        """Copy rows in frames over all partitions, each from its origin's offset 0 on."""
        frames = [rows[n : n + frame_events] for n in range(0, len(rows), frame_events)]
        for number, frame in enumerate(frames):
            self.frame(frame, number % PARTITIONS, number // PARTITIONS)

    def flush(self) -> None:
        """Wait for the acknowledgements."""
        assert self._producer.flush(60) == 0

    def _write(self, value: bytes | None, headers: list[tuple[str, bytes]], partition: int) -> None:
        self._producer.produce(self.log, value=value, key=record_key(0), headers=[*headers], partition=partition)
