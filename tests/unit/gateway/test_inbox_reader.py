"""Reading the inbox while its broker comes and goes: nothing that was read is forgotten, nothing unread is removed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from services.gateway.errors import BrokerUnreachable
from services.gateway.inbox import reader
from services.gateway.inbox.messages import Gap
from services.gateway.inbox.reader import InboxReader
from services.gateway.inbox.runs import Run, Runs

LIFE = "east-1"
PARTITIONS = (0, 1)


@dataclass
class Told:
    """What the library hands over: a record, or what it has to say instead of one."""

    at: tuple[int, int]
    code: int | None = None

    def partition(self) -> int:
        return self.at[0]

    def offset(self) -> int:
        return self.at[1]

    def error(self) -> KafkaError | None:
        return None if self.code is None else KafkaError(self.code)


class Refused:
    """A question about a partition that was not answered; the library leaves the time in place of the offset."""

    def __init__(self, asked: TopicPartition, error: KafkaError) -> None:
        self.partition, self.offset, self.error = asked.partition, asked.offset, error


@dataclass
class Library:
    """Stands for the consumer and the admin client."""

    told: deque[Told] = field(default_factory=deque)
    low: int = 0
    high: int = 100
    silent: bool = False
    place_error: KafkaError | None = None
    assigned: list[dict[int, int]] = field(default_factory=list)
    removed: dict[int, int] = field(default_factory=dict)
    on_commit: Any = None

    def list_topics(self, topic: str, **_: Any) -> Any:
        metadata = type("Metadata", (), {"partitions": PARTITIONS})
        return type("Topics", (), {"topics": {topic: metadata}})

    def committed(self, places: list[TopicPartition], **_: Any) -> list[TopicPartition]:
        return [TopicPartition(place.topic, place.partition, 0) for place in places]

    def get_watermark_offsets(self, _: TopicPartition, **__: Any) -> tuple[int, int]:
        if self.silent:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return self.low, self.high

    def assign(self, places: list[TopicPartition]) -> None:
        self.assigned.append({place.partition: place.offset for place in places})

    def poll(self, _: float) -> Told | None:
        return self.told.popleft() if self.told else None

    def consume(self, count: int, _: float) -> list[Told]:
        return [self.told.popleft() for _ in range(min(count, len(self.told)))]

    def commit(self, offsets: list[TopicPartition], **_: Any) -> None:
        self.on_commit(None, offsets)

    def offsets_for_times(self, places: list[TopicPartition], **_: Any) -> list[Any]:
        found = [TopicPartition(place.topic, place.partition, -1) for place in places]
        return found if self.place_error is None else [Refused(place, self.place_error) for place in places]

    def delete_records(self, places: list[TopicPartition], **_: Any) -> dict[str, Any]:
        self.removed.update({place.partition: place.offset for place in places})
        return {}


@dataclass
class World:
    """A reader that is open, and what it tells."""

    library: Library
    runs: Runs
    gaps: list[Gap]
    reader: InboxReader

    def read(self, *told: Told) -> list[Any]:
        self.library.told.extend(told)
        return self.reader.read(100, 0)

    def take(self, *told: Told) -> None:
        """As the worker does: every record is taken, and becomes a run of its own."""
        for message in self.read(*told):
            self.runs.take(Run(message.partition(), [message.offset()], 1, epoch=4))

    def settle(self) -> None:
        for run in self.runs.settled():
            run.said = True
        self.runs.advance()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Two partitions, read from their beginning."""
    library, runs, gaps = Library(), Runs(), list[Gap]()

    def consumer(settings: dict[str, Any]) -> Library:
        library.on_commit = settings["on_commit"]
        return library

    monkeypatch.setattr(reader, "Consumer", consumer)
    monkeypatch.setattr(reader, "AdminClient", lambda _: library)
    made = InboxReader("nowhere", LIFE, runs, {}, gaps.append)
    made.open()
    return World(library, runs, gaps, made)


def settled(world: World, partition: int) -> None:
    """Everything of a partition has an outcome."""
    for run in world.runs._runs[partition]:
        run.left = 0
    world.settle()


def test_a_broker_that_does_not_answer_costs_no_record(world: World) -> None:
    """One partition is not as it was, and the broker is silent: what came of the other one is handed over all the same.

    The library does not hand it over twice, and the position moves over it with whatever is read next.
    """
    world.library.silent = True
    lost = KafkaError._LOG_TRUNCATION
    first = world.read(Told((0, 0)), Told((0, 1)), Told((1, 0), lost), Told((0, 2)))
    assert [message.at for message in first] == [(0, 0), (0, 1), (0, 2)]
    with pytest.raises(BrokerUnreachable):
        world.read(Told((0, 3)))
    world.library.silent = False
    assert [message.at for message in world.read()] == [(0, 3)]
    assert world.library.assigned[-1] == {0: 3, 1: 0}
    assert len(world.library.assigned) == 2, "begun anew once, and not again"


def test_what_was_read_before_the_place_was_lost_counts_for_nothing(world: World) -> None:
    """It was cut and written on: the position goes back to its beginning, and what came late does not raise it."""
    world.take(*[Told((0, offset)) for offset in range(5)])
    settled(world, 0)
    world.take(Told((0, 5)), Told((0, 6), KafkaError._LOG_TRUNCATION))
    world.take()
    settled(world, 0)
    assert (world.runs.positions[0], world.library.assigned[-1][0]) == (0, 0)


def test_marks_of_transactions_are_passed_over_once_all_before_them_is_moved(world: World) -> None:
    """A commit or an abort takes an offset and is no record: an inbox that ends with one is moved up to its end."""
    end = KafkaError._PARTITION_EOF
    world.take(Told((0, 0)), Told((0, 2), end), Told((1, 7), end))
    assert world.runs.positions == {0: 0, 1: 0}, "not before what came with it was taken"
    world.take()
    assert world.runs.positions == {0: 0, 1: 7}
    settled(world, 0)
    assert (world.runs.positions, world.runs.epochs[0]) == ({0: 2, 1: 7}, -1)
    assert world.reader.trouble == ""


def test_the_end_of_a_partition_changes_no_epoch_of_a_record(world: World) -> None:
    """It is what finds out that an inbox was cut."""
    world.take(Told((0, 0)), Told((0, 1), KafkaError._PARTITION_EOF))
    world.take()
    settled(world, 0)
    assert (world.runs.positions[0], world.runs.epochs[0]) == (1, 4)


def test_nothing_is_removed_beyond_a_position_that_was_taken_back(world: World) -> None:
    """The noted position is of the inbox before it was cut: what lies below it now was never read."""
    world.take(*[Told((0, offset)) for offset in range(5)])
    settled(world, 0)
    world.reader.note()
    world.reader.clean(1)
    assert world.library.removed == {0: 5}
    world.library.removed.clear()
    world.take(Told((0, 5), KafkaError._LOG_TRUNCATION))
    world.take()
    world.reader.clean(1)
    assert world.library.removed == {}


def test_nothing_is_removed_where_the_broker_does_not_say_how_old_it_is(world: World) -> None:
    """What was moved stays for its time: its position is in dead letters and receipts."""
    world.take(*[Told((0, offset)) for offset in range(5)])
    settled(world, 0)
    world.reader.note()
    world.library.place_error = KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)
    world.reader.clean(1_800_000_000_000)
    assert world.library.removed == {}
