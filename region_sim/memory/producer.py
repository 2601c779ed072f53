"""Who writes to a modelled broker: in order, with one answer for each record, and no way to take back what was sent."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from region_sim.memory.kafka import LocalKafka
from region_sim.memory.kernel import Process
from region_sim.memory.logs import BrokerError

ACK_SECONDS: Final = 0.003
"""From sending a record to the broker of the same site until it is acknowledged."""
RETRY_SECONDS: Final = 0.2
IN_FLIGHT_MAX: Final = 5
"""Records that a producer has sent and not heard of, as Kafka's idempotent one."""


class _Outgoing:
    """A record on its way."""

    __slots__ = ("offset", "report", "sent_to", "until", "what")

    def __init__(self, until: float, what: tuple[Any, ...], report: Callable[[str | None, int], None]) -> None:
        self.until = until
        self.what = what
        self.report = report
        self.sent_to: Process | None = None
        """The broker's process in whose socket it lies; or that has taken it, and whose answer is on its way."""
        self.offset: int | None = None
        """Where the broker put it: an idempotent producer that sends it again is told so."""


class SimProducer:
    """Writes in order and reports each record; one that is not acknowledged in time is given up.

    Given up is not undone: what lies in the socket of a broker that is stopped is written when it goes on, long after
    its producer has said that it failed.
    """

    def __init__(self, kafka: LocalKafka, timeout_seconds: float) -> None:
        self._kafka = kafka
        self._timeout_seconds = timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._queue: deque[_Outgoing] = deque()
        self._in_sockets = 0
        self._timer: asyncio.TimerHandle | None = None

    def produce(
        self,
        log: str,
        partition: int,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
        key: bytes | None,
        report: Callable[[str | None, int], None],
    ) -> None:
        """Queue a record; `report` is given why it was not acknowledged, or None and its offset."""
        until = self._loop.time() + self._timeout_seconds
        self._queue.append(_Outgoing(until, (log, partition, value, headers, key), report))
        if self._timer is None:
            self._timer = self._loop.call_later(ACK_SECONDS, self._drain)

    def _drain(self) -> None:
        self._timer = None
        while self._queue:
            first = self._queue[0]
            reason = "the broker does not answer"
            if first.sent_to is not None and not first.sent_to.is_alive:
                first.sent_to = None
            if first.sent_to is None and self._kafka.is_up():
                try:
                    offset = self._append(first)
                except BrokerError as problem:
                    reason = str(problem)
                else:
                    self._queue.popleft()
                    first.report(None, offset)
                    continue
            elif (stopped := self._kafka.stopped()) is not None:
                self._leave_with(stopped)
            if self._loop.time() < first.until:
                self._timer = self._loop.call_later(RETRY_SECONDS, self._drain)
                return
            self._queue.popleft()
            first.report(f"not acknowledged in time: {reason}", -1)

    def _append(self, record: _Outgoing) -> int:
        """Write it, unless the broker has it already. Raises BrokerError."""
        if record.offset is None or not self._is_there(record, record.offset):
            record.offset = self._kafka.broker.append(*record.what)
        return record.offset

    def _is_there(self, record: _Outgoing, offset: int) -> bool:
        """Whether the log still has it: one that was cut may have another record there."""
        log, partition, value, *_ = record.what
        try:
            found = self._kafka.broker.read(log, partition, offset, 1)
        except BrokerError:
            return False
        return bool(found) and found[0].value is value

    def _leave_with(self, stopped: Process) -> None:
        """Put what comes next into the socket of a broker that is stopped: it is read when that goes on."""
        for record in list(self._queue)[:IN_FLIGHT_MAX]:
            if record.sent_to is None and self._in_sockets < IN_FLIGHT_MAX:
                record.sent_to = stopped
                self._in_sockets += 1
                stopped.at_end[record] = self._broken_off
                self._loop.call_soon(self._read_late, stopped, record, context=stopped.context)

    def _broken_off(self) -> None:
        self._in_sockets -= 1

    def _read_late(self, broker: Process, record: _Outgoing) -> None:
        """The broker goes on, and takes what lies there; its answer may find nobody who waits for it."""
        broker.at_end.pop(record, None)
        self._in_sockets -= 1
        try:
            self._append(record)
        except BrokerError:
            record.sent_to = None
            return
        self._loop.call_later(ACK_SECONDS, self._answered, broker, record, context=self._context)

    def _answered(self, broker: Process, record: _Outgoing) -> None:
        if broker.is_alive and record in self._queue and record.offset is not None:
            self._queue.remove(record)
            record.report(None, record.offset)
