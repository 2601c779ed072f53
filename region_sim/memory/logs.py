"""One site's Kafka: logs that acknowledge from the page cache, and can come back shorter.

Kafka says "written" before anything is on a disk. After a power loss a partition may end before what was acknowledged,
under the same cluster id, and what is written next takes the same offsets under a later leader epoch. That, and all
else that a shipped reader holds a log against (cluster ids, topic ids, leader epochs, low watermarks), is modelled;
sockets, batches and groups are not. Nothing here waits for the network: whoever calls is next to it, or comes through
`Network.call`. Whether anybody can call at all is decided by the process that the site gives it.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from services.common.clock import Clock
from streams.truncation import LogEnd, Place

FLUSH_SECONDS: Final = 1.0
"""How often what was acknowledged reaches the disk (Kafka leaves that to the operating system)."""


class BrokerError(Exception):
    """What a broker refuses; a client may try again later."""


class DiskFull(BrokerError):
    """Nothing can be appended."""


class UnknownTopic(BrokerError):
    """There is no such partition."""


class OutOfRange(BrokerError):
    """The offset lies before what is kept, or after the end: a log that was cut shows itself so."""

    def __init__(self, place: Place, offset: int, low: int, end: int) -> None:
        super().__init__(f"{place[0]}/{place[1]} holds {low} to {end}, not {offset}")
        self.low = low
        self.end = end


class OutOfOrder(BrokerError):
    """A producer's number is not the next one: something that it sent before is not here."""


class LogRecord(NamedTuple):
    """One record as a consumer is given it."""

    offset: int
    leader_epoch: int
    appended_ms: int
    """When the broker took it, by the site's wall clock."""
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class Loss(NamedTuple):
    """What a partition no longer has: the offsets `[start, end)`."""

    log: str
    partition: int
    start: int
    end: int


class _Partition:
    """The records of one partition, and what is known of who wrote last."""

    def __init__(self, leader_epoch: int) -> None:
        self.low = 0
        self.records: list[LogRecord] = []
        self.flushed_end = 0
        self.leader_epoch = leader_epoch
        self.shown = LogEnd(0, leader_epoch)
        """The end that was told last: it is asked for more often than it moves."""
        self.epoch_starts: list[tuple[int, int]] = []
        """(leader epoch, first offset written under it), as the checkpoint file of epochs."""
        self.producers: dict[int, tuple[int, int]] = {}
        """Of each idempotent producer: its last number, and the offset that this record got."""

    @property
    def end(self) -> int:
        return self.low + len(self.records)

    def cut_to(self, end: int) -> None:
        """Forget all from `end` on, and what producers had written there."""
        del self.records[max(0, end - self.low) :]
        self.flushed_end = min(self.flushed_end, end)
        self.epoch_starts = [entry for entry in self.epoch_starts if entry[1] < end]
        # The broker's snapshot of producers goes with the segment: they are told "out of order", or begin anew.
        self.producers = {number: last for number, last in self.producers.items() if last[1] < end}


class Signal:
    """Wakes whoever waits for something new. Waiting costs nothing while nothing happens."""

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[bool]] = []

    def tell(self) -> None:
        """Wake all that wait now."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            _settle(waiter, told=True)

    async def wait(self, seconds: float) -> bool:
        """Return True when something was told, False after `seconds` without."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_later(max(0.0, seconds), _settle, waiter)
        try:
            return await waiter
        finally:
            timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)


def _settle(waiter: asyncio.Future[bool], *, told: bool = False) -> None:
    if not waiter.done():
        waiter.set_result(told)


class Broker:
    """All logs of one site. Survives the process that serves them, as a disk does; `wipe` is the loss of the disk."""

    def __init__(self, site: str, clock: Clock, draw: random.Random, *, flush_seconds: float = FLUSH_SECONDS) -> None:
        self.site = site
        self.changed = Signal()
        """Told at every append, and when logs were cut, emptied or wiped."""
        self._changed_of: dict[str, Signal] = {}
        self.disk_full = False
        """Appends raise DiskFull while it is."""
        self.cluster_id = ""
        self.restarts = 0
        self._clock = clock
        self._draw = draw
        self._flush_seconds = flush_seconds
        self._flushed_at = clock.boottime()
        self._logs: dict[str, list[_Partition]] = {}
        self._topic_ids: dict[str, str] = {}
        self.wipe()

    def changed_of(self, kind: str) -> Signal:
        """As `changed`, but of appends only those to logs of one kind, as `events`: most readers want one kind."""
        return self._changed_of.setdefault(kind, Signal())

    # Topics.

    def make_topic(self, log: str, partitions: int) -> None:
        """Make a log; one that exists stays as it is. Raises DiskFull."""
        if log in self._logs:
            return
        if self.disk_full:
            raise DiskFull(f"the disk of {self.site} is full: {log} cannot be made")
        self._logs[log] = [_Partition(leader_epoch=0) for _ in range(partitions)]
        self._topic_ids[log] = f"{self._draw.getrandbits(128):032x}"
        self._tell_all()

    def partition_counts(self) -> dict[str, int]:
        """Every log, and how many partitions it has."""
        return {log: len(partitions) for log, partitions in self._logs.items()}

    def topic_ids(self, logs: Iterable[str]) -> dict[str, str]:
        """The id of each log, which is another one when it was made anew; what does not exist is left out."""
        return {log: self._topic_ids[log] for log in logs if log in self._topic_ids}

    # Writing and reading.

    def append(
        self,
        log: str,
        partition: int,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        key: bytes | None = None,
        *,
        producer: tuple[int, int] | None = None,
    ) -> int:
        """Append a record and return its offset: acknowledged, and not yet on the disk.

        `producer` is an idempotent producer and the number of this record: one that is here already is not written
        again, and none is written whose predecessor is missing. Raises DiskFull, UnknownTopic, OutOfOrder.
        """
        found = self._partition(log, partition)
        if self.disk_full:
            raise DiskFull(f"the disk of {self.site} is full: {log}/{partition} takes nothing")
        if producer is not None:
            last = found.producers.get(producer[0])
            if last is not None and producer[1] == last[0]:
                return last[1]
            if producer[1] != (0 if last is None else last[0] + 1):
                raise OutOfOrder(f"{log}/{partition}: number {producer[1]} of producer {producer[0]} is not the next")
        self._flush_when_due()
        offset = found.end
        found.records.append(LogRecord(offset, found.leader_epoch, self._clock.unix_ms(), key, value, list(headers)))
        if producer is not None:
            found.producers[producer[0]] = producer[1], offset
        if not found.epoch_starts or found.epoch_starts[-1][0] != found.leader_epoch:
            found.epoch_starts.append((found.leader_epoch, offset))
        self.changed.tell()
        if (signal := self._changed_of.get(log.rpartition(".")[2])) is not None:
            signal.tell()
        return offset

    def read(self, log: str, partition: int, start: int, max: int = 500) -> Sequence[LogRecord]:
        """Return at most `max` records from `start` on; nothing at the end. Raises UnknownTopic, OutOfRange."""
        found = self._partition(log, partition)
        if not found.low <= start <= found.end:
            raise OutOfRange((log, partition), start, found.low, found.end)
        return found.records[start - found.low : start - found.low + max]

    def ends(self, places: Iterable[Place] | None = None) -> dict[Place, LogEnd]:
        """The end of each partition and its leader epoch; what does not exist is left out. None: of all."""
        ends = {}
        for place in self._places() if places is None else places:
            partitions = self._logs.get(place[0])
            if partitions is not None and 0 <= place[1] < len(partitions):
                found = partitions[place[1]]
                end, shown = found.low + len(found.records), found.shown
                if shown.next_offset != end or shown.leader_epoch != found.leader_epoch:
                    shown = found.shown = LogEnd(end, found.leader_epoch)
                ends[place] = shown
        return ends

    def lows(self, places: Iterable[Place] | None = None) -> dict[Place, int]:
        """The first offset that each partition holds; what does not exist is left out. None: of all."""
        wanted = self._places() if places is None else places
        return {place: found.low for place in wanted if (found := self._find(place)) is not None}

    def end_of_epoch(self, log: str, partition: int, leader_epoch: int) -> LogEnd:
        """Where the records of the latest epoch up to `leader_epoch` end, as OffsetsForLeaderEpoch answers.

        -1, -1 when nothing was written under such an early epoch. Raises UnknownTopic.
        """
        found = self._partition(log, partition)
        after = bisect_right(found.epoch_starts, leader_epoch, key=lambda entry: entry[0])
        if after == 0:
            return LogEnd(-1, -1)
        end = found.epoch_starts[after][1] if after < len(found.epoch_starts) else found.end
        return LogEnd(end, found.epoch_starts[after - 1][0])

    def reader(self, log: str, partition: int, start: int) -> Reader:
        """A reader that stands at `start`."""
        return Reader(self, log, partition, start)

    # What a drill does to it. None of these ask whether a process is there.

    def flush(self) -> None:
        """Let all that was acknowledged reach the disk."""
        self._flushed_at = self._clock.boottime()
        for partitions in self._logs.values():
            for found in partitions:
                found.flushed_end = found.end

    def lose_unflushed(self, log: str | None = None) -> list[Loss]:
        """Forget what was never flushed (of one log, or of all), as a power loss does. Follow with `restart`."""
        self._flush_when_due()
        lost = [
            self._cut_to(name, number, found.flushed_end)
            for name, partitions in self._logs.items()
            if log in (None, name)
            for number, found in enumerate(partitions)
        ]
        return [loss for loss in lost if loss.start < loss.end]

    def cut(self, log: str, partition: int, records: int) -> Loss:
        """Forget the newest records of a partition. Follow with `restart`. Raises UnknownTopic."""
        found = self._partition(log, partition)
        return self._cut_to(log, partition, max(found.low, found.end - records))

    def empty(self, log: str, partition: int) -> Loss:
        """Delete the files of a partition: it begins again at 0. Follow with `restart`. Raises UnknownTopic."""
        found = self._partition(log, partition)
        loss = Loss(log, partition, found.low, found.end)
        self._logs[log][partition] = _Partition(found.leader_epoch)
        self._tell_all()
        return loss

    def delete_before(self, log: str, partition: int, offset: int) -> None:
        """Raise the low watermark, as retention does. Raises UnknownTopic."""
        found = self._partition(log, partition)
        kept = min(max(offset, found.low), found.end)
        del found.records[: kept - found.low]
        found.low = kept

    def restart(self) -> None:
        """Be led anew: every partition's leader epoch is one higher."""
        self.restarts += 1
        for partitions in self._logs.values():
            for found in partitions:
                found.leader_epoch += 1
        self._tell_all()

    def wipe(self) -> None:
        """Lose everything: another cluster, without logs."""
        self.cluster_id = f"{self.site}-{self._draw.getrandbits(64):016x}"
        self._logs, self._topic_ids = {}, {}
        self._tell_all()

    def _cut_to(self, log: str, partition: int, end: int) -> Loss:
        found = self._logs[log][partition]
        loss = Loss(log, partition, end, found.end)
        found.cut_to(end)
        self._tell_all()
        return loss

    def _tell_all(self) -> None:
        for signal in (self.changed, *self._changed_of.values()):
            signal.tell()

    def _flush_when_due(self) -> None:
        # What came since the last flush is lost together, so a flush that is overdue happens before the next append.
        if self._clock.boottime() - self._flushed_at >= self._flush_seconds:
            self.flush()

    def _places(self) -> list[Place]:
        return [(log, number) for log, partitions in self._logs.items() for number in range(len(partitions))]

    def _find(self, place: Place) -> _Partition | None:
        partitions = self._logs.get(place[0], ())
        return partitions[place[1]] if 0 <= place[1] < len(partitions) else None

    def _partition(self, log: str, partition: int) -> _Partition:
        found = self._find((log, partition))
        if found is None:
            raise UnknownTopic(f"{self.site} has no {log}/{partition}")
        return found


class Reader:
    """Reads one partition in order, from where it stands."""

    def __init__(self, broker: Broker, log: str, partition: int, offset: int) -> None:
        self.offset = offset
        """Of the record that is read next."""
        self._broker = broker
        self._log = log
        self._partition = partition

    def take(self, max: int = 500) -> Sequence[LogRecord]:
        """Return what is there, without waiting. Raises UnknownTopic, OutOfRange: the log was cut or made anew."""
        records = self._broker.read(self._log, self._partition, self.offset, max)
        self.offset += len(records)
        return records

    async def poll(self, seconds: float, max: int = 500) -> Sequence[LogRecord]:
        """Return the next records, waiting up to `seconds` for the first. Raises as `take`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not (records := self.take(max)):
            if (left := until - loop.time()) <= 0:
                break
            await self._broker.changed.wait(left)
        return records
