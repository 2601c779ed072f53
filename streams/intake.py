"""Taking records into the fold, one at a time, by the reader rule: what Faust's agent does, without Faust.

The frontier in the state is the only position that counts. Between deciding that a record is next and having folded it
nothing is awaited, so state and frontier move together; whatever delivers the records may deliver them twice, or out of
step with its committed offsets, and nothing is lost or counted twice. Anything unexpected leaves the record untaken.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from streams.dead_letter import DeadLetter, header_pairs
from streams.errors import FrameCorrupt, LogGap
from streams.fold import Applied, Fold
from streams.frame import Headers, decode_frame
from streams.logs import record_checksum
from streams.position import Position, Verdict, judge
from streams.truncation import EpochsSeen, LogUnreachableError, Watch

RETRY_SECONDS: Final = 0.1
"""Pause before an unreachable broker is asked for its proof again."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record of an events log as it was delivered."""

    log: str
    partition: int
    offset: int
    appended_ms: int
    """When the broker appended it."""
    value: bytes | None
    headers: Headers

    @property
    def position(self) -> Position:
        """Where it stands."""
        return Position(self.log, self.partition, self.offset)


class Observer(Protocol):
    """Who is told what became of a record; called on the event loop, must not block or raise."""

    def taken(self, record: LogRecord, applied: Applied, seconds: float) -> None:
        """A frame was decoded and folded, which took `seconds`."""

    def duplicate(self, record: LogRecord) -> None:
        """The record is below the frontier."""

    def buried(self, record: LogRecord, reason: str) -> None:
        """The record went to the dead log."""

    def unreachable(self, problem: LogUnreachableError) -> None:
        """The broker could not be asked for its proof; it will be asked again."""


class Intake:
    """Feeds one fold. Not reentrant: one record at a time."""

    def __init__(
        self,
        *,
        fold: Fold,
        watch: Watch,
        seen: EpochsSeen,
        bury: Callable[[DeadLetter], Awaitable[None]],
        observer: Observer,
        sleep: Callable[[float], Awaitable[None]],
        monotonic: Callable[[], float],
    ) -> None:
        self._fold = fold
        self._watch = watch
        self._seen = seen
        self._bury = bury
        self._observer = observer
        self._sleep = sleep
        self._monotonic = monotonic
        self._taking = asyncio.Lock()

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Nothing is taken within the block, so another thread may read the whole state."""
        async with self._taking:
            yield

    async def take(self, record: LogRecord) -> None:
        """Fold a record, or know that it was folded before, or bury it.

        Raises LogGap, LogTruncated, UnknownFrameVersion, DeliveryError: the record was not taken, stop.
        """
        async with self._taking:
            await self._take(record)

    async def _take(self, record: LogRecord) -> None:
        place = (record.log, record.partition)
        if not self._is_next(record):
            return
        while self._watch.doubt(place, record.offset) is not None:
            await self._prove(record)
        started = self._monotonic()
        checksum = record_checksum(record.value or b"")
        leader_epoch = self._seen.epoch_of(place, record.offset) or 0
        try:
            columns = decode_frame(record.value, record.headers)
        except FrameCorrupt as corrupt:
            await self._bury(
                DeadLetter(record.position, str(corrupt), record.value or b"", header_pairs(record.headers))
            )
            self._fold.skip(record.log, record.partition, record.offset, checksum, leader_epoch)
            self._observer.buried(record, str(corrupt))
            return
        applied = self._fold.apply(columns, record.log, record.partition, record.offset, checksum, leader_epoch)
        if applied.verdict is not Verdict.ACCEPTED:
            raise LogGap(f"the fold did not take {record.position}: {applied.verdict.value}; this is a bug")
        self._observer.taken(record, applied, self._monotonic() - started)

    def _is_next(self, record: LogRecord) -> bool:
        next_offset = self._fold.state.next_offset(record.log, record.partition)
        verdict = judge(next_offset, record.offset)
        if verdict is Verdict.GAP:
            raise LogGap(
                f"the next record of {record.log}/{record.partition} is offset {next_offset}, but {record.offset} "
                f"came: {record.offset - next_offset} records are missing. Nothing was skipped. Restart from a "
                "snapshot that covers them, or accept the loss with a receipt (docs/operating/truncation.md)."
            )
        if verdict is Verdict.DUPLICATE:
            self._observer.duplicate(record)
            return False
        return True

    async def _prove(self, record: LogRecord) -> None:
        try:
            await self._watch.prove((record.log, record.partition), record.offset)
        except LogUnreachableError as problem:
            self._observer.unreachable(problem)
            await self._sleep(RETRY_SECONDS)
