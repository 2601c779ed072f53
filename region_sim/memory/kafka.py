"""Clients of a modelled broker, shaped like those of the real one as far as the shipped shells use them.

Readers and questions of the same site are answered at once, or refused when the broker does not run. What comes from
another site goes over the network, takes its time, and is answered by the broker's own process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from region_sim.memory.kernel import Process
from region_sim.memory.logs import Broker, BrokerError, LogRecord, OutOfRange
from region_sim.memory.network import Answer, Unreachable, settle
from services.replicator.errors import KafkaSilent
from services.replicator.kafka import KafkaSide
from streams.locate import locate
from streams.truncation import LogEnd, LogUnreachableError, Place

if TYPE_CHECKING:
    from region_sim.memory.world import World

FETCH_MAX: Final = 200
Begun = Callable[[Answer], None]
_EOF: Final = KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name
_RESET: Final = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001 - its public name
_AWAY: Final = KafkaError._TRANSPORT  # noqa: SLF001 - its public name


class SimMessage:
    """What a consumer hands out: a record, or that a partition ends or cannot be read."""

    __slots__ = ("_offset", "_place", "_problem", "_record")

    def __init__(self, place: Place, record: LogRecord | None, offset: int, problem: KafkaError | None = None) -> None:
        self._place = place
        self._record = record
        self._offset = offset
        self._problem = problem

    def topic(self) -> str:
        """See Message."""
        return self._place[0]

    def partition(self) -> int:
        """See Message."""
        return self._place[1]

    def offset(self) -> int:
        """See Message."""
        return self._offset

    def error(self) -> KafkaError | None:
        """See Message."""
        return self._problem

    def key(self) -> bytes | None:
        """See Message."""
        return self._record.key if self._record is not None else None

    def value(self) -> bytes | None:
        """See Message."""
        return self._record.value if self._record is not None else None

    def headers(self) -> list[tuple[str, bytes]]:
        """See Message; a list of one's own."""
        return list(cast("Iterable[tuple[str, bytes]]", self._record.headers or ())) if self._record else []

    def leader_epoch(self) -> int | None:
        """See Message."""
        return self._record.leader_epoch if self._record is not None else None


def as_messages(found: Iterable[SimMessage]) -> list[Message]:
    """Under the type that the shipped shells ask for."""
    return cast("list[Message]", list(found))


class LocalKafka:
    """A site's broker as the processes of the same site reach it."""

    def __init__(
        self, broker: Broker, is_up: Callable[[], bool], stopped: Callable[[], Process | None] = lambda: None
    ) -> None:
        self.broker = broker
        self.is_up = is_up
        self.stopped = stopped
        """The process of a broker that serves and is stopped: what is sent to it waits in its sockets."""

    def consumer(self, _settings: object = None) -> Consumer:
        """A reader that keeps its own position."""
        return cast("Consumer", SimConsumer(self))

    def check(self) -> None:
        """Raise KafkaException when the broker does not answer."""
        if not self.is_up():
            raise KafkaException(KafkaError(_AWAY, "the broker does not answer"))


class SimConsumer:
    """Reads what is assigned to it, in order; says once that a partition's end is reached."""

    def __init__(self, kafka: LocalKafka) -> None:
        self._kafka = kafka
        self._at: dict[Place, int] = {}
        self._ended: dict[Place, int] = {}
        self._ready: deque[SimMessage] = deque()

    def assign(self, places: Sequence[TopicPartition]) -> None:
        """See Consumer."""
        self._at = {(where.topic, where.partition): where.offset for where in places}
        self._ended.clear()
        self._ready.clear()

    def unassign(self) -> None:
        """See Consumer."""
        self.assign([])

    def incremental_assign(self, places: Sequence[TopicPartition]) -> None:
        """See Consumer."""
        for where in places:
            self._at[where.topic, where.partition] = where.offset
            self._ended.pop((where.topic, where.partition), None)

    def incremental_unassign(self, places: Sequence[TopicPartition]) -> None:
        """See Consumer."""
        gone = [(where.topic, where.partition) for where in places]
        for place in gone:
            self._at.pop(place, None)
        self._ready = deque(found for found in self._ready if (found.topic(), found.partition()) not in gone)

    def poll(self, _timeout: float = 0.0) -> SimMessage | None:
        """See Consumer; never waits: what is not there now is not there."""
        if not self._ready:
            self._kafka.check()
            self._ready.extend(fetched(self._kafka.broker, self._at, self._ended))
        return self._ready.popleft() if self._ready else None

    def consume(self, count: int = 1, _timeout: float = 0.0) -> list[SimMessage]:
        """See Consumer."""
        return [self._ready.popleft() for _ in range(min(count, len(self._ready)))]

    def get_watermark_offsets(self, where: TopicPartition, **_: Any) -> tuple[int, int]:
        """See Consumer."""
        self._kafka.check()
        place = where.topic, where.partition
        end = self._kafka.broker.ends([place]).get(place)
        if end is None:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        return self._kafka.broker.lows([place])[place], end.next_offset

    def list_topics(self, topic: str | None = None, **_: Any) -> SimpleNamespace:
        """See Consumer."""
        self._kafka.check()
        counts = self._kafka.broker.partition_counts()
        found = {
            name: SimpleNamespace(partitions=dict.fromkeys(range(count)), error=None)
            for name, count in counts.items()
            if topic in (None, name)
        }
        return SimpleNamespace(topics=found)

    def close(self) -> None:
        """See Consumer."""
        self.unassign()


def fetched(broker: Broker, at: dict[Place, int], ended: dict[Place, int]) -> list[SimMessage]:
    """What stands at these offsets, which move on; `ended` notes of which ends was told."""
    found: list[SimMessage] = []
    for place, offset in at.items():
        try:
            records = broker.read(*place, offset, FETCH_MAX)
        except OutOfRange as problem:
            if ended.get(place) != -1:
                ended[place] = -1
                found.append(SimMessage(place, None, offset, KafkaError(_RESET, str(problem))))
            continue
        except BrokerError as problem:
            if ended.get(place) != -1:
                ended[place] = -1
                found.append(
                    SimMessage(place, None, offset, KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, str(problem)))
                )
            continue
        found.extend(SimMessage(place, record, record.offset) for record in records)
        if records:
            at[place] = records[-1].offset + 1
        if len(records) < FETCH_MAX and ended.get(place) != at[place]:
            ended[place] = at[place]
            found.append(SimMessage(place, None, at[place], KafkaError(_EOF)))
    return found


class OwnSide(KafkaSide):
    """Questions to the own site's broker, answered at once."""

    def __init__(self, kafka: LocalKafka, name: str) -> None:
        self.bootstrap = name
        self._kafka = kafka

    def _broker(self) -> Broker:
        if not self._kafka.is_up():
            raise KafkaSilent(f"Kafka at {self.bootstrap} does not answer")
        return self._kafka.broker

    def cluster_id(self) -> str:
        """See KafkaSide."""
        return self._broker().cluster_id

    def ends(self, places: Iterable[Place]) -> dict[Place, LogEnd]:
        """See KafkaSide."""
        return self._broker().ends(list(places))

    def lows(self, places: Iterable[Place]) -> dict[Place, int]:
        """See KafkaSide."""
        return self._broker().lows(list(places))

    def topic_ids(self, logs: Iterable[str]) -> dict[str, str]:
        """See KafkaSide."""
        return self._broker().topic_ids(sorted(logs))

    def partition_counts(self) -> dict[str, int]:
        """See KafkaSide."""
        return self._broker().partition_counts()

    def make_topics(self, logs: Iterable[str], partitions: int) -> None:
        """See KafkaSide."""
        broker = self._broker()
        try:
            for log in logs:
                broker.make_topic(log, partitions)
        except BrokerError as problem:
            raise KafkaSilent(str(problem)) from problem

    def consumer(self, fetch_kbytes_max: int) -> Consumer:  # noqa: ARG002 - the shape of KafkaSide
        """See KafkaSide."""
        return self._kafka.consumer()


class PeerSide:
    """Questions to another site's broker. Coroutines where KafkaSide blocks: the kernel's executor waits for them."""

    def __init__(self, world: World, source: str, target: str, answer_seconds: float) -> None:
        self.bootstrap = target
        self._world = world
        self._source = source
        self._target = target
        self._answer_seconds = answer_seconds
        self._who: Callable[[], Process | None] = world.finder(target, "kafka")

    async def cluster_id(self) -> str:
        """See KafkaSide."""
        found: str = await self.ask(lambda broker: broker.cluster_id)
        return found

    async def ends(self, places: Iterable[Place]) -> dict[Place, LogEnd]:
        """See KafkaSide."""
        wanted = list(places)
        return await self.ask(lambda broker: broker.ends(wanted)) if wanted else {}

    async def lows(self, places: Iterable[Place]) -> dict[Place, int]:
        """See KafkaSide."""
        wanted = list(places)
        found: dict[Place, int] = await self.ask(lambda broker: broker.lows(wanted))
        return found

    async def topic_ids(self, logs: Iterable[str]) -> dict[str, str]:
        """See KafkaSide."""
        wanted = sorted(logs)
        found: dict[str, str] = await self.ask(lambda broker: broker.topic_ids(wanted))
        return found

    async def ask(self, do: Callable[[Broker], Any], wait_seconds: float = 0.0, begun: Begun | None = None) -> Any:
        """What `do` finds there, or what it returns a coroutine for; `begun` is given the answer that is waited for.

        Raises KafkaSilent.
        """
        site, loop = self._world.sites[self._target], asyncio.get_running_loop()

        def there() -> Any:
            if not site.kafka.is_up():
                raise Unreachable(f"the broker of {self._target} is starting")
            return do(site.broker)

        answer = self._world.network.ask(self._source, self._target, self._who, there)
        if begun is not None:
            begun(answer)
        timer = loop.call_later(self._answer_seconds + wait_seconds, settle, answer, (False, TimeoutError()))
        try:
            is_good, found = await answer
        finally:
            timer.cancel()
        if is_good:
            return found
        if isinstance(found, TimeoutError | Unreachable):
            raise KafkaSilent(f"Kafka at {self._target} does not answer: {found}") from found
        raise found


class SimProbe:
    """A LogProbe over the own site's broker."""

    def __init__(self, kafka: LocalKafka) -> None:
        self._kafka = kafka

    def ends(self, places: Iterable[Place]) -> dict[Place, LogEnd]:
        """See LogProbe."""
        if not self._kafka.is_up():
            raise LogUnreachableError("the broker does not say where its logs end")
        return self._kafka.broker.ends(list(places))

    def checksum_at(self, place: Place, offset: int) -> int | None:
        """See LogProbe."""
        found = locate(self._kafka.consumer(), place, offset, 1.0)
        return None if found is None else found.checksum
