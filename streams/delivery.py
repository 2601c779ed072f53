"""Writing a Kafka record from asyncio and learning what became of it, without a poll loop.

librdkafka reports deliveries only to a thread that polls. One daemon thread sits in `poll` (it sleeps inside the
library until there is something to report) and hands each report to the event loop. The alternative, polling from
a timer on the loop, either wakes up all the time or adds its period to every delivery.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams.errors import StreamError
from streams.logs import producer_settings

POLL_SECONDS: Final = 0.5
"""How long the polling thread sleeps at most before it looks whether it should end."""

BY_KEY: Final = -1
"""As a partition: the one that the key belongs to."""

Headers = Sequence[tuple[str, bytes]]
OnReport = Callable[[KafkaError | None, Message], None]


class DeliveryError(StreamError):
    """The broker did not acknowledge a record in time; whether it was written is not known."""


class Delivery:
    """A producer for one event loop; idempotent unless asked otherwise. Create it inside the loop, `close` it there.

    A producer that gives up early must not be idempotent: it would have to forget what it sent before it may go on.
    `delivery_timeout_ms` bounds how long a record may wait for its acknowledgement; `queue_messages_max` bounds what
    may wait at all. `on_fatal` is called on the event loop, once, when the producer has given up for good (as after a
    log that was cut): everything sent from then on is refused, so whoever depends on it must start again.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        delivery_timeout_ms: int,
        queue_messages_max: int,
        on_fatal: Callable[[DeliveryError], None] | None = None,
        idempotent: bool = True,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_fatal = on_fatal
        self._producer = Producer(
            {
                **producer_settings(bootstrap),
                "enable.idempotence": idempotent,
                "delivery.timeout.ms": delivery_timeout_ms,
                "queue.buffering.max.messages": queue_messages_max,
                # A waiting ranking is worth more than a fuller request.
                "linger.ms": 0,
                # What goes wrong comes back as an exception or a report; its own lines would tear the log apart.
                "log_level": 2,
            }
        )
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="delivery-reports", daemon=True)
        self._thread.start()

    def send(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes,
        headers: Headers,
        on_report: OnReport,
        partition: int = BY_KEY,
    ) -> None:
        """Queue a record; `on_report` is called on the event loop.

        Raises DeliveryError when the queue is full: nothing was sent.
        """

        def report(error: KafkaError | None, message: Message) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(on_report, error, message)

        try:
            self._producer.produce(
                topic, value=value, key=key, partition=partition, headers=list(headers), on_delivery=report
            )
        except BufferError as error:
            raise DeliveryError(f"the queue of records for {topic} is full; the broker does not keep up") from error
        except KafkaException as error:
            self._notice(error)
            raise DeliveryError(f"a record for {topic} was refused before it was sent: {error}") from error

    async def deliver(self, topic: str, value: bytes, *, key: bytes, headers: Headers, partition: int = BY_KEY) -> None:
        """Write a record and wait for the broker's acknowledgement. Raises DeliveryError without one."""
        done: asyncio.Future[KafkaError | None] = self._loop.create_future()

        def settle(error: KafkaError | None, _message: Message) -> None:
            if not done.done():
                done.set_result(error)

        self.send(topic, value, key=key, headers=headers, on_report=settle, partition=partition)
        error = await done
        if error is not None:
            raise DeliveryError(f"a record for {topic} was not acknowledged: {error.str()}")

    async def close(self, timeout_seconds: float) -> int:
        """Flush, then end the polling thread. Returns how many records were left unacknowledged."""
        left = await asyncio.to_thread(self._producer.flush, timeout_seconds)
        self._ending.set()
        await asyncio.to_thread(self._thread.join, POLL_SECONDS * 2)
        return int(left)

    def _poll(self) -> None:
        while not self._ending.is_set():
            try:
                self._producer.poll(POLL_SECONDS)
            except KafkaException as error:
                # A fatal error (as after a cut log) is raised here. This thread must live on: what waits for reports
                # would wait for ever, and further records are refused by `send`.
                self._notice(error)
                self._ending.wait(POLL_SECONDS)

    def _notice(self, error: KafkaException) -> None:
        """Report a fatal error, once. The code counts: `fatal()` says no for some of them."""
        cause = error.args[0]
        on_fatal = self._on_fatal
        if on_fatal is None or self._loop.is_closed() or not (cause.fatal() or cause.code() == KafkaError._FATAL):  # noqa: SLF001 - its public name
            return
        self._on_fatal = None
        self._loop.call_soon_threadsafe(on_fatal, DeliveryError(f"the producer has given up: {cause.str()}"))
