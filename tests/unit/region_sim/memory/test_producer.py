"""A producer of the modelled Kafka: in order, once, and never able to take back what it gave up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from region_sim.memory.clocks import MachineClock
from region_sim.memory.kafka import LocalKafka
from region_sim.memory.kernel import Kernel, Process
from region_sim.memory.logs import Broker
from region_sim.memory.producer import SimProducer

LOG = "east-1.events"


@dataclass
class Small:
    """A broker, and somebody who writes to it."""

    kernel: Kernel = field(default_factory=Kernel)
    said: list[tuple[str, str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.broker = Broker("east", MachineClock(self.kernel), random.Random(1))
        self.broker.make_topic(LOG, 1)
        self.process: Process = self.kernel.process("east/kafka")
        self.kafka = LocalKafka(
            self.broker,
            lambda: self.process.runs,
            lambda: self.process if self.process.is_alive and self.process.is_paused else None,
        )

    def write(self, producer: SimProducer, name: str) -> None:
        """Produce one record."""
        producer.produce(
            LOG, 0, name.encode(), [], None, lambda error, offset: self.said.append((name, error or "", offset))
        )

    @property
    def values(self) -> list[bytes | None]:
        """What the log holds."""
        return [record.value for record in self.broker.read(LOG, 0, 0)]

    def run(self, course: Coroutine[Any, Any, None]) -> None:
        """To the end."""
        self.kernel.run(course)
        assert self.kernel.failures == []


def test_what_was_given_up_is_written_when_a_stopped_broker_goes_on() -> None:
    """Its producer has said that it failed, and it lies in the log for all that."""
    small = Small()

    async def course() -> None:
        producer = SimProducer(small.kafka, 1.0)
        small.kernel.pause(small.process)
        small.write(producer, "late")
        await asyncio.sleep(3.0)
        assert [(name, offset) for name, error, offset in small.said if error] == [("late", -1)]
        assert small.values == []
        small.kernel.resume(small.process)
        small.write(producer, "next")
        await asyncio.sleep(1.0)
        assert small.values == [b"late", b"next"]
        assert small.said[1:] == [("next", "", 1)]

    small.run(course())


def test_what_waits_for_a_stopped_broker_is_written_once_and_in_order() -> None:
    """Whoever still waits is told where it lies."""
    small = Small()

    async def course() -> None:
        producer = SimProducer(small.kafka, 10.0)
        small.kernel.pause(small.process)
        for number in range(8):
            small.write(producer, str(number))
        await asyncio.sleep(2.0)
        small.kernel.resume(small.process)
        await asyncio.sleep(1.0)
        assert small.values == [str(number).encode() for number in range(8)]
        assert small.said == [(str(number), "", number) for number in range(8)]

    small.run(course())


def test_what_lay_in_the_socket_of_a_broker_that_was_killed_is_sent_again() -> None:
    """The connection breaks: what nobody had read is read by the next process, once."""
    small = Small()

    async def course() -> None:
        producer = SimProducer(small.kafka, 10.0)
        small.kernel.pause(small.process)
        for number in range(7):
            small.write(producer, str(number))
        await asyncio.sleep(1.0)
        small.kernel.kill(small.process)
        small.process = small.kernel.process("east/kafka")
        await asyncio.sleep(1.0)
        assert small.values == [str(number).encode() for number in range(7)]
        assert [name for name, error, _ in small.said if not error] == [str(number) for number in range(7)]

    small.run(course())


@pytest.mark.parametrize("cut", [False, True])
def test_an_answer_that_a_kill_cuts_off_makes_no_second_record(*, cut: bool) -> None:
    """It was written, its broker died before it said so; the idempotent producer's next try is told where it lies.

    A log that was cut meanwhile has something else there: then it is written again.
    """
    small = Small()

    async def course() -> None:
        producer = SimProducer(small.kafka, 10.0)
        small.kernel.pause(small.process)
        small.write(producer, "once")
        await asyncio.sleep(1.0)
        small.kernel.resume(small.process)
        await asyncio.sleep(0.001)
        assert small.values == [b"once"] and not small.said
        small.kernel.kill(small.process)
        if cut:
            small.broker.cut(LOG, 0, 1)
            small.broker.append(LOG, 0, b"another")
        small.process = small.kernel.process("east/kafka")
        await asyncio.sleep(1.0)
        assert small.values == ([b"another", b"once"] if cut else [b"once"])
        assert small.said == [("once", "", 1 if cut else 0)]

    small.run(course())
