"""Reading the own log along, for the checksums of its blocks: so that copies of it can be compared with it.

Nothing waits for this. It reads in large, rare fetches, and keeps its place as the copies do: with the last record that
it read, which the log must show again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from services.replicator.blocks import BLOCK_RECORDS
from services.replicator.checkpoint import Checkpoints, PartitionPoint, state_of
from services.replicator.kafka import reader_settings
from services.replicator.positions import CopyState, Last, Place, shows
from streams.logs import record_checksum

_POLL_SECONDS = 0.5
_RECORDS_MAX = 500
_AT_END = KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name
log = logging.getLogger(__name__)


class Tail:
    """Reads `logs` of the own life in a thread of its own."""

    def __init__(self, bootstrap: str, logs: Sequence[str], partitions: int, checkpoints: Checkpoints) -> None:
        self.states: dict[Place, CopyState] = {}
        self.alarms: dict[Place, str] = {}
        self._bootstrap = bootstrap
        self._checkpoints = checkpoints
        self._to_show: dict[Place, Last] = {}
        for name in logs:
            points = checkpoints.load(name)
            for partition in range(partitions):
                point = points.get(partition)
                last = point.last if point else None
                sums = checkpoints.load_blocks(name, partition, last.end // BLOCK_RECORDS) if last else {}
                self.states[name, partition] = state_of(last, sums)
                if last is not None:
                    self._to_show[name, partition] = last
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="own-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread. Blocks."""
        self._ending.set()
        self._thread.join(5.0)

    def save(self) -> None:
        """Keep on disk how far it read. Blocks. Raises OSError."""
        for name in {place[0] for place in self.states}:
            points, fresh = [], []
            for place, state in self.states.items():
                if place[0] == name:
                    points.append(PartitionPoint(partition=place[1], last=state.last, bounds=[]))
                    while state.blocks.fresh:
                        number = state.blocks.fresh.popleft()
                        fresh.append((place[1], number, state.blocks.done[number]))
            if fresh or any(point.last for point in points):
                self._checkpoints.save(name, points, fresh)

    def _run(self) -> None:
        settings = reader_settings(self._bootstrap, 4096) | {
            "fetch.wait.max.ms": 1000,
            "fetch.min.bytes": 1 << 18,
        }
        consumer = Consumer(settings)
        try:
            consumer.assign([TopicPartition(*place, state.walk_from) for place, state in self.states.items()])
            while not self._ending.is_set():
                try:
                    first = consumer.poll(_POLL_SECONDS)
                    messages = [] if first is None else [first, *consumer.consume(_RECORDS_MAX, 0)]
                except KafkaException as error:
                    log.warning("the own log cannot be read: %s", error)
                    self._ending.wait(_POLL_SECONDS)
                    continue
                for message in messages:
                    self._take(message)
        finally:
            consumer.close()

    def _take(self, message: Message) -> None:
        place = (message.topic() or "", message.partition() or 0)
        problem = message.error()
        if place not in self.states or place in self.alarms:
            return
        if problem is not None:
            if problem.code() != _AT_END and not problem.retriable():
                self._stop(place, f"{place[0]}/{place[1]} of the own region cannot be read along: {problem.str()}")
            return
        self._judge(place, message)

    def _judge(self, place: Place, message: Any) -> None:
        offset, checksum, state = message.offset(), record_checksum(message.value() or b""), self.states[place]
        last = self._to_show.pop(place, None)
        if last is not None:
            if not shows(last, offset, checksum):
                self._stop(
                    place,
                    f"{place[0]}/{place[1]} of the own region does not show its record {last.start} again: the log was "
                    "cut and written again (docs/operating/truncation.md)",
                )
            return
        if offset > state.next_offset:
            # Removed by retention, or begun late: blocks are whole again from the next one on.
            state.blocks.skip()
            state.next_offset = offset
        epoch = message.leader_epoch()
        state.read(offset, offset, offset + 1, checksum, -1 if epoch is None else epoch)

    def _stop(self, place: Place, text: str) -> None:
        log.error(text)
        self.alarms[place] = text
