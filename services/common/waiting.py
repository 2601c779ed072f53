"""Waiting for news, but not for ever."""

from __future__ import annotations

import asyncio
from typing import Final

SECONDS_MIN: Final = 0.001
"""A loop that waits for what is left of a time must not come back in no time when rounding leaves next to nothing."""


async def news_within(event: asyncio.Event, seconds: float) -> bool:
    """Return True once `event` is set, or False after `seconds` of the event loop's time, which are some."""
    try:
        async with asyncio.timeout(max(SECONDS_MIN, seconds)):
            return await event.wait()
    except TimeoutError:
        return False
