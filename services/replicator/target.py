"""The own Kafka as a sink: one idempotent producer for all copies, and the thread that hears its reports.

An acknowledged copy is in order and there once, as far as one producer can promise it. Another copier cannot be fenced
out by the broker; it is found by the offset that each delivery report names.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from services.replicator.flow import Flow, Sent, Why
from services.replicator.kafka import LIBRARY_LOG_LEVEL
from services.replicator.settings import ReplicatorSettings
from streams.logs import producer_settings

_POLL_SECONDS: Final = 0.5
_FULL_SECONDS: Final = 0.005


class Target:
    """Create it anew after it was `broken`. `on_advance` is called from another thread whenever a copy has grown."""

    def __init__(self, bootstrap: str, settings: ReplicatorSettings, on_advance: Callable[[], None]) -> None:
        self._on_advance = on_advance
        self._ending = threading.Event()
        self.broken = ""
        """Why the producer gave up for good; empty while it works."""
        self._producer = Producer(
            {
                **producer_settings(bootstrap),
                "delivery.timeout.ms": settings.delivery_timeout_ms,
                "request.timeout.ms": min(10_000, settings.delivery_timeout_ms),
                "queue.buffering.max.messages": settings.queue_records_max,
                "queue.buffering.max.kbytes": settings.queue_kbytes_max,
                "batch.size": 1 << 20,
                "error_cb": self._on_error,
                "logger": logging.getLogger("librdkafka.producer"),
                "log_level": LIBRARY_LOG_LEVEL,
            }
        )
        self._thread = threading.Thread(target=self._poll, name="copies-delivered", daemon=True)
        self._thread.start()

    def reporter(self, flow: Flow) -> Callable[[KafkaError | None, Message], None]:
        """What to call for each delivery report of `flow`, in their order."""

        def report(error: KafkaError | None, message: Message) -> None:
            offset = message.offset()
            grown = flow.delivered(None if error is None else error.str(), -1 if offset is None else offset)
            if grown or not flow.pending:
                self._on_advance()

        return report

    def send(
        self,
        flow: Flow,
        record: Sent,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, str | bytes | None]],
        report: Callable[[KafkaError | None, Message], None],
    ) -> None:
        """Hand a record to the producer; waits while its queue is full. A refused record ends the flow."""
        if not flow.sent(record, len(value or b"")):
            return
        while True:
            try:
                self._producer.produce(
                    flow.place[0], value, key, partition=flow.place[1], headers=headers, on_delivery=report
                )
            except BufferError:
                if not self._ending.wait(_FULL_SECONDS):
                    continue
                reason = "the replicator is stopping"
            except KafkaException as error:
                self._on_error(error.args[0])
                reason = str(error.args[0].str())
            else:
                return
            flow.unsent()
            flow.end(Why.UNDELIVERED, f"{flow.place[0]}/{flow.place[1]}/{record.start}: {reason}", record.start)
            return

    def close(self, flush_seconds: float) -> None:
        """Wait for reports up to `flush_seconds`, then let go of the producer. Blocks."""
        self._producer.flush(flush_seconds)
        self._ending.set()
        self._thread.join(2 * _POLL_SECONDS)

    def drop(self) -> None:
        """Let go of a broken producer: what it still holds is reported as failed. Blocks shortly."""
        self._ending.set()
        self._thread.join(2 * _POLL_SECONDS)
        self._producer.purge()
        self._producer.flush(1.0)

    def _poll(self) -> None:
        while not self._ending.is_set():
            try:
                self._producer.poll(_POLL_SECONDS)
            except KafkaException as error:
                self._on_error(error.args[0])
                self._ending.wait(_POLL_SECONDS)

    def _on_error(self, error: KafkaError) -> None:
        """The code counts as well: `fatal()` says no for some fatal errors."""
        if (error.fatal() or error.code() == KafkaError._FATAL) and not self.broken:  # noqa: SLF001 - its public name
            self.broken = error.str()
            self._on_advance()
