"""What is known of another region: whether its Kafka answers, where its logs end, and what its replicator holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

import aiohttp
import msgspec

from services.common.clock import Clock
from services.common.deployment import Site
from services.common.logging import get_logger
from services.replicator.client import ReplicationReport, replication
from services.replicator.errors import KafkaSilent
from services.replicator.kafka import KafkaSide
from services.replicator.positions import Place
from services.replicator.settings import ReplicatorSettings
from services.replicator.sources import KafkaSeen
from streams.truncation import LogEnd

_RENEW_EVERY = 25
"""Failed polls after which a new client is made: one that saw a cluster that is gone may never find its successor."""
_TOPICS_EVERY = 10
"""Polls between two looks at the ids of topics."""
log = get_logger(__name__)


class Peer:
    """One other region. `wanted` says which partitions are asked about: those whose origin this region is now."""

    def __init__(
        self,
        site: Site,
        settings: ReplicatorSettings,
        clock: Clock,
        wanted: Callable[[], Iterable[Place]],
        on_ends: Callable[[Mapping[Place, LogEnd]], None],
        kafka: Callable[[str, float], KafkaSide] = KafkaSide,
    ) -> None:
        self.region = site.name
        self.site = site
        self._new_kafka = kafka
        self.kafka = kafka(site.bootstrap, settings.answer_seconds)
        self.cluster_id = ""
        """As shown since the contact began; empty while there is none."""
        self.contact = 0
        """Counts uninterrupted contacts: it changes whenever its Kafka did not answer for a while."""
        self.last_contact_ms = 0
        self.asked: frozenset[Place] = frozenset()
        """The partitions that the last answered poll asked about."""
        self.topic_ids: dict[str, str] = {}
        self.report: ReplicationReport | None = None
        """What its replicator said last."""
        self.was_asked = False
        """Whether its replicator was asked at least once since the start, with or without an answer."""
        self._settings = settings
        self._clock = clock
        self._wanted = wanted
        self._on_ends = on_ends
        self._answered_at: float | None = None
        self._report_at = 0.0
        self._reason = ""
        self._seen = KafkaSeen(reachable=False)
        self._holds: dict[Place, tuple[int, int]] = {}

    @property
    def seen(self) -> KafkaSeen:
        """What its Kafka shows of itself now."""
        reachable, found = self.is_fresh(self.contact) and bool(self.cluster_id), self._seen
        # Asked for every partition of every log, and nearly always what it was.
        if found.reachable is not reachable or found.cluster_id != self.cluster_id:
            found = self._seen = KafkaSeen(reachable, self.cluster_id)
        return found

    def is_fresh(self, contact: int) -> bool:
        """Whether `contact` is still unbroken. Called from other threads as well."""
        answered_at = self._answered_at
        return (
            contact == self.contact
            and answered_at is not None
            and self._clock.monotonic() - answered_at < self._settings.silence_seconds
        )

    def held(self, name: str, partition: int) -> int:
        """What its replicator said that it holds of a log that it copies; 0 when it did not say."""
        return self._holds.get((name, partition), (0, 0))[0]

    def origin_end(self, name: str, partition: int) -> int:
        """How far its replicator saw the origin of a log reach; 0 when it did not say."""
        return self._holds.get((name, partition), (0, 0))[1]

    @property
    def answers(self) -> bool:
        """Whether its replicator answered lately."""
        return self.report is not None and self._clock.monotonic() - self._report_at < 5.0

    async def poll(self) -> None:
        """Ask its Kafka for ends, for ever."""
        polls = failures = 0
        while True:
            began = self._clock.monotonic()
            try:
                await self._poll_once(with_topics=polls % _TOPICS_EVERY == 0)
                polls, failures = polls + 1, 0
            except KafkaSilent as silent:
                polls, failures = 0, failures + 1
                if failures % _RENEW_EVERY == 0:
                    self.kafka = self._new_kafka(self.site.bootstrap, self._settings.answer_seconds)
                self._lost(str(silent))
            left = self._settings.poll_interval_ms / 1000 - (self._clock.monotonic() - began)
            await self._clock.sleep(max(left, 0.02))

    async def _poll_once(self, *, with_topics: bool) -> None:
        if self._answered_at is not None and not self.is_fresh(self.contact):
            self._lost("it did not answer for a while")
        if not self.cluster_id:
            self.cluster_id = await asyncio.to_thread(self.kafka.cluster_id)
            with_topics = True
        elif (now := await asyncio.to_thread(self.kafka.cluster_id)) != self.cluster_id:
            # It was away for less than the time between two polls, and came back as another one.
            raise KafkaSilent(f"it is cluster {now} now, and was {self.cluster_id}")
        places = list(self._wanted())
        asked_ms, asked_at = self._clock.unix_ms(), self._clock.monotonic()
        ends = await asyncio.to_thread(self.kafka.ends, places)
        if with_topics:
            self.topic_ids = await asyncio.to_thread(self.kafka.topic_ids, {place[0] for place in places})
        if not places:
            # No log of it is known yet; its answering still has to be known.
            await asyncio.to_thread(self.kafka.cluster_id)
        if self._answered_at is None:
            log.info("in contact", peer=self.region, cluster_id=self.cluster_id)
        self._reason = ""
        self._answered_at = asked_at
        self.last_contact_ms, self.asked = asked_ms, frozenset(places)
        self._on_ends(ends)

    def _lost(self, reason: str) -> None:
        self.contact += 1
        self.cluster_id = ""
        self._answered_at = None
        self.topic_ids = {}
        if reason != self._reason:
            self._reason = reason
            log.warning("out of contact", peer=self.region, reason=reason)

    async def ask(self, http: aiohttp.ClientSession) -> None:
        """Ask its replicator what it holds, for ever."""
        while True:
            try:
                self.report = await replication(http, self.site.url("replicator"))
                self._report_at = self._clock.monotonic()
                self._holds = {
                    (log_report.log, found.partition): (found.held, found.origin_end)
                    for log_report in self.report.logs
                    for found in log_report.partitions
                }
            except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError):
                pass  # Its absence shows in `answers`.
            self.was_asked = True
            await self._clock.sleep(self._settings.peers_interval_ms / 1000)
