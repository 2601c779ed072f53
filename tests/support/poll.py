"""Waiting in tests: for a condition with a deadline, never for a time that somebody guessed."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

INTERVAL_SECONDS = 0.02


def wait_until(predicate: Callable[[], object], timeout_seconds: float = 10.0, what: str = "the condition") -> None:
    """Return once `predicate()` is true; fails the test, naming `what`, when it is not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_seconds:g} s for {what}")
        time.sleep(INTERVAL_SECONDS)


async def wait_until_async(
    predicate: Callable[[], object | Awaitable[object]], timeout_seconds: float = 10.0, what: str = "the condition"
) -> None:
    """Like `wait_until`, letting the event loop run; `predicate` may be a coroutine function."""
    now = asyncio.get_running_loop().time
    deadline = now() + timeout_seconds
    while True:
        outcome = predicate()
        if await outcome if inspect.isawaitable(outcome) else outcome:
            return
        if now() > deadline:
            raise AssertionError(f"waited {timeout_seconds:g} s for {what}")
        await asyncio.sleep(INTERVAL_SECONDS)
