"""The Kafka sink around a producer that does what a test says."""

import threading
from typing import Any

import pytest

from services.gateway import kafka


class SlowProducer:
    """Its delivery report is under way in the polling thread when the sink is closed."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.report: Any = None
        self.polling = threading.Event()
        self.go_on = threading.Event()
        self.flushed_beside_poll = False
        self._in_poll = False

    def produce(self, *_: object, on_delivery: Any, **__: object) -> None:
        """Keep the report for the next poll."""
        self.report = on_delivery

    def poll(self, seconds: float) -> None:
        """Hold the report for a while, as a busy thread does, before handing it over."""
        if self.report is None:
            self.go_on.wait(0.01)
            return
        self._in_poll = True
        report, self.report = self.report, None
        self.polling.set()
        self.go_on.wait(0.2)
        report(None, Message())
        self._in_poll = False

    def flush(self, seconds: float) -> int:
        """Nothing is queued: whatever was is in the hands of `poll`."""
        self.flushed_beside_poll = self._in_poll
        return 0


class Message:
    """What a report says about its record."""

    def offset(self) -> int:
        """Where it lies."""
        return 7


async def test_closing_waits_for_a_report_in_the_hands_of_the_polling_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread ends before flush, and what it still had is told."""
    monkeypatch.setattr(kafka, "Producer", SlowProducer)
    sink = kafka.KafkaSink("nowhere:1", "log", delivery_timeout_ms=1, queue_bytes_max=1, on_fatal=lambda _: None)
    producer: Any = sink._producer
    told: list[tuple[str | None, int]] = []
    sink.send(0, b"k", b"v", [], lambda error, offset: told.append((error, offset)))
    assert producer.polling.wait(5)
    await sink.close(1.0)
    assert not producer.flushed_beside_poll
    assert told == [(None, 7)]
