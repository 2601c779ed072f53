"""The gateway's side of the inbox: what it knows to be gone stays known until a receipt says so."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from services.common.clock import SystemClock
from services.coordination.inbox_record import InboxGap, InboxMarks, inbox_marks, raise_inbox_marks
from services.coordination.keys import RECEIPTS
from services.coordination.memory import MemoryStore
from services.gateway.events_log import EventsLog
from services.gateway.inbox.desk import Inbox, begin_of
from services.gateway.inbox.messages import Begin, Gap, Report
from services.gateway.metrics import GatewayMetrics
from services.gateway.settings import GatewaySettings
from tests.support.poll import wait_until_async

INBOX = "east-1.inbox"


class Shape:
    """A broker whose inbox ends here."""

    async def partitions(self, _: str) -> int:
        return 2

    async def ends(self, _: str, __: int) -> dict[int, int]:
        return {0: 9, 1: 9}


class Desk:
    """An inbox whose workers are played by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = MemoryStore()
        self.ends_are_recorded = True
        self.asked = 0
        self.begun: list[Begin] = []
        core: Any = SimpleNamespace(
            settings=GatewaySettings(inbox_interval_seconds=0.01),
            region="east",
            clock=SystemClock(),
            metrics=GatewayMetrics(CollectorRegistry()),
            phase=None,
        )
        events = cast("EventsLog", SimpleNamespace(name="east-1.events", partitions=2))
        begin = begin_of(core, events, "nowhere", cast("Any", "key"), "fingerprint")

        async def with_worker(_: Inbox, begin: Begin) -> None:
            self.begun.append(begin)
            await asyncio.Event().wait()

        monkeypatch.setattr(Inbox, "_with_worker", with_worker)

        async def record_ends() -> bool:
            self.asked += 1
            return self.ends_are_recorded

        self.inbox = Inbox(core, events, begin, self.store, cast("Any", Shape()), record_ends)

    async def until_begun(self) -> None:
        await wait_until_async(lambda: self.begun, 5, "a worker")


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    """One that does not run yet."""
    return Desk(monkeypatch)


async def test_records_that_are_gone_are_not_forgotten_with_the_worker_that_told(desk: Desk) -> None:
    """It may have died before that was recorded; the next one goes on behind the gap, and tells nothing."""
    await raise_inbox_marks(desk.store, INBOX, InboxMarks(at_ms=1, moved={0: 5}, gone=[InboxGap(0, 1, 2)]))
    desk.inbox._heard(Gap(1, 0, 3))
    desk.inbox._heard(Report(moved={0: 4}, outcomes={}, oldest_ms=0))
    running = asyncio.create_task(desk.inbox.run())
    try:
        await desk.until_begun()
        assert desk.begun[0].moved_before == {0: 5}

        async def are_told() -> bool:
            return len(await desk.store.list(RECEIPTS)) == 2

        await wait_until_async(are_told, 5, "a receipt for each gap")
        known = await inbox_marks(desk.store, INBOX)
        assert known.gone == [InboxGap(0, 1, 2), InboxGap(1, 0, 3)]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_nothing_is_called_moved_before_the_ends_that_it_lies_below_are_recorded(desk: Desk) -> None:
    """A receipt would call records unaffected whose frames nobody knows of."""
    desk.ends_are_recorded = False
    desk.inbox._heard(Report(moved={0: 4, 1: 9}, outcomes={}, oldest_ms=0))
    running = asyncio.create_task(desk.inbox.run())
    try:
        await desk.until_begun()
        await wait_until_async(lambda: desk.asked > 3, 5, "some tries")
        assert (await inbox_marks(desk.store, INBOX)).moved == {}
        desk.ends_are_recorded = True

        async def is_known() -> bool:
            return msgspec.structs.replace(await inbox_marks(desk.store, INBOX), at_ms=0) == InboxMarks(
                at_ms=0, ends={0: 9, 1: 9}, moved={0: 4, 1: 9}
            )

        await wait_until_async(is_known, 5, "what is moved to be known")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
