"""A log that was cut is noticed whatever is written to it afterwards; a broker that only restarted is trusted."""

import struct
from collections.abc import Iterable

import pytest

from streams.errors import LogTruncated
from streams.truncation import (
    EpochsSeen,
    EpochUnknownError,
    LogEnd,
    LogUnreachableError,
    Mark,
    Place,
    Watch,
    batch_epochs,
)

LOG: Place = ("east-1.events", 0)


def batch(base_offset: int, leader_epoch: int, body: bytes = b"\0" * 49) -> bytes:
    """The bytes of a record batch, as far as they matter here."""
    return struct.pack(">qiib", base_offset, 5 + len(body), leader_epoch, 2) + body


class Broker:
    """A log of checksums under a leader epoch."""

    def __init__(self, checksums: list[int], leader_epoch: int = 0) -> None:
        self.checksums = checksums
        self.leader_epoch = leader_epoch
        self.reachable = True
        self.shown: list[int] = []
        self.forgets = 0
        """How many records it does not know of yet, and for how many looks."""

    def ends(self, places: Iterable[Place]) -> dict[Place, LogEnd]:
        """As the admin client says it."""
        if not self.reachable:
            raise LogUnreachableError("down")
        return {place: LogEnd(len(self.checksums) - self.forgets, self.leader_epoch) for place in places}

    def recover(self) -> None:
        """Remember one more record."""
        self.forgets = max(0, self.forgets - 1)

    def checksum_at(self, place: Place, offset: int) -> int | None:
        """As a consumer reads it."""
        self.shown.append(offset)
        return self.checksums[offset] if offset < len(self.checksums) else None


class Reader:
    """A reader that took `taken` records of `broker`, and its watch."""

    def __init__(self, broker: Broker, taken: int) -> None:
        self.broker = broker
        self.mark = Mark(taken, broker.checksums[taken - 1] if taken else 0, broker.leader_epoch)
        self.seen = EpochsSeen(silence_seconds=0.5)
        self.cuts: list[LogTruncated] = []
        self.slept_seconds = 0.0
        self.watch = Watch(broker, self.seen, lambda: {LOG: self.mark}, self.cuts.append, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        """Takes no time; the broker may have come to its senses meanwhile."""
        self.slept_seconds += seconds
        self.broker.recover()


def test_epochs_are_read_from_the_headers_of_fetched_batches() -> None:
    """Two whole batches and a torn one."""
    fetched = batch(5, 1) + batch(9, 2) + batch(12, 3)[:20]
    assert list(batch_epochs(fetched)) == [(5, 1), (9, 2), (12, 3)]
    assert list(batch_epochs(batch(5, 1)[:10])) == []


def test_each_offset_has_the_epoch_of_its_batch() -> None:
    """Also after the log was cut and written again below what was fetched before."""
    seen = EpochsSeen(1.0)
    seen.fetched(LOG, batch(0, 1) + batch(10, 1) + batch(20, 2))
    assert [seen.epoch_of(LOG, offset) for offset in (0, 19, 20, 30)] == [1, 1, 2, 2]
    seen.fetched(LOG, batch(15, 4))
    assert [seen.epoch_of(LOG, offset) for offset in (0, 14, 15, 25)] == [1, 1, 4, 4]
    assert seen.epoch_of(("other", 0), 3) is None


async def test_records_of_the_same_epoch_are_taken_without_asking() -> None:
    """The ordinary case costs nothing."""
    broker = Broker([1, 2, 3, 4])
    reader = Reader(broker, taken=2)
    reader.seen.fetched(LOG, batch(2, 0))
    assert reader.watch.doubt(LOG, 2) is None
    assert broker.shown == []


async def test_a_restart_without_loss_is_proved_and_goes_on() -> None:
    """Another epoch, the same records: one proof, then no more doubt."""
    broker = Broker([1, 2, 3, 4], leader_epoch=0)
    reader = Reader(broker, taken=2)
    broker.leader_epoch = 2
    reader.seen.fetched(LOG, batch(2, 2))
    assert reader.watch.doubt(LOG, 2) is not None
    await reader.watch.prove(LOG, 2)
    assert reader.watch.doubt(LOG, 2) is None
    assert broker.shown == [1]


async def test_a_log_cut_and_written_past_the_frontier_is_an_alarm() -> None:
    """More was acknowledged after the cut than was lost: the offsets look right, the record below them does not."""
    broker = Broker([1, 2, 3, 4], leader_epoch=0)
    reader = Reader(broker, taken=4)
    broker.checksums = [1, 2, 30, 40, 50, 60]
    broker.leader_epoch = 1
    reader.seen.fetched(LOG, batch(4, 1))
    assert reader.watch.doubt(LOG, 4) is not None
    with pytest.raises(LogTruncated, match="checksum"):
        await reader.watch.prove(LOG, 4)
    assert len(reader.cuts) == 1
    assert reader.watch.doubt(("another.events", 0), 0) is not None, "nothing may be taken ever after, from any log"
    with pytest.raises(LogTruncated):
        await reader.watch.look()


async def test_a_log_cut_while_nobody_writes_is_found_by_the_watchdog() -> None:
    """No record comes that could be doubted; the end of the log tells."""
    broker = Broker([1, 2, 3, 4])
    reader = Reader(broker, taken=4)
    await reader.watch.look()
    assert reader.cuts == []
    broker.checksums = [1, 2, 3]
    with pytest.raises(LogTruncated, match="ends at offset 3"):
        await reader.watch.look()


async def test_the_watchdog_asks_for_proof_after_an_epoch_changed() -> None:
    """The end looks right, the epoch moved: the record itself is looked at, once."""
    broker = Broker([1, 2, 3, 4])
    reader = Reader(broker, taken=4)
    broker.leader_epoch = 3
    await reader.watch.look()
    await reader.watch.look()
    assert broker.shown == [3]
    broker.leader_epoch, broker.checksums = 4, [1, 2, 3, 9]
    with pytest.raises(LogTruncated):
        await reader.watch.look()


async def test_silence_asks_for_proof_even_under_the_same_epoch() -> None:
    """A rebuilt broker counts its epochs from zero again."""
    broker = Broker([1, 2, 3, 4])
    reader = Reader(broker, taken=4)
    reader.seen.answered(10.0)
    reader.seen.answered(10.4)
    reader.seen.fetched(LOG, batch(4, 0))
    assert reader.watch.doubt(LOG, 4) is None
    reader.seen.answered(10.9)
    assert reader.watch.doubt(LOG, 4) is not None
    broker.checksums = [5, 6, 7, 8, 9]
    with pytest.raises(LogTruncated):
        await reader.watch.prove(LOG, 4)


async def test_an_unreachable_broker_is_no_cut() -> None:
    """Nothing is known then: asked again later."""
    broker = Broker([1, 2, 3, 4])
    reader = Reader(broker, taken=4)
    broker.reachable = False
    with pytest.raises(LogUnreachableError):
        await reader.watch.look()
    assert reader.watch.cut is None


async def test_a_record_of_unknown_epoch_is_doubted() -> None:
    """If the fetches are no longer seen, nothing is taken on trust, and nobody asks for ever."""
    reader = Reader(Broker([1, 2]), taken=1)
    assert reader.watch.doubt(LOG, 1) is not None
    with pytest.raises(EpochUnknownError):
        await reader.watch.prove(LOG, 1)


async def test_a_new_reader_has_nothing_to_prove() -> None:
    """At offset 0 there is no record below."""
    assert Reader(Broker([1, 2]), taken=0).watch.doubt(LOG, 0) is None


async def test_a_broker_that_does_not_know_its_end_at_once_is_looked_at_again() -> None:
    """It has just come back; a cut would not heal."""
    broker = Broker([1, 2, 3, 4])
    reader = Reader(broker, taken=4)
    broker.forgets = 3
    await reader.watch.look()
    assert reader.cuts == []
    assert reader.slept_seconds > 0
    broker.checksums = [1, 2, 3]
    slept = reader.slept_seconds
    with pytest.raises(LogTruncated):
        await reader.watch.look()
    assert reader.slept_seconds - slept >= 2.5, "a cut is an alarm only when it lasts"


async def test_another_record_in_its_place_is_an_alarm_at_once() -> None:
    """That cannot heal."""
    broker = Broker([1, 2, 3, 4])
    reader = Reader(broker, taken=4)
    broker.checksums, broker.leader_epoch = [1, 2, 3, 9, 5], 1
    with pytest.raises(LogTruncated):
        await reader.watch.look()
    assert reader.slept_seconds == 0


async def test_ends_are_known_of_partitions_that_nothing_was_taken_from_yet() -> None:
    """Their lag counts too."""
    broker = Broker([1, 2])
    reader = Reader(broker, taken=0)
    other = ("east-1.events", 5)
    watch = Watch(broker, reader.seen, dict, reader.cuts.append, sleep=reader.sleep, places=[other])
    await watch.look()
    assert watch.ends[other].next_offset == 2


async def test_a_copy_that_is_too_short_is_a_notice_until_it_is_refilled() -> None:
    """Whoever copies brings it again; the own log, and the reader, go on."""
    broker = Broker([1, 2, 3, 4])
    reader = Reader(broker, taken=4)
    watch = Watch(
        broker, reader.seen, lambda: {LOG: reader.mark}, reader.cuts.append, sleep=reader.sleep, is_copy=is_any
    )
    for held in ([], [1, 2]):
        broker.checksums = held
        await watch.look()
        assert list(watch.refilling) == [LOG]
    broker.checksums = [1, 2, 3, 4, 5]
    await watch.look()
    assert (watch.refilling, watch.cut, reader.cuts, reader.slept_seconds) == ({}, None, [], 0)


async def test_a_copy_that_shows_another_record_is_refused_alone() -> None:
    """Its leader changed and the record at the mark is another one."""
    broker = Broker([1, 2, 3, 4])
    reader = Reader(broker, taken=4)
    watch = Watch(
        broker, reader.seen, lambda: {LOG: reader.mark}, reader.cuts.append, sleep=reader.sleep, is_copy=is_any
    )
    broker.checksums, broker.leader_epoch = [1, 2, 3, 9], 1
    await watch.look()
    assert watch.refuses(LOG)
    assert not watch.refuses(("west-1.events", 0))
    assert (watch.cut, reader.cuts) == (None, [])


def is_any(_: str) -> bool:
    """Every log is a copy."""
    return True
