"""The gateway's side of the inbox: starts the worker once there is something to move, and writes what it packed.

A region whose apps all speak HTTP never has a worker. How far the inbox reaches is asked of the broker, not of the
worker, and recorded in the coordination store whatever that one does: when the region is lost, it is all that is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from services.common.logging import get_logger
from services.coordination import CasConflict, CoordinationError, KeyValueStore
from services.coordination.base import ABSENT
from services.coordination.inbox_record import NO_MARKS, InboxGap, inbox_marks, merged_marks, raise_inbox_marks
from services.coordination.keys import RECEIPTS
from services.gateway.core import Core
from services.gateway.errors import BrokerUnreachable
from services.gateway.events_log import EventsLog, NotKept, Waiting
from services.gateway.inbox.messages import (
    LENGTH,
    MESSAGE_BYTES_MAX,
    Begin,
    Done,
    End,
    Gap,
    Packed,
    Report,
    decode_from_worker,
    framed,
)
from services.gateway.kafka import LogShape
from services.receipts.holes import inbox_gap_receipt
from streams.logs import inbox_topic

LOOK_SECONDS: Final = 5.0
"""How often a broker without an inbox is asked whether it has one by now."""
REFRESH_SECONDS: Final = 10.0
"""An inbox that does not change is recorded this often all the same: up to then nothing else came."""
RESTART_SECONDS: Final = 1.0
CUT_CONFIRMED_SECONDS: Final = 3.0
"""A broker that has just come back may not know at once where the inbox ends; a cut does not heal."""
STALL_SECONDS: Final = 0.05
END_SECONDS: Final = 2.0
READ_EVENTS_MAX: Final = 5_000
COMMIT_SECONDS: Final = 0.2
REPORT_SECONDS: Final = 0.2

log = get_logger(__name__)


def begin_of(core: Core, events: EventsLog, bootstrap: str, key_file: Path, key_fingerprint: str) -> Begin:
    """What a worker has to know."""
    settings = core.settings
    limits = settings.frame_limits()
    return Begin(
        bootstrap=bootstrap,
        incarnation=events.name.rpartition(".")[0],
        key_file=str(key_file),
        key_fingerprint=key_fingerprint,
        partitions=events.partitions,
        frame_events_target=limits.events_target,
        frame_events_max=limits.events_max,
        frame_bytes_max=limits.bytes_max,
        frame_age_seconds=limits.age_seconds,
        frames_in_flight_max=limits.in_flight_max,
        events_waiting_max=settings.inbox_events_waiting_max,
        bytes_waiting_max=settings.inbox_bytes_waiting_max,
        read_events_max=min(READ_EVENTS_MAX, settings.inbox_events_waiting_max),
        moved_before={},
        keep_seconds=settings.inbox_keep_seconds,
        commit_seconds=COMMIT_SECONDS,
        report_seconds=REPORT_SECONDS,
    )


class Inbox:
    """`run` is its task. Belongs to one event loop."""

    def __init__(
        self,
        core: Core,
        events: EventsLog,
        begin: Begin,
        store: KeyValueStore,
        shape: LogShape,
        record_ends: Callable[[], Awaitable[bool]],
    ) -> None:
        self._core = core
        self._events = events
        self._begin = begin
        self._store = store
        self._shape = shape
        self._record_ends = record_ends
        """Records the acknowledged ends: what is moved lies below them before anybody is told that it is moved."""
        self._topic = inbox_topic(begin.incarnation)
        self._marks = NO_MARKS
        self._recorded = NO_MARKS
        self._told: set[InboxGap] = set()
        self._used = asyncio.Event()
        self._ended = asyncio.Event()
        self._report: Report | None = None
        self._problem = ""
        self._process: asyncio.subprocess.Process | None = None
        self._to_worker: asyncio.StreamWriter | None = None
        core.metrics.inbox_lag_records.set_function(self.lag_records)
        core.metrics.inbox_lag_seconds.set_function(self.lag_seconds)

    async def run(self) -> None:
        """Move until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._move())

    async def close(self) -> None:
        """Let the worker finish (bounded): what it notes is not moved again."""
        if self._to_worker is None or self._process is None:
            return
        self._ended.set()
        with contextlib.suppress(ConnectionError, TimeoutError):
            self._to_worker.write(framed(End()))
            async with asyncio.timeout(END_SECONDS):
                await self._process.wait()

    def lag_records(self) -> int:
        """Records that are not moved, as far as is known."""
        return self._marks.lag()

    def lag_seconds(self) -> float:
        """Age of the oldest record that is not moved, as far as the worker has read; 0 when none is."""
        oldest_ms = self._report.oldest_ms if self._report is not None else 0
        return max(0.0, (self._core.clock.unix_ms() - oldest_ms) / 1000) if oldest_ms and self._marks.lag() else 0.0

    def notice(self) -> str | None:
        """What is worth knowing of the inbox, or None."""
        lag = self._marks.lag()
        gone = sum(gap.end - gap.start for gap in self._marks.gone)
        if gone:
            return f"{gone} record(s) were gone before they were moved; `meridian receipts list` names them"
        trouble = self._problem or (self._report.trouble if self._report is not None else "")
        if lag and trouble:
            return f"{lag} record(s) wait to be moved: {trouble}"
        seconds = self.lag_seconds()
        if seconds > self._core.settings.inbox_lag_seconds_max:
            return f"{lag} record(s) wait to be moved, the oldest for {seconds:.0f} s"
        return None

    async def _watch(self) -> None:
        """Look how far the inbox reaches, and record it."""
        partitions = await self._found()
        recorded_at = float("-inf")
        check_at: float | None = None
        checked = False
        while True:
            at_ms = self._core.clock.unix_ms()
            try:
                ends = await self._shape.ends(self._topic, partitions)
                self._marks = msgspec.structs.replace(self._marks, at_ms=at_ms, ends=ends)
                self._problem = ""
                now = self._core.clock.monotonic()
                check_at = now + CUT_CONFIRMED_SECONDS if check_at is None else check_at
                if not checked and now >= check_at:
                    await self._look_for_a_cut(ends)
                    checked = True
            except BrokerUnreachable as error:
                self._problem = str(error)
            except CoordinationError as error:
                log.warning("whether the inbox was cut is not known", reason=str(error))
            if any(self._marks.ends.values()):
                self._used.set()
                now = self._core.clock.monotonic()
                changed = msgspec.structs.replace(self._marks, at_ms=0) != msgspec.structs.replace(
                    self._recorded, at_ms=0
                )
                if changed or now - recorded_at >= REFRESH_SECONDS:
                    recorded_at = now
                    await self._record()
            await asyncio.sleep(self._core.settings.inbox_interval_seconds)

    async def _look_for_a_cut(self, ends: dict[int, int]) -> None:
        """An inbox that ends before what was known to be in it (a power loss): what was not moved of that is gone."""
        known = await inbox_marks(self._store, self._topic)
        for partition, end in known.ends.items():
            start = max(known.moved.get(partition, 0), ends.get(partition, 0))
            if start < end:
                log.error("the inbox was cut", partition=partition, known_end=end, found=ends.get(partition, 0))
                self._heard(Gap(partition, start, end))

    async def _found(self) -> int:
        while True:
            try:
                return await self._shape.partitions(self._topic)
            except BrokerUnreachable:
                await asyncio.sleep(LOOK_SECONDS)

    async def _record(self) -> None:
        marks = self._marks
        try:
            if not await self._record_ends():
                return  # what is moved would be said to lie below ends that nobody knows
            await raise_inbox_marks(self._store, self._topic, marks)
            self._recorded = marks
            await self._tell_gaps()
        except CoordinationError as error:
            log.warning("how far the inbox is moved is recorded later", reason=str(error))

    async def _tell_gaps(self) -> None:
        """Write a receipt for what is gone. Raises CoordinationError."""
        region, now_ms = self._core.region, self._core.clock.unix_ms()
        for gap in [gap for gap in self._marks.gone if gap not in self._told]:
            receipt = inbox_gap_receipt(region, self._begin.incarnation, gap.partition, gap.start, gap.end, now_ms)
            with contextlib.suppress(CasConflict):  # it is there already
                await self._store.compare_and_put(RECEIPTS + receipt.receipt_id, msgspec.json.encode(receipt), ABSENT)
            self._told.add(gap)

    async def _move(self) -> None:
        await self._used.wait()
        while not self._ended.is_set():
            try:
                known = await inbox_marks(self._store, self._topic)
                merged = merged_marks(known, self._marks)
                self._marks = msgspec.structs.replace(self._marks, moved=merged.moved, gone=merged.gone)
                await self._with_worker(msgspec.structs.replace(self._begin, moved_before=dict(self._marks.moved)))
            except (CoordinationError, OSError, asyncio.IncompleteReadError, msgspec.DecodeError) as error:
                self._problem = f"the inbox worker ended: {error}"
                if not self._ended.is_set():
                    log.warning("the inbox worker is started again", reason=str(error))
            await asyncio.sleep(RESTART_SECONDS)

    async def _with_worker(self, begin: Begin) -> None:
        """Start a worker and write what it packs, until it ends. Raises OSError, IncompleteReadError, DecodeError."""
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-m", __package__, str(number)]
            process = await asyncio.create_subprocess_exec(*command, pass_fds=(number,))
        reader, writer = await asyncio.open_connection(sock=ours)
        self._process, self._to_worker = process, writer
        try:
            writer.write(framed(begin))
            while True:
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                if length > MESSAGE_BYTES_MAX:
                    raise OSError(f"it sent a message of {length} bytes")
                message = decode_from_worker(await reader.readexactly(length))
                if isinstance(message, Packed):
                    await self._write(message, writer)
                else:
                    self._heard(message)
        finally:
            self._to_worker = None
            writer.close()
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _write(self, packed: Packed, writer: asyncio.StreamWriter) -> None:
        while self._events.blocker() is not None:
            if self._core.phase is not None:
                break  # it does not open again: the worker is told
            await asyncio.sleep(STALL_SECONDS)
        waiting = self._events.put_packed(packed.partition, packed.key, packed.value, packed.events)
        waiting.done.add_done_callback(lambda _: self._settled(packed, waiting, writer))

    def _settled(self, packed: Packed, waiting: Waiting, writer: asyncio.StreamWriter) -> None:
        (outcome,) = waiting.outcomes
        accepted = not isinstance(outcome, NotKept)
        self._core.metrics.events.labels("accepted" if accepted else "unknown").inc(packed.events)
        if writer.is_closing():
            return
        if isinstance(outcome, NotKept):
            writer.write(framed(Done(packed.sequence, -1, outcome.cause)))
        else:
            writer.write(framed(Done(packed.sequence, outcome.offset)))

    def _heard(self, message: Gap | Report) -> None:
        if isinstance(message, Gap):
            gap = InboxGap(message.partition, message.start, message.end)
            if gap not in self._marks.gone:
                self._marks = msgspec.structs.replace(self._marks, gone=[*self._marks.gone, gap])
                self._core.metrics.inbox_records.labels("gone").inc(gap.end - gap.start)
            return
        self._report = message
        moved = self._marks.moved
        # An inbox that is read again from its beginning is not less moved for that.
        moved = {p: max(moved.get(p, 0), end) for p, end in {**moved, **message.moved}.items()}
        self._marks = msgspec.structs.replace(self._marks, moved=moved)
        for outcome, count in message.outcomes.items():
            self._core.metrics.inbox_records.labels(outcome).inc(count)


class NoInbox:
    """Where there is none: the setting says so, or the world has no processes to start."""

    async def run(self) -> None:
        """Nothing to do, for ever."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing to end."""

    def notice(self) -> str | None:
        """Nothing to know."""
        return None


def make_inbox(
    core: Core,
    events: EventsLog,
    store: KeyValueStore,
    bootstrap: str,
    key_file: Path,
    key_fingerprint: str,
    record_ends: Callable[[], Awaitable[bool]],
) -> Inbox | NoInbox:
    """The inbox of a gateway whose log is open."""
    if not core.settings.inbox:
        return NoInbox()
    begin = begin_of(core, events, bootstrap, key_file, key_fingerprint)
    shape = LogShape(bootstrap, core.settings.broker_timeout_seconds)
    return Inbox(core, events, begin, store, shape, record_ends)
