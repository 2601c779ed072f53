"""The intake: the reader rule, a proof before what is doubtful, a grave before the frontier moves on."""

from __future__ import annotations

import asyncio

import pytest

from streams.copies import HEADER_ORIGIN, Origin, hole_headers, origin_header
from streams.dead_letter import DeadLetter
from streams.delivery import DeliveryError
from streams.errors import LogGap, UnknownFrameVersion
from streams.fold import Applied, Fold
from streams.frame import encode_frame, frame_headers
from streams.intake import Intake, LogRecord
from streams.position import Position
from streams.state import State
from streams.truncation import EpochsSeen, LogUnreachableError, Place
from tests.support.frames import KEY_FINGERPRINT, event_rows

LOG = "east-1.events"
COPY = "west-1.events"


class FakeWatch:
    """Doubts as often as it is told to."""

    def __init__(self) -> None:
        self.doubts = 0
        self.unreachable = 0
        self.proofs = 0
        self.refused: set[Place] = set()

    def doubt(self, place: Place, offset: int) -> str | None:
        return "not sure" if self.doubts else None

    def refuses(self, place: Place) -> bool:
        return place in self.refused

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
            is_copy=lambda log: log == COPY,
        )

    async def bury(self, letter: DeadLetter) -> None:
        if self.bury_error is not None:
            raise self.bury_error
        assert self.state.next_offset(letter.origin.log, 0) == letter.origin.offset, (
            "the frontier moved before the letter was written"
        )
        self.letters.append(letter)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)

    def taken(self, record: LogRecord, applied: Applied, seconds: float) -> None:
        self.seen.append(("taken", record.offset))

    def duplicate(self, record: LogRecord) -> None:
        self.seen.append(("duplicate", record.offset))

    def buried(self, record: LogRecord, position: Position, reason: str) -> None:
        self.seen.append(("buried", position.offset))

    def dropped(self, record: LogRecord, reason: str) -> None:
        self.seen.append(("dropped", record.offset))

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


def copied(
    offset: int, origin: int, hole_to: int | None = None, header_bytes: bytes | None = None, value: bytes | None = None
) -> LogRecord:
    """A record of a copy at `offset`, which stands at `origin` in the log that it was copied from."""
    if hole_to is not None:
        return LogRecord(COPY, 0, offset, 1_000, None, hole_headers(origin, hole_to))
    if value is None:
        value = encode_frame(event_rows(5, seed=origin))
    headers = [*frame_headers(5, KEY_FINGERPRINT), origin_header(Origin(origin, 3))]
    if header_bytes is not None:
        headers[-1] = (HEADER_ORIGIN, header_bytes)
    return LogRecord(COPY, 0, offset, 1_000, value, headers)


async def test_a_copied_record_is_judged_by_the_offset_that_its_header_names() -> None:
    """A second copier wrote some records twice: its own offsets run ahead, nothing is taken twice."""
    world = World()
    for offset, origin in enumerate([0, 1, 0, 1, 2]):
        await world.intake.take(copied(offset, origin))
    assert world.seen == [("taken", 0), ("taken", 1), ("duplicate", 2), ("duplicate", 3), ("taken", 4)]
    assert (world.state.next_offset(COPY, 0), world.state.tally.events) == (3, 15)
    assert world.intake.read_to == {(COPY, 0): 5}


async def test_a_copy_that_lacks_a_record_stops_nobody() -> None:
    """What came too early is dropped, and taken when the copier brings it again after what was missing."""
    world = World()
    await world.intake.take(copied(0, 0))
    await world.intake.take(copied(1, 2))
    assert "1 records are missing" in world.intake.missing[COPY, 0]
    await world.intake.take(record(0))
    for offset, origin in enumerate([1, 2], start=2):
        await world.intake.take(copied(offset, origin))
    assert world.seen == [("taken", 0), ("dropped", 1), ("taken", 0), ("taken", 2), ("taken", 3)]
    assert world.intake.missing == {}
    assert world.state.next_offset(COPY, 0) == 3


async def test_a_hole_is_stepped_over_and_counts_nothing() -> None:
    """The point jumps behind it, also from its middle; a record from inside the hole is known."""
    world = World()
    await world.intake.take(copied(0, 0))
    await world.intake.take(copied(1, 0, hole_to=40))
    await world.intake.take(copied(2, 39))
    await world.intake.take(copied(3, 40))
    assert world.seen == [("taken", 0), ("taken", 1), ("duplicate", 2), ("taken", 3)]
    assert world.state.next_offset(COPY, 0) == 41
    assert (world.state.tally.frames, world.state.tally.dead_frames) == (2, 0)


async def test_a_copy_whose_header_cannot_be_read_is_dropped() -> None:
    """What it is cannot be told, so it is nothing."""
    world = World()
    await world.intake.take(copied(0, 0, header_bytes=b"short"))
    assert (world.seen, world.state.next_offset(COPY, 0)) == ([("dropped", 0)], 0)


async def test_nothing_is_taken_from_a_copy_that_shows_another_record() -> None:
    """The other logs go on."""
    world = World()
    world.watch.refused.add((COPY, 0))
    await world.intake.take(copied(0, 0))
    await world.intake.take(record(0))
    assert world.seen == [("dropped", 0), ("taken", 0)]


async def test_a_corrupt_copy_is_buried_under_the_position_in_its_origin() -> None:
    """Every region buries the same record; the grave does not look like a copy itself."""
    world = World()
    await world.intake.take(copied(0, 0))
    await world.intake.take(copied(5, 1, value=b"rubbish"))
    (letter,) = world.letters
    assert letter.origin == Position(COPY, 0, 1)
    assert HEADER_ORIGIN not in dict(letter.to_headers())
    assert world.state.next_offset(COPY, 0) == 2
