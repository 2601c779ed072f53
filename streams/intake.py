"""Taking records into the fold, one at a time, by the reader rule: what Faust's agent does, without Faust.

The frontier in the state is the only position that counts. Between deciding that a record is next and having folded it
nothing is awaited, so state and frontier move together; whatever delivers the records may deliver them twice, or out of
step with its committed offsets, and nothing is lost or counted twice. Anything unexpected leaves the record untaken.

A record of a copied log is judged by the offset that its header names. One that comes too early is dropped there
instead of stopping everything: the copier goes back to what is missing and brings all that follows once more.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from streams.copies import Span, span_of
from streams.dead_letter import DeadLetter, header_pairs
from streams.errors import FrameCorrupt, LogGap
from streams.fold import Applied, Fold
from streams.frame import Decode, Headers, decode_frame
from streams.holding import Hold
from streams.logs import record_checksum
from streams.position import Position, Verdict, judge
from streams.truncation import EpochsSeen, LogUnreachableError, Place, Watch

RETRY_SECONDS: Final = 0.1
"""Pause before an unreachable broker is asked for its proof again."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record of an events log as it was delivered."""

    log: str
    partition: int
    offset: int
    """In this region's Kafka. In a copy the header says which offset of the origin it is."""
    appended_ms: int
    """When the broker appended it."""
    value: bytes | None
    headers: Headers

    @property
    def place(self) -> Place:
        """Its log and partition."""
        return self.log, self.partition


class Observer(Protocol):
    """Who is told what became of a record; called on the event loop, must not block or raise."""

    def taken(self, record: LogRecord, applied: Applied, seconds: float) -> None:
        """A frame was decoded and folded, which took `seconds`."""

    def duplicate(self, record: LogRecord) -> None:
        """The record is below the frontier."""

    def buried(self, record: LogRecord, position: Position, reason: str) -> None:
        """The record at `position` of the origin log went to the dead log."""

    def dropped(self, record: LogRecord, reason: str) -> None:
        """A copy brought a record that cannot be taken now; it will bring it again."""

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
        is_copy: Callable[[str], bool] = lambda _: False,
        read_to: Mapping[Place, int] | None = None,
        decode: Decode = decode_frame,
    ) -> None:
        self._fold = fold
        self._watch = watch
        self._seen = seen
        self._bury = bury
        self._observer = observer
        self._sleep = sleep
        self._monotonic = monotonic
        self._is_copy = is_copy
        self._decode = decode
        self._taking = asyncio.Lock()
        self._hold: Hold[LogRecord] | None = None
        self.read_to: dict[Place, int] = dict(read_to or {})
        """The next offset of this region's Kafka that is to be delivered, by partition."""
        self.missing: dict[Place, str] = {}
        """What copies should have brought before they brought something later."""

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
            if self._hold is None:
                await self._take(record)
            else:
                await self._take_held(self._hold, record)

    def hold(self) -> Hold[LogRecord]:
        """Stand still everywhere from the next record on. End it with `release`, soon.

        Raises ValueError while another hold is on.
        """
        if self._hold is not None:
            raise ValueError("a digest is being compared already")
        self._hold = Hold(self._fold.state.frontier)
        return self._hold

    async def move_hold(self, hold: Hold[LogRecord], target: Mapping[Place, int]) -> None:
        """Let every partition stop at `target` instead, taking what lies before it. Raises as `take` does."""
        async with self._taking:
            kept, hold.kept = hold.kept, []
            hold.move(target)
            hold.moved(self._fold.state.frontier)
            for record in kept:
                await self._take_held(hold, record)

    async def release(self, hold: Hold[LogRecord]) -> None:
        """End a hold and take what it kept back. Raises as `take` does."""
        async with self._taking:
            if self._hold is hold:
                self._hold = None
                for record in hold.kept:
                    await self._take(record)

    async def _take_held(self, hold: Hold[LogRecord], record: LogRecord) -> None:
        span = self._span(record)
        if span is not None and hold.keeps_back(record.place, span.end):
            hold.keep(record)
            return
        if hold.given_up:
            # Nothing more is kept back, and what was comes first: else it would be missing before this one.
            kept, hold.kept = hold.kept, []
            for earlier in kept:
                await self._take(earlier)
        await self._take(record)
        hold.moved(self._fold.state.frontier)

    async def _take(self, record: LogRecord) -> None:
        span = self._span(record)
        if span is None or not self._is_next(record, span):
            self._delivered(record)
            return
        while self._watch.doubt(record.place, record.offset) is not None:
            await self._prove(record)
        if self._watch.refuses(record.place):
            self._observer.dropped(record, "the copy shows another record than the one that was taken")
        else:
            await self._fold_record(record, span)
        self._delivered(record)

    async def _fold_record(self, record: LogRecord, span: Span) -> None:
        started = self._monotonic()
        checksum = record_checksum(record.value or b"")
        leader_epoch = self._seen.epoch_of(record.place, record.offset) or 0
        if span.is_hole:
            self._fold.jump(*record.place, span.start, span.end, checksum, leader_epoch)
            self._observer.taken(record, Applied(Verdict.ACCEPTED), self._monotonic() - started)
            return
        try:
            columns = self._decode(record.value, record.headers)
        except FrameCorrupt as corrupt:
            position = Position(*record.place, span.start)
            await self._bury(DeadLetter(position, str(corrupt), record.value or b"", header_pairs(record.headers)))
            self._fold.skip(*record.place, span.start, checksum, leader_epoch)
            self._observer.buried(record, position, str(corrupt))
            return
        applied = self._fold.apply(columns, *record.place, span.start, checksum, leader_epoch)
        if applied.verdict is not Verdict.ACCEPTED:
            raise LogGap(f"the fold did not take {record.place}/{span.start}: {applied.verdict.value}; this is a bug")
        self._observer.taken(record, applied, self._monotonic() - started)

    def _delivered(self, record: LogRecord) -> None:
        self.read_to[record.place] = record.offset + 1

    def _span(self, record: LogRecord) -> Span | None:
        """The offsets of the origin that a record stands for; None for one that does not say it right."""
        if not self._is_copy(record.log):
            return Span(record.offset, record.offset + 1)
        try:
            return span_of(record.offset, record.headers)
        except ValueError as malformed:
            self._observer.dropped(record, str(malformed))
            return None

    def _is_next(self, record: LogRecord, span: Span) -> bool:
        next_offset = self._fold.state.next_offset(*record.place)
        verdict = judge(next_offset, span.start, span.end)
        if verdict is Verdict.DUPLICATE:
            self._observer.duplicate(record)
            return False
        if verdict is Verdict.ACCEPTED:
            self.missing.pop(record.place, None)
            return True
        missing = (
            f"the next record of {record.log}/{record.partition} is offset {next_offset}, but {span.start} came: "
            f"{span.start - next_offset} records are missing"
        )
        if not self._is_copy(record.log):
            raise LogGap(
                f"{missing}. Nothing was skipped. Restart from a snapshot that covers them, or accept the loss with a "
                "receipt (docs/operating/truncation.md)."
            )
        self.missing.setdefault(record.place, missing)
        self._observer.dropped(record, missing)
        return False

    async def _prove(self, record: LogRecord) -> None:
        try:
            await self._watch.prove(record.place, record.offset)
        except LogUnreachableError as problem:
            self._observer.unreachable(problem)
            await self._sleep(RETRY_SECONDS)
