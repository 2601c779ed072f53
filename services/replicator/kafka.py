"""Questions to one Kafka, asked from threads: which cluster it is, how far its logs reach, what they show."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any, Final, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from services.replicator.errors import KafkaSilent
from services.replicator.positions import Place
from streams.logs import TOPIC_SETTINGS, consumer_settings
from streams.truncation import LogEnd

LIBRARY_LOG_LEVEL: Final = 2
"""Critical: otherwise a broker that is down fills the log with one line for every attempt to reach it."""
_CLIENT_OUTDATED: Final = (
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError._NOENT,  # noqa: SLF001 - "no leaders found": its public name
)
"""The client keeps asking under the leaders that it saw first (or saw none of), and never looks for newer ones."""
_NO_TOPIC: Final = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - its public name
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - its public name
)


def reader_settings(bootstrap: str, fetch_kbytes_max: int) -> dict[str, Any]:
    """Settings of a consumer that copies: small waits, bounded memory, and never a jump."""
    return {
        **consumer_settings(bootstrap, "meridian-replicator"),
        "enable.partition.eof": True,
        "queued.max.messages.kbytes": fetch_kbytes_max,
        "queued.min.messages": 20_000,
        "fetch.max.bytes": max(4 << 20, fetch_kbytes_max * 512),
        "max.partition.fetch.bytes": 1 << 20,
        "topic.metadata.refresh.interval.ms": 30_000,
        "logger": logging.getLogger("librdkafka.replicator"),
        "log_level": LIBRARY_LOG_LEVEL,
    }


class KafkaSide:
    """One region's Kafka. Every method blocks, and raises KafkaSilent without an answer."""

    def __init__(self, bootstrap: str, answer_seconds: float) -> None:
        self.bootstrap = bootstrap
        self._answer_seconds = answer_seconds
        self._settings: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 500,
            "logger": logging.getLogger("librdkafka.admin"),
            "log_level": LIBRARY_LOG_LEVEL,
        }
        self._admin: AdminClient | None = None

    def cluster_id(self) -> str:
        """Which cluster it is."""
        try:
            described = self._client().describe_cluster(request_timeout=self._answer_seconds)
            return str(described.result(self._answer_seconds * 2).cluster_id)
        except (KafkaException, TimeoutError) as error:
            raise self._silent("does not say which cluster it is", error) from error

    def ends(self, places: Iterable[Place]) -> dict[Place, LogEnd]:
        """The end of each partition and its leader epoch; one that does not exist is left out."""
        found = self._offsets(places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        if any(end.leader_epoch < 0 for end in found.values()):
            # A broker that is ending or starting: its end proves nothing yet.
            raise KafkaSilent(f"Kafka at {self.bootstrap} does not say under which epoch it leads")
        return found

    def lows(self, places: Iterable[Place]) -> dict[Place, int]:
        """The first offset that each partition holds; one that does not exist is left out."""
        found = self._offsets(places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        return {place: end.next_offset for place, end in found.items()}

    def _offsets(self, places: Iterable[Place], spec: object) -> dict[Place, LogEnd]:
        wanted = {TopicPartition(*place): spec for place in places}
        if not wanted:
            return {}
        found = {}
        try:
            asked = self._client().list_offsets(cast("Any", wanted), request_timeout=self._answer_seconds)
            for where, future in asked.items():
                try:
                    answer = future.result(self._answer_seconds * 2)
                except KafkaException as error:
                    if error.args[0].code() in _NO_TOPIC:
                        continue
                    raise
                epoch = -1 if answer.leader_epoch is None else int(answer.leader_epoch)
                found[where.topic, where.partition] = LogEnd(int(answer.offset), epoch)
        except (KafkaException, TimeoutError) as error:
            raise self._silent("does not say where its logs end", error) from error
        return found

    def topic_ids(self, logs: Iterable[str]) -> dict[str, str]:
        """The id of each topic, which is another one when a topic was made anew; what does not exist is left out."""
        found = {}
        try:
            asked = self._client().describe_topics(TopicCollection(list(logs)), request_timeout=self._answer_seconds)
            for name, future in asked.items():
                try:
                    found[name] = str(future.result(self._answer_seconds * 2).topic_id)
                except KafkaException as error:
                    if error.args[0].code() in _NO_TOPIC:
                        continue
                    raise
        except (KafkaException, TimeoutError) as error:
            raise self._silent("does not describe its topics", error) from error
        return found

    def partition_counts(self) -> dict[str, int]:
        """Every topic that there is, and how many partitions it has."""
        try:
            topics = self._client().list_topics(timeout=self._answer_seconds).topics
        except KafkaException as error:
            raise self._silent("does not list its topics", error) from error
        return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None}

    def make_topics(self, logs: Iterable[str], partitions: int) -> None:
        """Make what does not exist yet; one that somebody else makes at this moment is no error."""
        topics = [NewTopic(name, partitions, 1, config=TOPIC_SETTINGS) for name in logs]
        if not topics:
            return
        try:
            made = self._client().create_topics(topics, operation_timeout=self._answer_seconds)
            for future in cast("dict[str, Future[None]]", made).values():
                try:
                    future.result(self._answer_seconds * 2)
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise
        except (KafkaException, TimeoutError) as error:
            raise self._silent("does not make topics", error) from error

    def consumer(self, fetch_kbytes_max: int) -> Consumer:
        """A consumer for a walk through logs."""
        return Consumer(reader_settings(self.bootstrap, fetch_kbytes_max))

    def _client(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient(self._settings)
        return self._admin

    def _silent(self, what: str, error: Exception) -> KafkaSilent:
        if isinstance(error, KafkaException) and error.args[0].code() in _CLIENT_OUTDATED:
            self._admin = None
        reason = error.args[0].str() if isinstance(error, KafkaException) else "no answer in time"
        return KafkaSilent(f"Kafka at {self.bootstrap} {what}: {reason}")
