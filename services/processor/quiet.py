"""Client libraries that repeat themselves while a broker is away: each of their sentences once in a while is enough.

`/readyz` says that the broker does not answer, and a metric counts it; a line every few milliseconds says no more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

REPEATING = (
    "aiokafka",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.consumer",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.producer",
    "aiokafka.producer.sender",
)
CHATTY = ("aiokafka", "faust", "mode", "streams.app")
SENTENCES_MAX = 1_000


class OnceInAWhile(logging.Filter):
    """Lets a logger's sentence pass once every `interval_seconds`, whatever its values are."""

    def __init__(self, interval_seconds: float, monotonic: Callable[[], float]) -> None:
        super().__init__()
        self._interval_seconds = interval_seconds
        self._monotonic = monotonic
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        sentence = (record.name, str(record.msg))
        now = self._monotonic()
        last = self._last.get(sentence)
        if last is not None and now - last < self._interval_seconds:
            return False
        if len(self._last) >= SENTENCES_MAX:
            self._last.clear()
        self._last[sentence] = now
        return True


def quieten(monotonic: Callable[[], float], interval_seconds: float = 10.0) -> None:
    """Keep client libraries to warnings, and repeated ones to one in `interval_seconds`."""
    once = OnceInAWhile(interval_seconds, monotonic)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in REPEATING:
        logging.getLogger(name).addFilter(once)
