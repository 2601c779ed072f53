"""Writing receipts and dead letters: deliveries that are awaited, and tried again until they succeed."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from services.gateway.errors import ProducerBroken
from services.gateway.kafka import LIBRARY_LOG_LEVEL
from streams.logs import producer_settings

FLUSH_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Note:
    """A record to be written; `delivered` is called once it is acknowledged."""

    topic: str
    value: bytes
    delivered: Callable[[], None]
    partition: int = -1
    """-1: by the key."""
    key: bytes | None = None
    headers: list[tuple[str, bytes]] = field(default_factory=list)


class Pen:
    """An idempotent producer. Belongs to one thread, which calls `work` often."""

    def __init__(self, bootstrap: str) -> None:
        self._backlog: deque[Note] = deque()
        self._broken = ""
        self.trouble = ""
        """Why the last note could not be written."""
        self._producer = Producer(
            {
                **producer_settings(bootstrap),
                "linger.ms": 5,
                "error_cb": self._on_error,
                "logger": logging.getLogger("librdkafka.producer"),
                "log_level": LIBRARY_LOG_LEVEL,
            }
        )

    def write(self, note: Note) -> None:
        """Write it, sooner or later."""
        self._backlog.append(note)

    def work(self) -> None:
        """Send what waits and take note of what arrived. Raises ProducerBroken."""
        try:
            while self._backlog:
                note = self._backlog[0]
                self._producer.produce(
                    note.topic,
                    note.value,
                    note.key,
                    note.partition,
                    partial(self._delivered, note),
                    headers=[*note.headers],
                )
                self._backlog.popleft()
        except BufferError:
            pass  # the queue is full: it goes on with the next call
        except KafkaException as error:
            raise ProducerBroken(f"the Kafka client refused a record: {error}") from error
        self._producer.poll(0)
        if self._broken:
            raise ProducerBroken(f"the Kafka client gave up for good: {self._broken}")

    def close(self) -> None:
        """Wait (bounded) for what is under way."""
        self._producer.flush(FLUSH_SECONDS)

    def _delivered(self, note: Note, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self.trouble = ""
            note.delivered()
        else:
            self.trouble = f"{note.topic} does not take what is written about records: {error.str()}"
            self._backlog.append(note)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._broken = error.str()
