"""What all processes of a region must agree on: its name, where its files lie, and who listens where.

Kept in one table (`[region]`, `MERIDIAN_REGION_...`), which the supervisor hands to every process that it starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from services.common.deployment import Deployment, load_deployment
from services.common.settings import ServiceSettings
from streams.logs import PARTITIONS_DEFAULT

LOOPBACK = "127.0.0.1"
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class RegionSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shared by kafka, inference, processor and gateway of one region."""

    TABLE: ClassVar[str] = "region"

    name: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9]{0,30}$")] = "east"
    """The region, in every log, key and metric: a small letter, then up to 30 small letters and digits."""
    deployment: Path = Path()
    """The file of the deployment that the region belongs to; unset for a region that is alone."""
    host: str = LOOPBACK
    """Under which address the region's processes are reached, by each other and by the other sites."""
    listen_host: str = ""
    """Where they listen; `host` unless set. In a container: every address that it has."""
    advertised_url: str = ""
    """Where apps reach the gateway, when that is not `host`: what redirects and the list of regions say."""
    elsewhere: tuple[Literal["kafka", "etcd", "inference"], ...] = ()
    """Processes of the region that something else starts and ends, such as containers of their own."""
    incarnation: str = ""
    """The life that the region is in; the supervisor sets it. Empty: the one in the coordination file."""
    data_dir: Path = Path()
    """Logs, snapshots and the region's record; `var/<name>` unless set."""
    bootstrap: str = ""
    """Kafka's address; the region's own broker unless set."""
    partitions: Annotated[int, msgspec.Meta(ge=1, le=1024)] = PARTITIONS_DEFAULT
    """Of each log; the same in every region, and never changed once there are logs."""
    kafka_port: Port = 19092
    """Where the region's Kafka listens."""
    controller_port: Port = 19093
    """Where Kafka's own quorum listens; `control_port` is this project's controller."""
    gateway_port: Port = 8080
    """Where apps publish events and ask for rankings."""
    processor_port: Port = 8081
    """Where the processor shows its health, state and metrics."""
    inference_port: Port = 8082
    """Where the inference worker answers."""
    replicator_port: Port = 8083
    """Where the replicator shows its report."""
    control_port: Port = 8084
    """Where this project's controller listens; `controller_port` is the one of Kafka's own quorum."""
    pseudonym_key_file: Path = Path()
    """The key under which users become pseudonyms; `pseudonym.key` in the data directory unless set."""

    signing_key_file: Path = Path()
    """What pushed model versions are signed with; `model-signing.key` in the data directory unless set."""
    trusted_keys_file: Path = Path()
    """Whose signatures on model versions count, one public key a line; `trusted-model-keys` there unless set."""

    def check(self) -> str | None:
        """Fill in what follows from other settings; refuse ports that collide."""
        if self.data_dir == Path():
            msgspec.structs.force_setattr(self, "data_dir", Path("var") / self.name)
        if not self.listen_host:
            msgspec.structs.force_setattr(self, "listen_host", self.host)
        if not self.bootstrap:
            msgspec.structs.force_setattr(self, "bootstrap", f"{self.host}:{self.kafka_port}")
        if self.pseudonym_key_file == Path():
            msgspec.structs.force_setattr(self, "pseudonym_key_file", self.data_dir / "pseudonym.key")
        if self.signing_key_file == Path():
            msgspec.structs.force_setattr(self, "signing_key_file", self.data_dir / "model-signing.key")
        if self.trusted_keys_file == Path():
            msgspec.structs.force_setattr(self, "trusted_keys_file", self.data_dir / "trusted-model-keys")
        listeners = ("kafka", "controller", "gateway", "processor", "inference", "replicator", "control")
        ports = [getattr(self, f"{listener}_port") for listener in listeners]
        if len(set(ports)) < len(ports):
            return f"two processes cannot share a port: {ports} ({', '.join(listeners)})"
        return None

    @property
    def gateway_url(self) -> str:
        """The address of the gateway for processes of this machine."""
        return f"http://{self.host}:{self.gateway_port}"

    @property
    def gateway_for_apps(self) -> str:
        """What an app is told that wants to reach this region's gateway."""
        return self.advertised_url or self.gateway_url

    @property
    def processor_url(self) -> str:
        """The address of the processor's health, state and metrics."""
        return f"http://{self.host}:{self.processor_port}"

    @property
    def inference_url(self) -> str:
        """The address of the inference worker."""
        return f"http://{self.host}:{self.inference_port}"

    @property
    def replicator_url(self) -> str:
        """The address of the replicator's report."""
        return f"http://{self.host}:{self.replicator_port}"

    @property
    def control_url(self) -> str:
        """The address of the region's controller."""
        return f"http://{self.host}:{self.control_port}"

    @property
    def is_alone(self) -> bool:
        """Whether there is no other region: no election, no replication, an open gate."""
        return self.deployment == Path()

    def load_deployment(self) -> Deployment:
        """Return the deployment that the region belongs to. Raises SettingsError."""
        return load_deployment(self.deployment)

    @property
    def coordination_file(self) -> Path:
        """The region's record: incarnation, key fingerprint, acknowledged ends, model aliases."""
        return self.data_dir / "coordination.json"

    @property
    def incarnation_file(self) -> Path:
        """What the preparing step found, for the supervisor: a copy, the region's record decides."""
        return self.data_dir / "incarnation"

    @property
    def model_repository(self) -> Path:
        """The region's own model versions, in Triton's layout: shipped ones, pushed ones, ones fetched from peers."""
        return self.data_dir / "models"

    @property
    def snapshot_dir(self) -> Path:
        """Where the processor keeps its snapshots."""
        return self.data_dir / "snapshots"

    @property
    def log_dir(self) -> Path:
        """One log file a process."""
        return self.data_dir / "logs"
