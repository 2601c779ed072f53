"""The gateway's hands on Kafka: a sink of records, and questions about a log's shape and ends.

librdkafka reports deliveries to whoever polls. One thread does, sleeping inside the library while nothing happens, and
hands over what came in one go: the event loop is woken once for many reports.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from services.gateway.errors import BrokerUnreachable
from services.gateway.events_log import Done, SinkFull
from streams.logs import producer_settings

LIBRARY_LOG_LEVEL: Final = 2
"""Critical: otherwise a broker that is down fills the log with one line for every attempt to reach it."""
_POLL_SECONDS: Final = 0.5


class KafkaSink:
    """An idempotent producer for one log."""

    def __init__(
        self,
        bootstrap: str,
        log: str,
        *,
        delivery_timeout_ms: int,
        queue_bytes_max: int,
        on_fatal: Callable[[str], None],
    ) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._on_fatal = on_fatal
        self._reports: deque[tuple[Done, str | None, int]] = deque()
        self._wake_pending = False
        self._ending = threading.Event()
        self._producer = Producer(
            {
                **producer_settings(bootstrap),
                "delivery.timeout.ms": delivery_timeout_ms,
                "request.timeout.ms": max(delivery_timeout_ms // 2, 1),
                "queue.buffering.max.messages": 100_000,
                "queue.buffering.max.kbytes": max(queue_bytes_max // 1024, 1),
                "error_cb": self._on_error,
                "logger": logging.getLogger("librdkafka.producer"),
                "log_level": LIBRARY_LOG_LEVEL,
            }
        )
        self._thread = threading.Thread(target=self._poll, name="delivery-reports", daemon=True)
        self._thread.start()

    def send(self, partition: int, key: bytes, value: bytes, headers: list[tuple[str, bytes]], done: Done) -> None:
        """See RecordSink."""

        def report(error: KafkaError | None, message: Message) -> None:
            offset = message.offset()
            self._report(done, error.str() if error is not None else None, -1 if offset is None else offset)

        try:
            self._producer.produce(
                self._log, value, key, partition=partition, headers=list(headers), on_delivery=report
            )
        except BufferError as error:
            raise SinkFull("the queue of records for the log is full") from error
        except KafkaException as error:
            raise SinkFull(f"the record was refused before it was sent: {error}") from error

    async def close(self, timeout_seconds: float) -> None:
        """See RecordSink. Ends the polling thread first: a report that it holds is one that flush does not wait for."""
        self._ending.set()
        await asyncio.to_thread(self._thread.join, 2 * _POLL_SECONDS)
        await asyncio.to_thread(self._producer.flush, timeout_seconds)
        self._drain()

    def _poll(self) -> None:
        while not self._ending.is_set():
            try:
                self._producer.poll(_POLL_SECONDS)
            except KafkaException as error:
                # A fatal error is raised here instead of being called back. This thread must live on: there may be
                # reports to come, and whoever waits for them must not wait for ever.
                self._on_error(error.args[0])
                self._ending.wait(_POLL_SECONDS)

    def _report(self, done: Done, error: str | None, offset: int) -> None:
        self._reports.append((done, error, offset))
        if not self._wake_pending and not self._loop.is_closed():
            self._wake_pending = True
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._wake_pending = False
        while self._reports:
            done, error, offset = self._reports.popleft()
            done(error, offset)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_fatal, error.str())


class LogShape:
    """Blocking questions to the broker, asked from threads."""

    def __init__(self, bootstrap: str, timeout_seconds: float) -> None:
        settings: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 500,
            "logger": logging.getLogger("librdkafka.admin"),
            "log_level": LIBRARY_LOG_LEVEL,
        }
        self._settings = settings
        self._admin = AdminClient(settings)
        self._timeout_seconds = timeout_seconds

    async def partitions(self, log: str) -> int:
        """How many partitions a log has. Raises BrokerUnreachable."""
        return await asyncio.to_thread(self._partitions, log)

    async def ends(self, log: str, partitions: int) -> dict[int, int]:
        """The next offset of every partition. Raises BrokerUnreachable."""
        return await asyncio.to_thread(self._ends, log, partitions)

    async def epochs(self, log: str, partitions: int) -> dict[int, int]:
        """The leader epoch of every partition for which the broker says it. Raises BrokerUnreachable."""
        return await asyncio.to_thread(self._epochs, log, partitions)

    def _partitions(self, log: str) -> int:
        try:
            topic = self._admin.list_topics(log, timeout=self._timeout_seconds).topics[log]
        except KafkaException as error:
            raise BrokerUnreachable(f"the broker does not answer: {error.args[0].str()}") from error
        if topic.error is not None or not topic.partitions:
            raise BrokerUnreachable(f"the broker has no log {log} (yet); `meridian up` makes it")
        return len(topic.partitions)

    def _ends(self, log: str, partitions: int) -> dict[int, int]:
        return {partition: found.offset for partition, found in self._latest(log, partitions).items()}

    def _epochs(self, log: str, partitions: int) -> dict[int, int]:
        epochs = {partition: found.leader_epoch for partition, found in self._latest(log, partitions).items()}
        return {partition: int(epoch) for partition, epoch in epochs.items() if epoch is not None}

    def _latest(self, log: str, partitions: int) -> dict[int, Any]:
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = {TopicPartition(log, p): latest for p in range(partitions)}
        asked = self._admin.list_offsets(wanted, request_timeout=self._timeout_seconds)
        try:
            return {where.partition: future.result() for where, future in asked.items()}
        except KafkaException as error:
            # A client that saw the leaders of before a restart goes on asking under their epochs, and is refused.
            self._admin = AdminClient(self._settings)
            raise BrokerUnreachable(f"the broker does not say where {log} ends: {error.args[0].str()}") from error
