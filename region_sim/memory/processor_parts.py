"""Small parts of a simulated processor: how it writes, what it notes of records, and who is told of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import cast

from region_sim.memory.kafka import LocalKafka, SimProbe
from region_sim.memory.producer import SimProducer
from services.processor.admission import Course
from services.processor.answering import Answerer
from services.processor.fold_meter import FoldMeter
from services.processor.ladder import StepDown
from services.processor.logs import KnownLogs
from services.processor.markers import RankingsEnds
from streams.asks import decode_asks
from streams.broker_probe import BrokerProbe
from streams.delivery import BY_KEY, DeliveryError
from streams.fold import Applied
from streams.frame import HEADER_ASKS, header
from streams.intake import LogRecord
from streams.logs import partition_of
from streams.position import Position
from streams.truncation import EpochsSeen, LogUnreachableError, Place


class SimDelivery:
    """Writes records and tells what became of them, shaped like Delivery."""

    def __init__(self, kafka: LocalKafka, timeout_seconds: float) -> None:
        self._kafka = kafka
        self._producer = SimProducer(kafka, timeout_seconds)

    async def deliver(
        self, topic: str, value: bytes, *, key: bytes, headers: Sequence[tuple[str, bytes]], partition: int = BY_KEY
    ) -> None:
        """See Delivery."""
        done: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

        def report(error: str | None, _offset: int) -> None:
            if not done.done():
                done.set_result(error)

        self.send(topic, value, key=key, headers=headers, partition=partition, report=report)
        error = await done
        if error is not None:
            raise DeliveryError(f"a record for {topic} was not acknowledged: {error}")

    def send(
        self,
        topic: str,
        value: bytes,
        *,
        key: bytes,
        headers: Sequence[tuple[str, bytes]],
        partition: int = BY_KEY,
        report: object = None,
    ) -> None:
        """Queue a record."""
        if partition == BY_KEY:
            count = self._kafka.broker.partition_counts().get(topic, 1)
            partition = partition_of(int.from_bytes(key[:8].ljust(8, b"\0"), "little"), count)
        given = report if callable(report) else _nobody
        self._producer.produce(topic, partition, value, headers, key, given)


def _nobody(_error: str | None, _offset: int) -> None:
    """Nobody waits for this report."""


class SimRankingsEnds(RankingsEnds):
    """How far each rankings log goes, asked of the modelled broker."""

    def __init__(self, kafka: LocalKafka, logs: KnownLogs) -> None:
        self._probe = cast("BrokerProbe", SimProbe(kafka))
        self._consumer = kafka.consumer()
        self._logs = logs
        self._timeout_seconds = 1.0
        self._known: dict[Place, tuple[int, int]] = {}


class SimEpochsSeen(EpochsSeen):
    """Notes leader epochs record by record: there are no batches here."""

    def took(self, place: Place, offset: int, leader_epoch: int) -> None:
        """A record was fetched."""
        ranges = self._ranges.get(place, ())
        if not (ranges and ranges[-1][1] == leader_epoch and ranges[-1][0] <= offset):
            self._ranges[place] = (*(entry for entry in ranges if entry[0] < offset), (offset, leader_epoch))


class AlwaysLevel:
    """Nothing is on its way into retrieval: items are read from the state."""

    async def level(self, timeout_seconds: float) -> bool:  # noqa: ARG002 - the shape of Changes
        """See Changes."""
        return True


class Tallies:
    """What became of asks and records, as plain counts."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self.problems: list[BaseException] = []

    def ask_ended(self, kind: str, outcome: str, rung: str) -> None:  # noqa: ARG002 - the shape of AskObserver
        """See AskObserver."""
        self._counts["gate_refusals"] += outcome == Course.DROP_GATE.value

    def ask_failed(self, kind: str, bug: BaseException) -> None:  # noqa: ARG002 - the shape of AskObserver
        """See AskObserver."""
        self.problems.append(bug)

    def stepped_down(self, why: StepDown) -> None:
        """See AskObserver."""

    def stage(self, name: str, seconds: float) -> None:
        """See AskObserver."""


class Heard:
    """The intake's observer: asks of the own log go to the answerer."""

    def __init__(self, answerer: Answerer, own_log: str) -> None:
        self._answerer = answerer
        self._own_log = own_log
        self.fold: FoldMeter | None = None

    def taken(self, record: LogRecord, applied: Applied, seconds: float) -> None:  # noqa: ARG002 - the shape of Observer
        """See Observer."""
        if self.fold is not None:
            self.fold.took(applied.events + applied.item_events)
        raw = header(record.headers, HEADER_ASKS) if record.log == self._own_log else None
        if raw is not None:
            for ask in decode_asks(raw):
                self._answerer.submit(ask, record.appended_ms)
        self._answerer.advanced()

    def duplicate(self, record: LogRecord) -> None:
        """See Observer."""

    def buried(self, record: LogRecord, position: Position, reason: str) -> None:  # noqa: ARG002 - the shape of Observer
        """See Observer."""
        self._answerer.advanced()

    def dropped(self, record: LogRecord, reason: str) -> None:
        """See Observer."""

    def unreachable(self, problem: LogUnreachableError) -> None:
        """See Observer."""
