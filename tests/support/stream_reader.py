"""A reader as the processor has one, inside the test's own event loop: Faust, intake, watch and fold, no service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from services.common.clock import SystemClock
from streams.agents import add_events_agent
from streams.app import FaustSettings, make_app, set_group_offsets
from streams.broker_probe import BrokerProbe
from streams.dead_letter import DeadLetter, bury
from streams.delivery import Delivery
from streams.errors import LogTruncated
from streams.fold import Applied, Fold
from streams.intake import Intake, LogRecord
from streams.logs import events_log
from streams.position import Position
from streams.state import Parameters, State
from streams.truncation import EpochsSeen, LogUnreachableError, Mark, Place, Watch

PARAMETERS = Parameters(clock_events=10)


class StreamReader:
    """What the reader saw; it is the intake's observer."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.fold = Fold(state)
        self.taken_records: list[LogRecord] = []
        self.redelivered = 0
        self.dead: list[tuple[LogRecord, str]] = []
        self.dropped_records: list[tuple[LogRecord, str]] = []
        self.unreachable_count = 0
        self.cuts: list[LogTruncated] = []
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.watch: Watch

    def taken(self, record: LogRecord, applied: Applied, seconds: float) -> None:
        self.taken_records.append(record)

    def duplicate(self, record: LogRecord) -> None:
        self.redelivered += 1

    def buried(self, record: LogRecord, position: Position, reason: str) -> None:
        self.dead.append((record, reason))

    def dropped(self, record: LogRecord, reason: str) -> None:
        self.dropped_records.append((record, reason))

    def unreachable(self, problem: LogUnreachableError) -> None:
        self.unreachable_count += 1

    def marks(self) -> dict[Place, Mark]:
        """What the watch holds against the log."""
        return {
            place: Mark(point.next_offset, point.last_checksum, point.last_leader_epoch)
            for place, point in self.state.points.items()
        }

    def fail(self, failure: BaseException) -> None:
        """The agent gave up."""
        if not self.failure.done():
            self.failure.set_result(failure)


@asynccontextmanager
async def reading(
    bootstrap: str, incarnation: str, group: str, state: State | None = None, partitions: int = 4
) -> AsyncIterator[StreamReader]:
    """Read `incarnation` into a state, from its frontier on, for the length of the block."""
    clock = SystemClock()
    reader = StreamReader(state or State(PARAMETERS))
    seen = EpochsSeen(0.5)
    reader.watch = Watch(
        BrokerProbe(bootstrap, group + ".probe", 5.0), seen, reader.marks, reader.cuts.append, sleep=clock.sleep
    )
    delivery = Delivery(bootstrap, delivery_timeout_ms=20_000, queue_messages_max=1000)

    async def put_away(letter: DeadLetter) -> None:
        await bury(delivery, incarnation, letter)

    intake = Intake(
        fold=reader.fold,
        watch=reader.watch,
        seen=seen,
        bury=put_away,
        observer=reader,
        sleep=clock.sleep,
        monotonic=clock.monotonic,
    )
    log = events_log(incarnation)
    offsets = {(log, p): reader.state.next_offset(log, p) for p in range(partitions)}
    await asyncio.to_thread(set_group_offsets, bootstrap, group, offsets, 10.0)
    app = make_app(FaustSettings(bootstrap=bootstrap, group=group), seen, clock.monotonic)
    add_events_agent(app, [incarnation], intake, reader.fail)
    await app.start()
    try:
        yield reader
    finally:
        with suppress(Exception):
            await asyncio.wait_for(app.stop(), 10)
        await delivery.close(5.0)
