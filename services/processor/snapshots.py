"""Writing the state down every so often, without holding up answers.

The fold pauses while another thread copies what changed; the event loop does not, so whoever waits for a ranking
notices nothing. Encoding and the disk come after the pause. A state that did not move since the last snapshot is not
written again, and once a log was found cut nothing is written at all: the last good snapshot is what remains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from services.common.clock import Clock
from services.common.logging import get_logger
from streams.errors import StreamError
from streams.position import Frontier
from streams.snapshot import Frozen, copy, freeze, stored, write
from streams.state import State

log = get_logger(__name__)


class Snapshots:
    """The snapshots of one state in one directory."""

    def __init__(
        self,
        state: State,
        directory: Path,
        *,
        paused: Callable[[], AbstractAsyncContextManager[None]],
        clock: Clock,
        interval_seconds: float,
        copy_to: str | None,
        may_write: Callable[[], bool],
        written: Frontier,
    ) -> None:
        self._state = state
        self._directory = directory
        self._paused = paused
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._copy_to = copy_to
        self._may_write = may_write
        self._written = written
        self._written_at = clock.monotonic()
        self._writing = asyncio.Lock()
        self.failures = 0

    @property
    def age_seconds(self) -> float:
        """Since the state was last known to be on disk."""
        return self._clock.monotonic() - self._written_at

    async def run(self) -> None:
        """Write one every interval, for ever. A disk that fails is logged and tried again."""
        while True:
            await self._clock.sleep(self._interval_seconds)
            try:
                await self.save_now()
            except (OSError, StreamError) as problem:
                self.failures += 1
                log.error("a snapshot could not be written", reason=str(problem), directory=str(self._directory))

    async def save_now(self) -> bool:
        """Write a snapshot if something changed; says whether one was written. Raises OSError."""
        async with self._writing:
            if not self._may_write():
                return False
            if self._state.frontier == self._written:
                self._written_at = self._clock.monotonic()
                return False
            started = self._clock.monotonic()
            async with self._paused():
                frontier = self._state.frontier
                frozen = await asyncio.to_thread(self._freeze)
            paused_seconds = self._clock.monotonic() - started
            if not self._may_write():
                return False
            path = await asyncio.to_thread(write, frozen, self._directory)
            self._written, self._written_at = frontier, self._clock.monotonic()
            log.info(
                "snapshot written",
                name=path.name,
                events=frozen.tally.events,
                fold_paused_seconds=round(paused_seconds, 4),
                seconds=round(self._written_at - started, 3),
            )
            if self._copy_to is not None:
                await self._copy_off(self._copy_to)
            return True

    async def _copy_off(self, url: str) -> None:
        """Copy the snapshots to another place. Whatever is wrong there must not touch the region."""
        try:
            await asyncio.to_thread(copy, self._directory, url)
        # Any file system may stand behind the URL, with exceptions of its own.
        except Exception as problem:  # noqa: BLE001
            self.failures += 1
            log.error("snapshots could not be copied", to=url, reason=f"{type(problem).__name__}: {problem}")

    def _freeze(self) -> Frozen:
        return freeze(self._state, stored(self._directory))
