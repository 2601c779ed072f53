"""Waiting for read tokens: woken by the frontier, bounded by time, nothing left behind."""

import asyncio

from services.processor.waiting import FrontierWaits
from streams.position import Frontier, Position

LOG = "east-1.events"


class Moving:
    """A frontier that the test moves."""

    def __init__(self) -> None:
        self.next_offset = 0

    def __call__(self) -> Frontier:
        return Frontier({(LOG, 0): self.next_offset})


async def test_it_ends_when_the_frontier_covers_the_position() -> None:
    """Not one record earlier."""
    frontier = Moving()
    waits = FrontierWaits(frontier)
    waiting = asyncio.create_task(waits.covered([Position(LOG, 0, 1)], 30))
    await asyncio.sleep(0)
    assert len(waits) == 1
    frontier.next_offset = 1
    waits.advanced()
    await asyncio.sleep(0)
    assert not waiting.done()
    frontier.next_offset = 2
    waits.advanced()
    assert await waiting is True
    assert len(waits) == 0


async def test_it_gives_up_in_time() -> None:
    """A token of a log that never comes costs its budget and leaves nothing behind."""
    waits = FrontierWaits(Moving())
    assert await waits.covered([Position("nowhere.events", 0, 0)], 0.01) is False
    assert len(waits) == 0


async def test_what_is_covered_is_not_waited_for() -> None:
    """The ordinary case: the user's own partition is folded already."""
    frontier = Moving()
    frontier.next_offset = 9
    assert await FrontierWaits(frontier).covered([Position(LOG, 0, 8)], 0) is True
