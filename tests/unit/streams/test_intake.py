"""The intake: the reader rule, a proof before what is doubtful, a grave before the frontier moves on."""

from __future__ import annotations

import asyncio

import pytest

from streams.dead_letter import DeadLetter
from streams.delivery import DeliveryError
from streams.errors import LogGap, UnknownFrameVersion
from streams.fold import Applied, Fold
from streams.frame import encode_frame, frame_headers
from streams.intake import Intake, LogRecord
from streams.state import State
from streams.truncation import EpochsSeen, LogUnreachableError, Place
from tests.support.frames import KEY_FINGERPRINT, event_rows

LOG = "east-1.events"


class FakeWatch:
    """Doubts as often as it is told to."""

    def __init__(self) -> None:
        self.doubts = 0
        self.unreachable = 0
        self.proofs = 0

    def doubt(self, place: Place, offset: int) -> str | None:
        return "not sure" if self.doubts else None

    async def prove(self, place: Place, offset: int) -> None:
        self.proofs += 1
        if self.unreachable:
            self.unreachable -= 1
            raise LogUnreachableError("down")
        self.doubts -= 1


class World:
    """An intake over a real fold; it is its own observer and grave."""

    def __init__(self) -> None:
        self.state = State()
        self.watch = FakeWatch()
        self.seen: list[tuple[str, int]] = []
        self.letters: list[DeadLetter] = []
        self.bury_error: DeliveryError | None = None
        self.intake = Intake(
            fold=Fold(self.state),
            watch=self.watch,  # type: ignore[arg-type]
            seen=EpochsSeen(1.0),
            bury=self.bury,
            observer=self,
            sleep=self.sleep,
            monotonic=lambda: 0.0,
        )

    async def bury(self, letter: DeadLetter) -> None:
        if self.bury_error is not None:
            raise self.bury_error
        assert self.next_offset == letter.origin.offset, "the frontier moved before the letter was written"
        self.letters.append(letter)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)

    def taken(self, record: LogRecord, applied: Applied, seconds: float) -> None:
        self.seen.append(("taken", record.offset))

    def duplicate(self, record: LogRecord) -> None:
        self.seen.append(("duplicate", record.offset))

    def buried(self, record: LogRecord, reason: str) -> None:
        self.seen.append(("buried", record.offset))

    def unreachable(self, problem: LogUnreachableError) -> None:
        self.seen.append(("unreachable", -1))

    @property
    def next_offset(self) -> int:
        """Of partition 0."""
        return self.state.next_offset(LOG, 0)


def record(offset: int, value: bytes | None = None, version: bytes = b"1") -> LogRecord:
    """A record of partition 0; by default with a frame of five events."""
    if value is None:
        value = encode_frame(event_rows(5, seed=offset))
        headers = frame_headers(5, KEY_FINGERPRINT)
    else:
        headers = [("meridian-frame", version)]
    return LogRecord(LOG, 0, offset, 1_000, value, headers)


async def test_records_are_taken_in_order_and_once() -> None:
    """At the frontier: taken. Below: known."""
    world = World()
    for offset in (0, 1, 0, 1, 2):
        await world.intake.take(record(offset))
    assert world.seen == [("taken", 0), ("taken", 1), ("duplicate", 0), ("duplicate", 1), ("taken", 2)]
    assert (world.state.tally.events, world.next_offset) == (15, 3)


async def test_a_gap_is_refused_and_changes_nothing() -> None:
    """The message names how many are missing."""
    world = World()
    with pytest.raises(LogGap, match="2 records are missing"):
        await world.intake.take(record(2))
    assert (world.next_offset, world.seen) == (0, [])


async def test_a_corrupt_record_is_buried_before_the_frontier_moves() -> None:
    """Then the next one is taken."""
    world = World()
    await world.intake.take(record(0, b"rubbish"))
    await world.intake.take(record(1))
    assert world.seen == [("buried", 0), ("taken", 1)]
    assert (world.letters[0].origin.offset, world.letters[0].value) == (0, b"rubbish")
    assert world.state.tally.dead_frames == 1


async def test_a_record_that_cannot_be_buried_is_not_stepped_over() -> None:
    """Neither in the state nor in the dead log would be lost."""
    world = World()
    world.bury_error = DeliveryError("no acknowledgement")
    with pytest.raises(DeliveryError):
        await world.intake.take(record(0, b"rubbish"))
    assert world.next_offset == 0


async def test_an_unknown_version_is_not_buried() -> None:
    """It is no rubbish: a newer release wrote it."""
    world = World()
    with pytest.raises(UnknownFrameVersion):
        await world.intake.take(record(0, b"later", version=b"2"))
    assert (world.letters, world.next_offset) == ([], 0)


async def test_what_is_doubtful_is_proved_first_however_long_the_broker_is_away() -> None:
    """An unreachable broker is asked again; nothing is taken on trust."""
    world = World()
    world.watch.doubts, world.watch.unreachable = 1, 3
    await world.intake.take(record(0))
    assert world.watch.proofs == 4
    assert world.seen == [("unreachable", -1)] * 3 + [("taken", 0)]


async def test_nothing_is_taken_while_somebody_reads_the_whole_state() -> None:
    """A snapshot copies a state that stands still."""
    world = World()
    async with world.intake.paused():
        waiting = asyncio.ensure_future(world.intake.take(record(0)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert world.seen == []
    await waiting
    assert world.seen == [("taken", 0)]
