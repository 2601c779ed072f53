"""Which events logs are read: the one of this life, and every copy that stands in this region's Kafka.

A region that is alone reads its own log. In a deployment every life of every region has a log here, the coming ones
included: the preparing step and the replicator make the topics, so what Kafka lists is what can be read, and nobody has
to be asked for it. That holds while the coordination store is out of reach, too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from services.common.region_settings import RegionSettings
from streams.logs import events_log, rankings_log
from streams.truncation import LogUnreachableError, Place

_LIFE: Final = re.compile(r"([a-z][a-z0-9]*)-[1-9][0-9]*")


@dataclass(frozen=True)
class Logs:
    """The lives whose logs stand in this region's Kafka."""

    own: str
    """The life that this region is in: the only one that writes here."""
    incarnations: tuple[str, ...]
    """All that are read, `own` among them."""
    partitions: int

    def is_copy(self, log: str) -> bool:
        """Whether a log was first written elsewhere, or in an earlier life."""
        return log not in self._own_logs

    @cached_property
    def _own_logs(self) -> tuple[str, str]:
        """Asked of every record, so made once."""
        return events_log(self.own), rankings_log(self.own)

    @property
    def events(self) -> list[str]:
        """The logs that are folded."""
        return [events_log(incarnation) for incarnation in self.incarnations]

    @cached_property
    def places(self) -> list[Place]:
        """Every partition that is folded."""
        return [(log, partition) for log in self.events for partition in range(self.partitions)]

    @property
    def own_places(self) -> list[Place]:
        """Every partition of the log that is written here."""
        return [(events_log(self.own), partition) for partition in range(self.partitions)]

    @property
    def rankings_places(self) -> list[Place]:
        """Every partition of every rankings log."""
        return [(rankings_log(name), partition) for name in self.incarnations for partition in range(self.partitions)]


class KnownLogs:
    """The logs as they were last seen: lives begin while a processor runs."""

    def __init__(self, now: Logs) -> None:
        self.now = now


def lives_among(topics: Iterable[str], regions: Collection[str]) -> list[str]:
    """The lives of `regions` that have both an events and a rankings log among `topics`, by region and number."""
    names = set(topics)
    found = []
    for name in names:
        life = name.removesuffix(".events")
        parts = _LIFE.fullmatch(life)
        if life != name and parts is not None and parts[1] in regions and rankings_log(life) in names:
            found.append(life)
    return sorted(found, key=lambda life: (life.rpartition("-")[0], int(life.rpartition("-")[2])))


def asker(region: RegionSettings) -> AdminClient:
    """Who asks Kafka; worth keeping, because each has threads and connections of its own."""
    return AdminClient({"bootstrap.servers": region.bootstrap, "reconnect.backoff.max.ms": 500, "log_level": 2})


def find_logs(admin: AdminClient, region: RegionSettings, own: str, timeout_seconds: float) -> Logs:
    """Ask Kafka which logs there are. Blocks. Raises LogUnreachableError, SettingsError."""
    if region.is_alone:
        return Logs(own, (own,), region.partitions)
    regions = {site.name for site in region.load_deployment().regions} | {region.name}
    try:
        topics = admin.list_topics(timeout=timeout_seconds).topics
    except KafkaException as error:
        raise LogUnreachableError(f"Kafka does not list its logs: {error}") from error
    whole = [name for name, topic in topics.items() if len(topic.partitions) == region.partitions]
    return Logs(own, tuple(dict.fromkeys([*lives_among(whole, regions), own])), region.partitions)
