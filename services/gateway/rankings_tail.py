"""Listening to the rankings log: answers find the request that waits for them.

A thread follows every partition from its end; it sleeps inside the library until the broker has something. Only
answers addressed to this process are opened. The largest epoch ever seen is kept, because an answer under a smaller
one was made by somebody who no longer leads and must not be shown; the marker that begins a term in each partition says
that answers will come. A tail that lost its place (the log was cut or
made anew) goes on at the end: rankings are effects, and whoever waited for a lost one asks again.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from services.gateway.kafka import LIBRARY_LOG_LEVEL
from streams.asks import Epoch, Ranking, decode_ranking
from streams.epochs import HEADER_EPOCH, read_epoch
from streams.frame import Headers, header
from streams.logs import consumer_settings

_POLL_SECONDS: Final = 0.5
_FETCH_WAIT_MS: Final = 500
"""The broker answers a fetch as soon as there is a record; this only bounds how long an idle fetch hangs."""


class Listener(Protocol):
    """Who is told what was heard, on the event loop."""

    def on_ranking(self, ranking: Ranking, epoch: Epoch) -> None:
        """An answer addressed to this process, and the epoch in its header."""

    def on_epoch(self, epoch: Epoch, partition: int) -> None:
        """A larger epoch than any before in this partition."""

    def on_unreadable(self) -> None:
        """A record that is no answer."""


class RankingsTail:
    """Follows `{inc}.rankings`; calls back on the event loop."""

    def __init__(
        self,
        bootstrap: str,
        log: str,
        reply_to: str,
        listener: Listener,
    ) -> None:
        self._log = log
        self._reply_to = reply_to.encode()
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._ending = threading.Event()
        settings = consumer_settings(bootstrap, f"{reply_to}-rankings")
        settings |= {"auto.offset.reset": "latest", "fetch.wait.max.ms": _FETCH_WAIT_MS, "fetch.min.bytes": 1}
        logger = logging.getLogger("librdkafka.tail")
        talk: dict[str, Any] = {"error_cb": self._on_error, "logger": logger, "log_level": LIBRARY_LOG_LEVEL}
        self._consumer = Consumer({**settings, **talk})
        self._thread = threading.Thread(target=self._follow, name="rankings-tail", daemon=True)
        self._seen: dict[int, Epoch] = {}
        self._trouble: str | None = None

    def start(self, ends: dict[int, int]) -> None:
        """Follow from these offsets on. They are resolved before the first ask goes out: no answer is missed."""
        self._consumer.assign([TopicPartition(self._log, p, offset) for p, offset in ends.items()])
        self._thread.start()

    def blocker(self) -> str | None:
        """Why nothing can be heard, or None."""
        return self._trouble if self._thread.is_alive() else "nobody listens to the rankings log"

    async def close(self) -> None:
        """End the thread and the consumer."""
        self._ending.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, 2 * _POLL_SECONDS)
        await asyncio.to_thread(self._consumer.close)

    def _follow(self) -> None:
        while not self._ending.is_set():
            try:
                message = self._consumer.poll(_POLL_SECONDS)
                if message is not None:
                    self._take(message)
                elif self._trouble is not None:
                    # An idle log says nothing when the broker is back: ask.
                    self._consumer.get_watermark_offsets(TopicPartition(self._log, 0), timeout=_POLL_SECONDS)
                    self._trouble = None
            except KafkaException as error:
                self._trouble = error.args[0].str()
                self._ending.wait(_POLL_SECONDS)

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - the library's name for it
            self._trouble = "no broker can be reached"

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - the library's name for it
                self._trouble = error.str()
            return
        self._trouble = None
        epoch = read_epoch(header(cast("Headers", message.headers()), HEADER_EPOCH))
        if epoch is None:
            self._call(self._listener.on_unreadable)
            return
        partition = message.partition() or 0
        if epoch > self._seen.get(partition, (-1, -1)):
            self._seen[partition] = epoch
            self._call(self._listener.on_epoch, epoch, partition)
        if message.key() != self._reply_to:
            return
        try:
            ranking = decode_ranking(message.value() or b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._call(self._listener.on_unreadable)
            return
        self._call(self._listener.on_ranking, ranking, epoch)

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)
