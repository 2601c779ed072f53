"""Waiting for news, but not for ever."""

from __future__ import annotations

import asyncio
from typing import Final

SECONDS_MIN: Final = 0.001
"""A loop that waits for what is left of a time must not come back in no time when rounding leaves next to nothing."""


async def news_within(event: asyncio.Event, seconds: float) -> bool:
    """Return True once `event` is set, or False after `seconds` of the event loop's time, which are some."""
    if event.is_set():
        return True
    # Every loop of every process waits like this all the time, mostly in vain: one future and one timer, where
    # `asyncio.timeout` around `event.wait()` takes four times as long, and throws two exceptions when nothing comes.
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[bool] = loop.create_future()
    waiters = event._waiters  # noqa: SLF001 - what `set` wakes; there is no other way in
    waiters.append(waiter)
    timer = loop.call_later(max(SECONDS_MIN, seconds), _give_up, waiter)
    try:
        return await waiter
    finally:
        timer.cancel()
        waiters.remove(waiter)


def _give_up(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)
