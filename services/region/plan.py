"""What a region consists of: the processes, what each needs, how it is started and how it says that it is ready."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from infra.runtime.kafka import KafkaBroker, find_home
from services.common.region_settings import RegionSettings
from services.common.settings import ServiceSettings, environment_of

PREPARE = "prepare"


class KafkaSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which Kafka the region uses: its own unless `bootstrap` names one that runs already."""

    TABLE: ClassVar[str] = "kafka"

    home: str = ""
    """A directory with Kafka's libs/; the one that `make setup` fetched unless set."""
    bootstrap: str = ""
    heap_mb: Annotated[int, msgspec.Meta(ge=96)] = 192


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a process this time."""

    command: list[str]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """One process to supervise."""

    name: str
    launch: Callable[[], Launch]
    """Makes ready what the process needs on disk; called before each start."""
    log: Path
    needs: tuple[str, ...] = ()
    is_step: bool = False
    port: int | None = None
    ready_path: str | None = None
    """Where to ask for readiness; None: listening on the port is enough."""
    outcome: Callable[[], str] | None = None
    """Of a step: what it found. When that changes, the processes that need the step are started anew."""


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """All processes of a region, in the order in which they start."""

    region: str
    data_dir: Path
    processes: tuple[ProcessPlan, ...]
    addresses: Mapping[str, str] = field(default_factory=dict)


def plan_region(region: RegionSettings, kafka: KafkaSettings) -> RegionPlan:
    """Return the plan of a whole region."""
    processes = [] if kafka.bootstrap else [_kafka(region, kafka)]
    needs = tuple(process.name for process in processes)
    processes.append(_python(region, PREPARE, "services.region.prepare", needs, None))
    processes.append(_python(region, "inference", "services.inference", (), region.inference_port))
    processes.append(_python(region, "processor", "services.processor", (PREPARE,), region.processor_port))
    processes.append(_python(region, "gateway", "services.gateway", (PREPARE,), region.gateway_port))
    addresses = {
        "gateway": region.gateway_url,
        "processor": region.processor_url,
        "inference": region.inference_url,
        "kafka": region.bootstrap,
    }
    return RegionPlan(region.name, region.data_dir, tuple(processes), addresses)


def _kafka(region: RegionSettings, kafka: KafkaSettings) -> ProcessPlan:
    broker = KafkaBroker(
        region.data_dir / "kafka",
        region.kafka_port,
        region.controller_port,
        kafka.heap_mb,
        home=find_home(kafka.home or None),
    )

    def launch() -> Launch:
        broker.prepare()
        return Launch(broker.command(), dict(os.environ))

    return ProcessPlan("kafka", launch, region.log_dir / "kafka.log", needs=(), port=region.kafka_port)


def _python(region: RegionSettings, name: str, module: str, needs: tuple[str, ...], port: int | None) -> ProcessPlan:
    def launch() -> Launch:
        found = msgspec.structs.replace(region, incarnation=read_incarnation(region) if port else "")
        # Many threads each with an allocator arena of its own would double what a small process holds.
        environment = {"MALLOC_ARENA_MAX": "2", **os.environ, **environment_of(found)}
        return Launch([sys.executable, "-m", module], environment)

    return ProcessPlan(
        name,
        launch,
        region.log_dir / f"{name}.log",
        needs=needs,
        is_step=port is None,
        port=port,
        ready_path=None if port is None else "/readyz?verbose",
        outcome=(lambda: read_incarnation(region)) if port is None else None,
    )


def read_incarnation(region: RegionSettings) -> str:
    """Return the incarnation that the preparing step found; empty before it ever ran."""
    try:
        return region.incarnation_file.read_text().strip()
    except FileNotFoundError:
        return ""
