"""Waiting for news: it ends when they come, and also when they do not. In virtual time, which takes none."""

from __future__ import annotations

import asyncio
import math

from region_sim.memory.kernel import Kernel
from services.common.waiting import news_within


def in_virtual_time(seconds: float, news_after: float | None) -> tuple[bool, float]:
    """What came of a wait, and how long it was."""
    kernel = Kernel()  # type: ignore[abstract]

    async def wait() -> tuple[bool, float]:
        event, began = asyncio.Event(), kernel.time()
        if news_after is not None:
            kernel.call_later(news_after, event.set)
        return await news_within(event, seconds), kernel.time() - began

    return kernel.run(wait())


def test_news_end_a_wait() -> None:
    """A wait is no longer than it must be."""
    came, waited = in_virtual_time(5.0, 2.0)
    assert came
    assert math.isclose(waited, 2.0)


def test_without_news_a_wait_ends_in_time() -> None:
    """A wait is no longer than it may be."""
    came, waited = in_virtual_time(5.0, 7.0)
    assert not came
    assert math.isclose(waited, 5.0)


def test_a_wait_for_next_to_nothing_takes_some_time() -> None:
    """Else a loop that waits for what is left would never see it pass, where rounding leaves less than a tick."""
    came, waited = in_virtual_time(1e-18, None)
    assert not came
    assert waited > 0
