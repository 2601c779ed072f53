"""Snapshots: only when something moved, never after a cut, with the fold paused only while it is copied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.processor.snapshots import Snapshots
from streams.fold import Fold
from streams.frame import decode_frame, encode_frame, frame_headers
from streams.position import Frontier
from streams.snapshot import load
from streams.state import State
from tests.support.frames import KEY_FINGERPRINT, event_rows


class StillClock:
    """Monotonic time that the test moves; sleeping ends at once."""

    def __init__(self) -> None:
        self.now = 0.0

    def unix_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self.now

    def boottime(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class World:
    """A state that takes frames, and its snapshots."""

    def __init__(self, directory: Path, copy_to: str | None = None) -> None:
        self.state = State()
        self.fold = Fold(self.state)
        self.directory = directory
        self.clock = StillClock()
        self.may_write = True
        self.pauses = 0
        self.snapshots = Snapshots(
            self.state,
            directory,
            paused=self.paused,
            clock=self.clock,
            interval_seconds=30,
            copy_to=copy_to,
            may_write=lambda: self.may_write,
            written=Frontier(),
        )

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        self.pauses += 1
        yield

    def take(self, offset: int) -> None:
        """Fold a frame of five events."""
        columns = decode_frame(encode_frame(event_rows(5, seed=offset)), frame_headers(5, KEY_FINGERPRINT))
        self.fold.apply(columns, "east-1.events", 0, offset, offset, 0)


async def test_a_state_that_did_not_move_is_not_written_again(tmp_path: Path) -> None:
    """And counts as on disk."""
    world = World(tmp_path)
    assert not await world.snapshots.save_now()
    world.take(0)
    assert await world.snapshots.save_now()
    world.clock.now = 50.0
    assert world.snapshots.age_seconds == 50.0
    assert not await world.snapshots.save_now()
    assert (world.pauses, world.snapshots.age_seconds) == (1, 0.0)


async def test_what_is_written_can_be_loaded(tmp_path: Path) -> None:
    """Frontier and events."""
    world = World(tmp_path)
    world.take(0)
    world.take(1)
    await world.snapshots.save_now()
    found = load(tmp_path, world.state.parameters)
    assert found is not None
    assert (found.frontier, found.tally.events) == (world.state.frontier, 10)


async def test_nothing_is_written_after_a_cut(tmp_path: Path) -> None:
    """The last good snapshot is what remains."""
    world = World(tmp_path)
    world.take(0)
    world.may_write = False
    assert not await world.snapshots.save_now()
    assert load(tmp_path, world.state.parameters) is None


@pytest.mark.parametrize("url", ["no-such-protocol://bucket/east", "file:///proc/no/such/place"])
async def test_a_copy_that_fails_leaves_the_snapshot_and_the_region_alone(tmp_path: Path, url: str) -> None:
    """Whatever is wrong with the place off-site is counted, and nothing else happens."""
    world = World(tmp_path, copy_to=url)
    world.take(0)
    assert await world.snapshots.save_now()
    assert world.snapshots.failures == 1
    assert load(tmp_path, world.state.parameters) is not None


async def test_a_disk_that_fails_is_tried_again(tmp_path: Path) -> None:
    """The loop goes on; the failure is counted."""
    blocked = tmp_path / "a file, no directory"
    blocked.write_text("")
    world = World(blocked)
    world.take(0)
    running = asyncio.ensure_future(world.snapshots.run())
    while world.snapshots.failures < 2:  # noqa: ASYNC110 - the clock stands still
        await asyncio.sleep(0)
    blocked.unlink()
    while world.snapshots._written != world.state.frontier:  # noqa: ASYNC110 - the clock stands still
        await asyncio.sleep(0)
    running.cancel()
    assert load(blocked, world.state.parameters) is not None
