"""Running the tasks of one process, until one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def run_all(*works: Coroutine[Any, Any, None]) -> None:
    """Run all of them; raise what the first of them raises, alone. The others are left as they are: the process ends.

    A TaskGroup would cancel them in an order that depends on where they lie in memory, and a crash cleans nothing up.
    Cancelled, it cancels all of them and waits for their ends.
    """
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        # Told to end, it does clean up, as what is shipped does: in the order in which they began.
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
    for task in tasks:
        # The process has ended; what else fails until it is gone (two parts find one log cut) is no bug of its own.
        task.add_done_callback(_heard)
    for task in tasks:
        if task.done():
            failure = task.exception()
            while isinstance(failure, BaseExceptionGroup):
                failure = failure.exceptions[0]
            raise failure if failure is not None else RuntimeError("a part ended by itself")


def _heard(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
