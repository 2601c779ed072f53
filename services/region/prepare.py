"""The step between Kafka and everything that reads or writes logs: which life is this, and is its log whole?

Runs after each start of the broker, because a broker that comes back may have come back with less: a cluster id does
not prove the same life. It allocates the incarnation, binds the pseudonym key, holds every log's end against what was
acknowledged from it, and makes the topics of this incarnation and of the next, so that a later wipe surprises nobody.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from concurrent.futures import Future
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from services.common.clock import random_bytes
from services.common.exit_codes import ExitCode
from services.common.logging import get_logger
from services.common.process import LoadedSettings, main_exit, run_service
from services.common.region_settings import RegionSettings
from services.coordination import FileStore, KeyValueStore
from services.coordination.region_record import (
    KeyMismatch,
    acknowledged_ends,
    allocate_incarnation,
    check_key_fingerprint,
    cut_partitions,
    key_fingerprint,
    next_incarnation_name,
)
from services.region.errors import RegionError
from streams.errors import LogTruncated
from streams.logs import TOPIC_SETTINGS, consumer_settings, events_log, topics_of
from streams.pseudonym import KEY_BYTES, Pseudonyms

ANSWER_TIMEOUT_SECONDS = 30.0
CUT_CONFIRMED_SECONDS = 3.0
POLL_SECONDS = 0.1

log = get_logger(__name__)


class BrokerSilent(RegionError):
    """Kafka did not answer; the step is tried again."""


async def prepare(region: RegionSettings) -> str:
    """Return the incarnation, its topics made and its log found whole.

    Raises LogTruncated, KeyMismatch, RegionError (settings), BrokerSilent.
    """
    store = FileStore(region.coordination_file)
    await check_key_fingerprint(store, Pseudonyms(await read_or_make_key(region, store)).fingerprint)
    admin = AdminClient({"bootstrap.servers": region.bootstrap, "reconnect.backoff.max.ms": 500})
    cluster_id = await asyncio.to_thread(_cluster_id, admin, region.bootstrap)
    incarnation = await allocate_incarnation(store, region.name, cluster_id)
    recorded = await acknowledged_ends(store, events_log(incarnation))
    if recorded:
        await asyncio.to_thread(check_ends, region.bootstrap, events_log(incarnation), recorded)
    topics = [*topics_of(incarnation), *topics_of(next_incarnation_name(incarnation))]
    await asyncio.to_thread(make_topics, admin, topics, region.partitions)
    region.incarnation_file.write_text(incarnation + "\n")
    log.info("prepared", incarnation=incarnation, cluster_id=cluster_id, partitions=region.partitions)
    return incarnation


async def read_or_make_key(region: RegionSettings, store: KeyValueStore) -> bytes:
    """Return the pseudonym key, made when the record knows of none yet. Raises RegionError, KeyMismatch."""
    path = region.pseudonym_key_file
    try:
        key = bytes.fromhex(path.read_text().strip())
    except FileNotFoundError:
        if await key_fingerprint(store) is not None:
            raise KeyMismatch(
                f"{path} is gone, but the region has a record: its logs were written under that key. Put the file back "
                "(a backup, or a copy from another region); a new key would make every user a stranger."
            ) from None
        key = random_bytes(KEY_BYTES)
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(key.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        return key
    except (OSError, ValueError) as error:
        raise RegionError(f"{path} is not {2 * KEY_BYTES} hex digits: {error}. Put the right file back.") from None
    if len(key) != KEY_BYTES:
        raise RegionError(f"{path} holds {len(key)} bytes, a pseudonym key has {KEY_BYTES}. Put the right file back.")
    return key


def check_ends(bootstrap: str, log_name: str, recorded: dict[int, int]) -> None:
    """Raise LogTruncated if the log ends before what was acknowledged from it, and keeps doing so for a while.

    A broker that has just come back may not know a topic or its high watermark at once; a cut does not heal.
    """
    consumer = Consumer(consumer_settings(bootstrap, "meridian-prepare"))
    try:
        deadline = time.monotonic() + CUT_CONFIRMED_SECONDS
        while cuts := cut_partitions(recorded, {p: _end(consumer, log_name, p) for p in recorded}):
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
    finally:
        consumer.close()
    if cuts:
        listed = ", ".join(f"partition {p}: acknowledged up to {end}, ends at {now}" for p, end, now in cuts)
        raise LogTruncated(
            f"{log_name} was cut: {listed}. Acknowledged events are missing, so nothing reads or writes it. Restore "
            "the log's directory from a copy and start again; or, to go on without them, move the region's kafka "
            "directory away (keep it): the next start then opens a new incarnation."
        )


def _end(consumer: Consumer, log_name: str, partition: int) -> int:
    """Return the offset after the last record; 0 where the topic or partition does not exist."""
    try:
        _, high = consumer.get_watermark_offsets(TopicPartition(log_name, partition), timeout=ANSWER_TIMEOUT_SECONDS)
    except KafkaException as error:
        if error.args[0].code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION):  # noqa: SLF001
            return 0
        raise BrokerSilent(f"Kafka does not say where {log_name}/{partition} ends: {error}", ExitCode.CRASH) from error
    return int(high)


def make_topics(admin: AdminClient, topics: Iterable[str], partitions: int) -> None:
    """Create what is missing; refuse a topic that is there with another partition count."""
    wanted = list(topics)
    _create(admin, [name for name in wanted if name not in _counts(admin)], partitions)
    deadline = time.monotonic() + ANSWER_TIMEOUT_SECONDS
    while missing := set(wanted) - (counts := _counts(admin)).keys():
        # The controller has made them; the broker learns of it a moment later.
        if time.monotonic() > deadline:
            raise BrokerSilent(f"Kafka does not show {', '.join(sorted(missing))} after creating them", ExitCode.CRASH)
        time.sleep(POLL_SECONDS)
    for name in wanted:
        if counts[name] != partitions:
            raise RegionError(
                f"{name} has {counts[name]} partitions, the settings say {partitions}. A log's "
                f"partition count never changes: set [region] partitions = {counts[name]}."
            )


def _counts(admin: AdminClient) -> dict[str, int]:
    """Return the partition count of every topic that the broker knows."""
    try:
        topics = admin.list_topics(timeout=ANSWER_TIMEOUT_SECONDS).topics
    except KafkaException as error:
        raise BrokerSilent(f"Kafka does not list its topics: {error}", ExitCode.CRASH) from error
    return {name: len(topic.partitions) for name, topic in topics.items()}


def _create(admin: AdminClient, names: list[str], partitions: int) -> None:
    if not names:
        return
    topics = [NewTopic(name, partitions, 1, config=TOPIC_SETTINGS) for name in names]
    results = admin.create_topics(topics, operation_timeout=ANSWER_TIMEOUT_SECONDS)
    for name, result in cast("dict[str, Future[None]]", results).items():
        try:
            result.result(ANSWER_TIMEOUT_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise BrokerSilent(f"Kafka did not create {name}: {error}", ExitCode.CRASH) from error


def _cluster_id(admin: AdminClient, bootstrap: str) -> str:
    try:
        description = admin.describe_cluster(request_timeout=ANSWER_TIMEOUT_SECONDS).result(ANSWER_TIMEOUT_SECONDS)
    except (KafkaException, TimeoutError) as error:
        raise BrokerSilent(f"Kafka at {bootstrap} does not answer: {error}", ExitCode.CRASH) from error
    return str(description.cluster_id)


async def _serve(loaded: LoadedSettings, _: asyncio.Event) -> None:
    await prepare(cast("RegionSettings", loaded[RegionSettings]))


def main() -> int:
    """Run the step; the exit code says what an operator must mend."""
    return run_service(
        "region.prepare",
        [RegionSettings],
        _serve,
        exit_codes={
            LogTruncated: ExitCode.LOG_TRUNCATED_OR_GAP,
            KeyMismatch: ExitCode.KEY_MISMATCH,
            BrokerSilent: ExitCode.CRASH,
            RegionError: ExitCode.BAD_SETTINGS,
        },
    )


if __name__ == "__main__":
    main_exit(main())
