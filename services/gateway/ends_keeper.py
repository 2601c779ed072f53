"""Nobody is answered before the region's own disk knows what they are told.

One thread writes the acknowledged ends. Whoever comes while it is busy waits for the next writing, together: one at a
time, however many requests there are. See decision 0025.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from services.common.logging import get_logger
from services.common.own_ends import OwnEnds
from services.gateway.acked_ends import AckedEnds
from services.gateway.events_log import Kept

log = get_logger(__name__)


class EndsKeeper:
    """See Keeper. `on_failure` is told once, when the disk fails: what it knows then cannot be told any more.

    Belongs to one event loop. Raises OSError when the file cannot be made.
    """

    def __init__(
        self, data_dir: Path, log_name: str, partitions: int, ends: AckedEnds, on_failure: Callable[[str], None]
    ) -> None:
        self._ends = ends
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._file = OwnEnds(data_dir, log_name, partitions)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="acknowledged-ends")
        self._waiting: list[Kept] = []
        self._writing: asyncio.Future[None] | None = None
        self._failed: str | None = None

    def keep(self, kept: Kept) -> None:
        """See Keeper."""
        self._waiting.append(kept)
        if self._writing is None:
            self._write()

    async def close(self) -> None:
        """See Keeper."""
        while self._writing is not None:
            await asyncio.wait([self._writing])
            await asyncio.sleep(0)  # whoever waited is told by a callback
        self._thread.shutdown()
        self._file.close()

    def _write(self) -> None:
        group, self._waiting = self._waiting, []
        self._writing = self._loop.run_in_executor(self._thread, self._file.write, self._ends.all())
        self._writing.add_done_callback(partial(self._written, group))

    def _written(self, group: list[Kept], done: asyncio.Future[None]) -> None:
        self._writing = None
        error = done.exception()
        if error is not None and self._failed is None:
            # What a disk holds after it has failed is not known: a new process looks at it again.
            self._failed = f"the acknowledged ends cannot be kept: {error}"
            log.error("taking nothing more", reason=self._failed)
            self._on_failure(self._failed)
        for kept in group:
            kept(self._failed)
        if self._waiting and self._writing is None:
            self._write()
