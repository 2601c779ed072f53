"""A Faust application that only delivers: no tables, no topics of its own, no leader, no web server.

Three things differ from a stock worker, each for a measured reason:

* the group is fresh for every start. A killed worker's group keeps its partitions until its session runs out (10 s);
  a fresh one starts at once, because the position is in the state and the group's offsets only measure lag. Static
  membership starts as fast, but its offsets cannot be set while the dead member counts as alive;
* the table manager sleeps for a second before it finds that there are no tables: this one does not;
* fetches return after `fetch_wait_ms` at the latest (1.5 s in stock Faust), which bounds how long a new record can wait
  behind a fetch that did not ask for its partition, and tells within that time whether the broker is alive. The
  leader epochs of what they bring are noted, because a cut log cannot be told without them (`streams.truncation`).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import faust
import msgspec
from aiokafka.protocol.fetch import FetchRequest  # type: ignore[import-untyped]
from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from faust.tables import TableManager
from faust.transport.drivers import aiokafka as driver

from streams.truncation import EpochsSeen, LogUnreachableError, Place

PATIENT_WAIT_MS: Final = 80
"""How long the broker gathers records for a reader that is patient: a fetch for each record had cost a passive region
more than folding it. A takeover waits for one such fetch at most."""
PATIENT_BYTES: Final = 256 << 10
LIBRARY_LOG_LEVEL: Final = 2
"""Critical: what goes wrong comes back as an exception, and the library's own lines would tear the log apart."""
METADATA_MS: Final = 5_000
"""How old a client's knowledge of topics may be."""


class FaustSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a delivering application needs to know."""

    bootstrap: str
    group: str
    fetch_wait_ms: int = 200
    commit_interval_seconds: float = 1.0
    session_seconds: float = 10.0
    request_seconds: float = 20.0
    """Not below `session_seconds`."""
    fetch_bytes_max: int = 4 << 20
    poll_records_max: int = 5_000


def group_of(region: str, incarnation: str, start: str) -> str:
    """The consumer group of one start of a region's processor."""
    return f"{group_prefix(region, incarnation)}{start}"


def group_prefix(region: str, incarnation: str) -> str:
    """What all groups of a region's processor begin with."""
    return f"meridian.{region}.{incarnation}."


class NoTables(TableManager):
    """Stands where Faust wants a table manager."""

    async def on_start(self) -> None:
        """As in Faust, without the second of waiting for tables to register."""
        await self._update_channels()
        await self.recovery.start()


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        app = self.app
        assert isinstance(app, DeliveringApp)
        consumer: Any = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = app.delivery.fetch_wait_ms  # noqa: SLF001 - Faust has no setting for it
        _tap(consumer._client, app)  # noqa: SLF001 - there is no hook for it
        return consumer

    def highwater(self, tp: Any) -> int:
        """As in Faust; a record that came just before its partition is assigned anew is no reason to end."""
        try:
            end: int | None = super().highwater(tp)
        except AssertionError:  # of aiokafka, while the subscription changes; only Faust's monitor asks
            end = None
        return int(self.app.monitor.tp_end_offsets.get(tp, 0)) if end is None else end


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _Transport(driver.Transport):
    Consumer = _Consumer


class DeliveringApp(faust.App):
    """A `faust.App` whose consumer notes leader epochs. Made by `make_app`; each can be started once."""

    delivery: FaustSettings
    epochs_seen: EpochsSeen
    monotonic_seconds: Callable[[], float]
    is_patient: Callable[[], bool]
    """Whether nobody waits for what is read: then the broker gathers records for a moment."""

    def _create_directories(self) -> None:
        """Without tables there is nothing to keep, so a start leaves no folder behind."""

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)


def make_app(
    settings: FaustSettings,
    epochs_seen: EpochsSeen,
    monotonic_seconds: Callable[[], float],
    is_patient: Callable[[], bool] = lambda: False,
) -> DeliveringApp:
    """Build a new application; add agents, then `await app.start()` in a running loop."""
    app = DeliveringApp(
        settings.group,
        broker=f"kafka://{settings.bootstrap.replace(',', ';')}",
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        key_serializer="raw",
        value_serializer="raw",
        consumer_auto_offset_reset="earliest",
        # A copy whose topic is made anew is read again once the client hears of it; a stock one asks every 5 minutes.
        consumer_metadata_max_age_ms=METADATA_MS,
        broker_commit_interval=settings.commit_interval_seconds,
        broker_session_timeout=settings.session_seconds,
        broker_heartbeat_interval=min(1.0, settings.session_seconds / 3),
        broker_request_timeout=settings.request_seconds,
        broker_max_poll_records=settings.poll_records_max,
        consumer_max_fetch_size=settings.fetch_bytes_max,
        stream_wait_empty=False,
        TableManager=NoTables,
    )
    app.delivery = settings
    app.epochs_seen = epochs_seen
    app.monotonic_seconds = monotonic_seconds
    app.is_patient = is_patient
    return app


def _tap(client: Any, app: DeliveringApp) -> None:
    """Set the pace of each fetch, and note the leader epochs in its answer before the fetcher unpacks it."""
    send, seen = client.send, app.epochs_seen

    async def send_and_note(node_id: int, request: Any, **more: Any) -> Any:
        if not isinstance(request, FetchRequest):
            return await send(node_id, request, **more)
        if app.is_patient():
            request._max_wait_ms = min(request._max_wait_ms, PATIENT_WAIT_MS)  # noqa: SLF001 - a hint to the broker
            request._min_bytes = PATIENT_BYTES  # noqa: SLF001 - as above
        response = await send(node_id, request, **more)
        seen.answered(app.monotonic_seconds())
        for topic, partitions in response.topics:
            for partition, *fields in partitions:
                if fields[-1]:
                    seen.fetched((topic, partition), fields[-1])
        return response

    client.send = send_and_note


def set_group_offsets(bootstrap: str, group: str, next_offsets: Mapping[Place, int], timeout_seconds: float) -> None:
    """Let a new, empty group start at the frontier. Blocks; raises LogUnreachableError without an answer."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": LIBRARY_LOG_LEVEL})
    wanted = [TopicPartition(log, partition, offset) for (log, partition), offset in sorted(next_offsets.items())]
    asked = ConsumerGroupTopicPartitions(group, wanted)
    try:
        answers = admin.alter_consumer_group_offsets([asked], request_timeout=timeout_seconds)
        for answer in answers.values():
            answer.result()
    except KafkaException as error:
        raise LogUnreachableError(f"the offsets of the group {group} cannot be set: {error}") from error


def drop_empty_groups(bootstrap: str, prefix: str, keep: str, timeout_seconds: float) -> int:
    """Delete the groups of earlier starts that nobody is a member of. Blocks; returns how many went."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": LIBRARY_LOG_LEVEL})
    try:
        listed = admin.list_consumer_groups(request_timeout=timeout_seconds, states={ConsumerGroupState.EMPTY}).result()
        names = [g.group_id for g in listed.valid if g.group_id.startswith(prefix) and g.group_id != keep]
        deleted = admin.delete_consumer_groups(names, request_timeout=timeout_seconds) if names else {}
        for answer in deleted.values():
            answer.result()
    except KafkaException as error:
        raise LogUnreachableError(f"groups of earlier starts cannot be deleted: {error}") from error
    return len(names)
