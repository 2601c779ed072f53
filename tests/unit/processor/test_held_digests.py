"""Digests at a named frontier: every partition stops exactly there, and afterwards nothing is missing."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.processor.held_digests import HeldDigests, HoldBusy
from streams.digest import digest
from streams.fold import Applied, Fold
from streams.frame import encode_frame, frame_headers
from streams.holding import Hold
from streams.intake import Intake, LogRecord
from streams.position import Frontier
from streams.state import Parameters, State
from streams.truncation import EpochsSeen, Place
from tests.support.frames import KEY_FINGERPRINT, event_rows

PLACES: list[Place] = [("east-1.events", 0), ("east-1.events", 1), ("west-1.events", 0)]
FRAMES = 6


class SlowClock:
    """Sleeping ends when the test says so."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def sleep(self, _seconds: float) -> None:
        await self.over.wait()


class Region:
    """An intake over a real fold, and records of three partitions in an order of its own."""

    def __init__(self, seed: int) -> None:
        self.state = State(Parameters(clock_events=10))
        self.failures: list[BaseException] = []
        self.clock = SlowClock()
        watch: Any = SimpleNamespace(doubt=lambda *_: None, refuses=lambda *_: False)
        observer: Any = SimpleNamespace(taken=self.taken, duplicate=lambda _: None)
        self.fail_at: int | None = None
        self.intake = Intake(
            fold=Fold(self.state),
            watch=watch,
            seen=EpochsSeen(1.0),
            bury=self.bury,
            observer=observer,
            sleep=asyncio.sleep,
            monotonic=lambda: 0.0,
        )
        self.held = HeldDigests(self.intake, self.state, self.clock, self.failures.append)  # type: ignore[arg-type]
        self.waiting = dict.fromkeys(PLACES, 0)
        self.random = random.Random(seed)

    async def bury(self, letter: object) -> None:
        raise AssertionError(letter)

    def taken(self, record: LogRecord, applied: Applied, seconds: float) -> None:
        if record.offset == self.fail_at:
            raise RuntimeError("a bug")

    async def read_some(self, count: int) -> None:
        """Take the next records, from partitions that chance chooses."""
        for _ in range(count):
            left = [place for place, offset in self.waiting.items() if offset < FRAMES]
            if left:
                place = self.random.choice(left)
                await self.intake.take(record(place, self.waiting[place]))
                self.waiting[place] += 1


def record(place: Place, offset: int) -> LogRecord:
    """The same everywhere."""
    rows = event_rows(3, seed=offset * 10 + PLACES.index(place))
    return LogRecord(*place, offset, 1_000, encode_frame(rows), frame_headers(3, KEY_FINGERPRINT))


async def compare(east: Region, west: Region) -> tuple[bool, list[str]]:
    """What `digests_at_one_frontier` does, without HTTP, with both reading on all the while."""
    digests: list[str] = []
    for region in (east, west):
        region.held.begin(1_000)
        await region.read_some(region.random.randrange(4))
    standing = [region.state.frontier for region in (east, west)]
    furthest = Frontier({place: max(f[place] for f in standing) for place in {*standing[0], *standing[1]}})

    async def reach(region: Region) -> bool:
        return await region.held.reach(furthest, 10_000, lambda: digests.append(digest(region.state).hex()))

    reaching = [asyncio.ensure_future(reach(region)) for region in (east, west)]
    for region in (east, west):
        await asyncio.sleep(0)
        await region.read_some(3 * FRAMES)
    return all(await asyncio.gather(*reaching)), digests


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), east_first=st.integers(0, 18), west_first=st.integers(0, 18))
def test_two_regions_that_read_on_agree_at_one_frontier(seed: int, east_first: int, west_first: int) -> None:
    """Wherever they stood, and in whatever order records come; afterwards both hold everything."""

    async def scenario() -> None:
        east, west = Region(seed), Region(seed + 1)
        await east.read_some(east_first)
        await west.read_some(west_first)
        reached, digests = await compare(east, west)
        assert reached
        assert digests[0] == digests[1]
        for region in (east, west):
            await region.read_some(3 * FRAMES)
            assert region.state.frontier == Frontier(dict.fromkeys(PLACES, FRAMES))
            assert region.state.tally.duplicates == 0
        assert digest(east.state).hex() == digest(west.state).hex()

    asyncio.run(scenario())


async def test_a_frontier_that_is_passed_is_refused_at_once() -> None:
    """Also one that does not know a log from which something was taken."""
    region = Region(1)
    await region.read_some(9)
    here = region.state.frontier
    behind = Frontier({**here, PLACES[0]: here[PLACES[0]] - 1})
    assert not await region.held.reach(behind, 10_000, lambda: None)
    without = Frontier({place: n for place, n in here.items() if place != PLACES[2]})
    assert not await region.held.reach(without, 10_000, lambda: None)


async def test_a_frontier_that_does_not_come_is_waited_for_and_given_up() -> None:
    """What was kept back meanwhile is taken."""
    region = Region(2)
    target = Frontier({PLACES[0]: 1, PLACES[1]: 1})
    reaching = asyncio.ensure_future(region.held.reach(target, 30, lambda: None))
    await asyncio.sleep(0)
    await region.intake.take(record(PLACES[0], 0))
    await region.intake.take(record(PLACES[0], 1))
    assert region.state.frontier[PLACES[0]] == 1
    assert not await reaching
    assert region.state.frontier[PLACES[0]] == 2


async def test_a_hold_that_nobody_uses_ends_by_itself() -> None:
    """Whoever asked for it may be dead."""
    region = Region(3)
    region.held.begin(1_000)
    await region.read_some(5)
    assert len(region.state.frontier) == 0
    with pytest.raises(HoldBusy):
        region.held.begin(1_000)
    region.clock.over.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert sum(region.state.frontier.values()) == 5


async def test_a_hold_that_keeps_back_too_much_lets_go_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever began it never came back: what was kept is taken before what comes next, which else would be a gap."""
    monkeypatch.setattr(Hold.__init__, "__defaults__", (4,))
    region = Region(5)
    region.held.begin(1_000)
    await region.read_some(3 * FRAMES)
    assert region.state.frontier == Frontier(dict.fromkeys(PLACES, FRAMES))
    assert not await region.held.reach(Frontier(dict.fromkeys(PLACES, FRAMES + 1)), 10, lambda: None)
    assert region.failures == []


async def test_a_failure_while_records_are_taken_again_ends_the_process() -> None:
    """It would otherwise only end the question."""
    region = Region(4)
    region.held.begin(1_000)
    region.fail_at = 1
    await region.read_some(12)
    await region.held.reach(Frontier(dict.fromkeys(PLACES, 3)), 10, lambda: None)
    assert [str(failure) for failure in region.failures] == ["a bug"]
