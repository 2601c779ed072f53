"""Records that are no frames, written into a site's own events log past its gateway, as a broken writer would."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from region_sim.errors import DrillBroken
from region_sim.faults.base import Scene
from region_sim.spec import Poison
from streams.logs import consumer_settings, events_log, producer_settings

SECONDS_MAX = 20.0


@dataclass(frozen=True, slots=True)
class Garbage:
    """One record. None of it says that it is a frame of a version that is not known yet: that has to stop a reader."""

    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


def garbage(number: int) -> Garbage:
    """The `number`-th record: of each kind that a reader meets at another place of its checks."""
    body = (f"no frame {number} ".encode() * (1 + number * 7))[:20_000]
    as_if = (("meridian-frame", b"1"), ("meridian-events", b"3"), ("meridian-key", bytes(8)))
    kinds = (
        Garbage(body),
        Garbage(b""),
        Garbage(body, as_if),
        Garbage(b"\xff\xff\xff\xff\x10\x00\x00\x00" + body, as_if),
        Garbage(b'{"user":"user-1","item":"item-1"}', (("meridian-frame", b"x"),)),
    )
    return kinds[number % len(kinds)]


class PoisonPlay:
    """Write garbage. There is nothing to heal: it stays in the log for ever."""

    region_lost = False

    def __init__(self, scene: Scene, fault: Poison, incarnation: str) -> None:
        if not incarnation:
            raise DrillBroken(f"nobody says which life {scene.target} is in: its log has no name")
        self._scene = scene
        self._fault = fault
        self._log = events_log(incarnation)
        self._bootstrap = scene.backend.deployment.site(scene.target).bootstrap
        self._places: list[tuple[int, int]] = []

    async def inject(self) -> str:
        """See FaultPlay."""
        self._places = await asyncio.to_thread(self._produce)
        listed = ", ".join(f"{partition}:{offset}" for partition, offset in sorted(self._places))
        return f"{len(self._places)} records that are no frames in {self._log} at {listed}"

    async def not_injected(self) -> str | None:
        """The last of them is read back."""
        if len(self._places) < self._fault.records:
            return f"only {len(self._places)} of {self._fault.records} records were acknowledged"
        return await asyncio.to_thread(self._not_there)

    async def heal(self) -> None:
        """Nothing."""

    async def not_healed(self) -> str | None:
        """Nothing."""
        return None

    def _produce(self) -> list[tuple[int, int]]:
        producer = Producer(producer_settings(self._bootstrap))
        places: list[tuple[int, int]] = []

        def delivered(error: object, message: Message) -> None:
            partition, offset = message.partition(), message.offset()
            if error is None and partition is not None and offset is not None:
                places.append((partition, offset))

        try:
            count = len(producer.list_topics(self._log, timeout=SECONDS_MAX).topics[self._log].partitions)
            for number in range(self._fault.records):
                record = garbage(number)
                producer.produce(
                    self._log,
                    record.value,
                    partition=number % max(count, 1),
                    headers=list(record.headers),
                    on_delivery=delivered,
                )
            producer.flush(SECONDS_MAX)
        except (KafkaException, BufferError) as error:
            raise DrillBroken(f"{self._log} at {self._bootstrap} takes no records: {error}") from error
        return places

    def _not_there(self) -> str | None:
        partition, offset = self._places[-1]
        consumer = Consumer(consumer_settings(self._bootstrap, "drill-poison"))
        try:
            consumer.assign([TopicPartition(self._log, partition, offset)])
            message = consumer.poll(SECONDS_MAX)
            found = None if message is None or message.error() is not None else message.value()
        except KafkaException as error:
            return f"{self._log} cannot be read: {error}"
        finally:
            consumer.close()
        wanted = {garbage(number).value for number in range(self._fault.records)}
        return None if found in wanted else f"{self._log}/{partition} does not hold the record at {offset}"
