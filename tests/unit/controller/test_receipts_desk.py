"""What a takeover's receipt is made from, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import aiohttp
import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from services.common.clock import SystemClock
from services.common.deployment import PORT_OFFSETS, Deployment, Site
from services.controller.cases import Takeover
from services.controller.metrics import ControllerMetrics
from services.controller.mirror import FormerLeader
from services.controller.perform import Acquired
from services.controller.receipts_desk import CYCLE_SECONDS, ReceiptsDesk
from services.coordination import MemoryStore
from services.coordination.base import ABSENT
from services.coordination.inbox_record import InboxMarks, raise_inbox_marks
from services.coordination.keys import LIVES
from services.coordination.lives import Life, LogCut
from services.coordination.region_record import raise_acknowledged_ends
from services.receipts import Range, ReceiptBook
from services.replicator.client import LogReport, PartitionReport, ReplicationReport
from streams.logs import topics_of
from tests.support.poll import wait_until_async

LIFE = Life(incarnation="east-1", region="east", number=1, cluster_id="a", opened_ms=1)


def report(held: int, *, walked: bool) -> ReplicationReport:
    """What west's replicator says of east's logs."""
    part = PartitionReport(partition=0, held=held, origin_end=100, lag_events=7, leader_epoch=0, checksum="")
    logs = [
        LogReport(
            log=name,
            origin="east",
            incarnation="east-1",
            source="",
            reachable=False,
            last_contact_ms=4_000,
            sealed=False,
            caught_up=False,
            lag_records=0,
            lag_events=None,
            lag_seconds=0.0,
            partitions=[part],
            walked=walked,
        )
        for name in topics_of("east-1")
    ]
    return ReplicationReport(
        region="west", incarnation="west-1", at_ms=1, logs=logs, alarms=[], records_per_second=0.0, eta_seconds=None
    )


class West:
    """Its replicator, which says what it is told to."""

    said: ReplicationReport
    asked_first: Callable[[], None] | None = None
    """What happens when it is asked for the first time."""

    async def __aenter__(self) -> Self:
        async def replication(_: web.Request) -> web.Response:
            if self.asked_first is not None:
                asked, self.asked_first = self.asked_first, None
                asked()
            return web.Response(body=msgspec.json.encode(self.said), content_type="application/json")

        app = web.Application()
        app.router.add_get("/v1/replication", replication)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port: int = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


@asynccontextmanager
async def desk_of_west(
    place: Path,
    lives: list[Life],
    said: ReplicationReport,
    notes: list[str] | None = None,
    cycle_seconds: float = CYCLE_SECONDS,
) -> AsyncIterator[tuple[ReceiptsDesk, ReceiptBook, West]]:
    """West's desk in the term that began when east was lost."""
    store = MemoryStore()
    await raise_acknowledged_ends(store, "east-1.events", {0: 100})
    for life in lives:
        await store.compare_and_put(LIVES + life.incarnation, msgspec.json.encode(life), ABSENT)
    async with West() as west, aiohttp.ClientSession() as session:
        west.said = said
        sites = [
            Site(name="east", kind="region", host="127.0.0.1", base_port=9),
            Site(name="west", kind="region", host="127.0.0.1", base_port=west.port - PORT_OFFSETS["replicator"]),
        ]
        book = ReceiptBook(store, place)
        desk = ReceiptsDesk(
            store,
            book,
            session,
            Deployment(deployment_id="test", network="loopback", sites=sites, directory=str(place)),
            "west",
            SystemClock(),
            ControllerMetrics(CollectorRegistry()),
            lives=lambda: lives,
            epoch=lambda: (0, 7),
            serving_ms=lambda: 1,
            note=lambda _, sentence: (notes if notes is not None else []).append(sentence),
            unreachable_seconds=10.0,
            cycle_seconds=cycle_seconds,
        )
        yield desk, book, west


def takeover_of_east() -> Takeover:
    """West took over just now."""
    return Takeover((0, 7), "west", "east", SystemClock().unix_ms(), "the lease ran out", None, 1, 2)


def campaign_of_west(epoch: tuple[int, int] = (0, 7)) -> tuple[Acquired, FormerLeader]:
    """The same, as the one who won knows it."""
    return Acquired(epoch, SystemClock().unix_ms(), "the lease ran out", ""), FormerLeader("east", 1, 2, (0, 3))


async def test_a_replicator_that_has_just_started_is_waited_for(tmp_path: Path) -> None:
    """It was killed before the region that it copies from: until it has looked, it seems to hold nothing at all."""
    async with desk_of_west(tmp_path, [LIFE], report(0, walked=False)) as (desk, book, west):
        takeover = takeover_of_east()
        await desk._collect(takeover)
        await desk._write_pending([])
        assert await book.all() == []
        west.said = report(93, walked=True)
        await desk._collect(takeover)
        await desk._write_pending([])
        (receipt,) = await book.all()
        assert Range(log="east-1.events", partition=0, start=93, end=100, events=7) in receipt.ranges


async def test_what_the_gateway_recorded_of_its_inbox_stands_in_the_receipt(tmp_path: Path) -> None:
    """Nobody copies an inbox: what the store knows of it is all that is known."""
    async with desk_of_west(tmp_path, [LIFE], report(100, walked=True)) as (desk, book, _):
        marks = InboxMarks(at_ms=77, ends={0: 12, 3: 5}, moved={0: 10, 3: 5})
        await raise_inbox_marks(desk._store, "east-1.inbox", marks)
        await desk._collect(takeover_of_east())
        await desk._write_pending([])
        (receipt,) = await book.all()
        assert receipt.inbox == [Range(log="east-1.inbox", partition=0, start=10, end=12, events=2)]
        assert receipt.inbox_known_ms == 77
        await raise_inbox_marks(desk._store, "east-1.inbox", InboxMarks(at_ms=78, moved={0: 12}))
        await desk._advance([receipt], {})
        assert (await book.get(receipt.receipt_id)).inbox_remaining == []


async def test_a_takeover_during_a_cycle_is_looked_at_right_after_it(tmp_path: Path) -> None:
    """Found by a campaign, seed 1346: a cycle later the lost region was back, and had acknowledged more."""
    async with desk_of_west(tmp_path, [LIFE], report(93, walked=True), cycle_seconds=3_600.0) as (desk, book, west):
        west.asked_first = lambda: desk.took_over(*campaign_of_west())
        running = asyncio.create_task(desk.run())
        await wait_until_async(book.all, what="the receipt of the takeover")
        running.cancel()
        (receipt,) = await book.all()
        assert receipt.receipt_id == "east-1-0-7"


async def test_a_takeover_while_the_one_before_is_looked_at_is_not_forgotten(tmp_path: Path) -> None:
    """Terms may follow each other at once."""
    async with desk_of_west(tmp_path, [LIFE], report(93, walked=True)) as (desk, book, west):
        second = campaign_of_west((0, 9))
        west.asked_first = lambda: desk.took_over(*second)
        desk.took_over(*campaign_of_west())
        await desk._cycle()
        await desk._cycle()
        assert [each.receipt_id for each in await book.all()] == ["east-1-0-7", "east-1-0-9"]


async def test_two_cases_of_one_life_in_one_cycle_have_a_receipt_each(tmp_path: Path) -> None:
    """The life that was active is lost, and has lost part of its log: neither is noted under the other's id."""
    cut = LogCut(log="east-1.events", partition=0, found=98, acknowledged_end=100)
    life = msgspec.structs.replace(LIFE, cuts=(cut,), sealed_because="it lost records")
    notes: list[str] = []
    async with desk_of_west(tmp_path, [life], report(93, walked=True), notes) as (desk, book, _):
        desk.took_over(*campaign_of_west())
        await desk._cycle()
        assert {each.receipt_id: each.kind for each in await book.all()} == {
            "east-1-0-7": "failover",
            "east-1-0-7-2": "cut",
        }
        assert [sentence.split(":")[0] for sentence in notes] == [
            "receipt east-1-0-7 (failover)",
            "receipt east-1-0-7-2 (cut)",
        ]


async def test_an_id_that_another_kind_took_meanwhile_is_left_to_it(tmp_path: Path) -> None:
    """What is noted is what was kept, not what was meant to be."""
    notes: list[str] = []
    async with desk_of_west(tmp_path, [LIFE], report(93, walked=True), notes) as (desk, book, _):
        await desk._collect(takeover_of_east())
        await desk._write_pending([])
        (first,) = await book.all()
        other = msgspec.structs.replace(first, receipt_id="east-1-0-8", kind="cut", was_active=False)
        await book.put(other)
        await desk._collect(replace(takeover_of_east(), epoch=(0, 8)))
        await desk._write_pending([])  # a list from before
        assert [each.receipt_id for each in await book.all()] == ["east-1-0-7", "east-1-0-8", "east-1-0-8-2"]
        assert notes[-1].startswith("receipt east-1-0-8-2 (failover)")


async def test_a_takeover_whose_receipt_is_closed_already_gets_no_second_one(tmp_path: Path) -> None:
    """Somebody else wrote it while this region was cut off, and it has healed since."""
    notes: list[str] = []
    async with desk_of_west(tmp_path, [LIFE], report(93, walked=True), notes) as (desk, book, _):
        for stale in (False, False, True):
            await desk._collect(takeover_of_east())
            known = [] if stale else await book.all()
            await desk._write_pending(known)
            (only,) = await book.all()
            assert len(notes) == 1 + stale, "what somebody else wrote is no news, unless it was not known"
            await book.change(only.receipt_id, lambda found: msgspec.structs.replace(found, state="healed"))
        assert [each.receipt_id for each in await book.all()] == ["east-1-0-7"]
