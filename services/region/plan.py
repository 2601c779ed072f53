"""What a site consists of: the processes, what each needs, how it is started and how it says that it is ready.

A region that is alone is kafka, the preparing step, inference, processor and gateway. In a deployment a region has an
etcd member, a replicator and a controller as well, and a witness is an etcd member and nothing else. etcd is nobody's
need: events are accepted, and what is held is folded, while the coordination store is away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from infra.runtime.etcd import EtcdMember
from infra.runtime.etcd_install import EtcdRuntimeError
from infra.runtime.kafka import KafkaBroker, find_home
from services.common.deployment import Deployment, Site
from services.common.region_settings import LOOPBACK, RegionSettings
from services.common.settings import ServiceSettings, environment_of
from services.region.errors import StartLater
from services.region.renewal import begin_anew, renewal_is_due

PREPARE, KAFKA, ETCD, INFERENCE = "prepare", "kafka", "etcd", "inference"
ETCD_READY = "/readyz?verbose&exclude=non_learner"
"""In quorum, and up to date; a learner, which a wiped site comes back as, is as ready as it can be."""
SERVICES_WITH_HOST = ("gateway", "processor", "replicator", "controller")


class KafkaSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which Kafka the region uses: its own unless `bootstrap` names one that runs already."""

    TABLE: ClassVar[str] = "kafka"

    home: str = ""
    """A directory with Kafka's libs/; the one that `make setup` fetched unless set."""
    bootstrap: str = ""
    """Address of a Kafka that runs already, for a region that is alone; empty: the region's own broker is started."""
    heap_mb: Annotated[int, msgspec.Meta(ge=96)] = 192
    """Java heap of the region's broker, MiB."""


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
    host: str = LOOPBACK
    essential: bool = True
    """Whether the site counts as started only when this one is ready."""
    rechecked_by: str = ""
    """The step that judges whether a cut log is the end of its life; empty: an operator does."""
    on_ready: Callable[[], None] | None = None
    is_watch: bool = False
    """Whether it only looks at something that runs elsewhere, on whose port it does not listen itself."""


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """All processes of a site, in the order in which they start."""

    region: str
    data_dir: Path
    processes: tuple[ProcessPlan, ...]
    addresses: Mapping[str, str] = field(default_factory=dict)


def plan_region(region: RegionSettings, kafka: KafkaSettings) -> RegionPlan:
    """Return the plan of a whole region."""
    processes = [] if kafka.bootstrap else [_watch(region) if KAFKA in region.elsewhere else _kafka(region, kafka)]
    needs = tuple(process.name for process in processes)
    processes.append(_python(region, PREPARE, "services.region.prepare", needs, None))
    if INFERENCE not in region.elsewhere:
        processes.append(_python(region, INFERENCE, "services.inference", (), region.inference_port))
    processes += [
        _python(region, "processor", "services.processor", (PREPARE,), region.processor_port),
        _python(region, "gateway", "services.gateway", (PREPARE,), region.gateway_port),
    ]
    addresses = {
        "gateway": region.gateway_url,
        "processor": region.processor_url,
        "inference": region.inference_url,
        "kafka": region.bootstrap,
    }
    if not region.is_alone:
        deployment = region.load_deployment()
        if ETCD not in region.elsewhere:
            processes.insert(0, plan_etcd(deployment, deployment.site(region.name), region.log_dir))
        processes += [
            _python(region, "replicator", "services.replicator", (PREPARE,), region.replicator_port, essential=False),
            _python(region, "controller", "services.controller", (PREPARE,), region.control_port, essential=False),
        ]
        addresses |= {"replicator": region.replicator_url, "controller": region.control_url}
        addresses["etcd"] = deployment.site(region.name).url("etcd_client")
    return RegionPlan(region.name, region.data_dir, tuple(processes), addresses)


def plan_witness(deployment: Deployment, site: Site) -> RegionPlan:
    """Return the plan of a site that only votes."""
    directory = deployment.site_dir(site.name)
    etcd = plan_etcd(deployment, site, directory / "logs")
    return RegionPlan(site.name, directory, (etcd,), {"etcd": site.url("etcd_client")})


def plan_etcd(deployment: Deployment, site: Site, log_dir: Path) -> ProcessPlan:
    """Return the plan of a site's vote: begun with the cluster, or taken in again by the others after a wipe."""
    member = etcd_member(deployment, site)
    joined = joined_file(deployment, site.name)

    def launch() -> Launch:
        try:
            member.prepare(joined.exists())
            return Launch(member.command(), dict(os.environ))
        except EtcdRuntimeError as error:
            raise StartLater(str(error)) from error

    def remember() -> None:
        joined.parent.mkdir(exist_ok=True)
        joined.touch()

    return ProcessPlan(
        "etcd",
        launch,
        log_dir / "etcd.log",
        port=site.port("etcd_client"),
        ready_path=ETCD_READY,
        host=site.host,
        on_ready=remember,
    )


def etcd_member(deployment: Deployment, site: Site) -> EtcdMember:
    """Return a site's member of the cluster; nothing is started."""
    return EtcdMember(
        site.name,
        deployment.site_dir(site.name) / "etcd",
        site.host,
        site.port("etcd_client"),
        site.port("etcd_peer"),
        {other.name: other.url("etcd_peer") for other in deployment.sites},
        deployment.etcd_endpoints,
        token=deployment.deployment_id,
    )


def joined_file(deployment: Deployment, site: str) -> Path:
    """Where it stands that a site's etcd member was in the cluster; outside of what a wipe of the site destroys."""
    return Path(deployment.directory) / "etcd-joined" / site


def _kafka(region: RegionSettings, kafka: KafkaSettings) -> ProcessPlan:
    broker = KafkaBroker(
        region.data_dir / "kafka",
        region.kafka_port,
        region.controller_port,
        kafka.heap_mb,
        home=find_home(kafka.home or None),
        host=region.host,
    )

    def launch() -> Launch:
        begin_anew(region)
        broker.prepare()
        return Launch(broker.command(), dict(os.environ))

    return ProcessPlan("kafka", launch, region.log_dir / "kafka.log", port=region.kafka_port, host=region.host)


def _watch(region: RegionSettings) -> ProcessPlan:
    """Stand in for a broker that something else runs: ends when that one does, so that the logs are judged again."""

    def launch() -> Launch:
        if renewal_is_due(region):
            raise StartLater("Kafka has not begun anew yet; whoever runs it does so when it sees the wish")
        watch = Path(__file__).with_name("broker_watch.py")
        command = [sys.executable, "-I", "-S", str(watch), region.host, str(region.kafka_port)]
        return Launch(command, dict(os.environ))

    return ProcessPlan(
        KAFKA, launch, region.log_dir / "kafka.log", port=region.kafka_port, host=region.host, is_watch=True
    )


def _python(
    region: RegionSettings,
    name: str,
    module: str,
    needs: tuple[str, ...],
    port: int | None,
    *,
    essential: bool = True,
) -> ProcessPlan:
    def launch() -> Launch:
        found = msgspec.structs.replace(region, incarnation=read_incarnation(region) if port else "")
        return Launch([sys.executable, "-m", module], service_environment(found))

    return ProcessPlan(
        name,
        launch,
        region.log_dir / f"{name}.log",
        needs=needs,
        is_step=port is None,
        port=port,
        ready_path=None if port is None else "/readyz?verbose",
        outcome=(lambda: read_incarnation(region)) if port is None else None,
        host=region.host,
        essential=essential,
        rechecked_by=PREPARE if PREPARE in needs and not region.is_alone else "",
    )


def service_environment(region: RegionSettings) -> dict[str, str]:
    """Return the whole environment of a service of this region."""
    # Many threads each with an allocator arena of its own would double what a small process holds.
    return {"MALLOC_ARENA_MAX": "2", **os.environ, **site_environment(region), **environment_of(region)}


def site_environment(region: RegionSettings) -> dict[str, str]:
    """Return what the services of a region in a deployment are told: where to listen, and whom they may trust."""
    if region.is_alone:
        return {}
    variables = {f"MERIDIAN_{service.upper()}_HOST": region.listen_host for service in SERVICES_WITH_HOST}
    if region.listen_host != LOOPBACK:
        # Only this deployment's sites and the outside namespace of this machine reach that address.
        variables["MERIDIAN_GATEWAY_TRUST_NETWORK"] = "true"
    return variables


def models_dir(site_dir: Path) -> Path:
    """Where a region keeps its models (`RegionSettings.model_repository`), from its site's directory alone."""
    return site_dir / "models"


def read_incarnation(region: RegionSettings) -> str:
    """Return the incarnation that the preparing step found; empty before it ever ran."""
    try:
        return region.incarnation_file.read_text().strip()
    except FileNotFoundError:
        return ""
