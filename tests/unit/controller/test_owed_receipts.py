"""Takeovers whose winner wrote no receipt: whoever leads next does, once, from what the store keeps of the terms."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from services.common.deployment import PORT_OFFSETS, Deployment, Site
from services.controller.metrics import ControllerMetrics
from services.controller.mirror import FormerLeader
from services.controller.model import Operation
from services.controller.perform import Acquired
from services.controller.receipts_desk import SERVING_SECONDS_MAX, ReceiptsDesk
from services.coordination import MemoryStore, StoreUnavailable
from services.coordination.base import ABSENT
from services.coordination.election import Candidacy, Election
from services.coordination.epoch_seen import EpochSeen
from services.coordination.fence import FenceTimes
from services.coordination.keys import OPERATIONS
from services.coordination.lives import all_lives, open_life
from services.coordination.region_record import raise_acknowledged_ends
from services.coordination.terms import read_terms
from services.receipts import Receipt, ReceiptBook
from services.replicator.client import LogReport, PartitionReport, ReplicationReport
from streams.logs import topics_of
from tests.support.turned_clock import TurnedClock

REGIONS = ("east", "west")


def report(region: str, of: Iterable[str], held: int, *, walked: bool = True) -> ReplicationReport:
    """What a region's replicator says of the logs of other lives."""
    part = PartitionReport(partition=0, held=held, origin_end=100, lag_events=None, leader_epoch=0, checksum="")
    logs = [
        LogReport(
            log=name,
            origin=incarnation.rpartition("-")[0],
            incarnation=incarnation,
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
        for incarnation in of
        for name in topics_of(incarnation)
    ]
    return ReplicationReport(
        region=region, incarnation="", at_ms=1, logs=logs, alarms=[], records_per_second=0.0, eta_seconds=None
    )


@dataclass
class Stage:
    """Two regions on one store. Each has an election, and a desk; a restart makes both anew."""

    place: Path
    session: aiohttp.ClientSession
    ports: dict[str, int]
    clock: TurnedClock = field(default_factory=TurnedClock)
    said: dict[str, ReplicationReport] = field(default_factory=dict)
    serving: dict[str, int] = field(default_factory=dict)
    elections: dict[str, Election] = field(default_factory=dict)
    desks: dict[str, ReceiptsDesk] = field(default_factory=dict)
    metrics: dict[str, ControllerMetrics] = field(default_factory=dict)
    starts: int = 0

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        self.book = ReceiptBook(self.store, self.place / "book")

    async def begin(self) -> None:
        """Both live, and east is the first to lead."""
        for region in REGIONS:
            await open_life(self.store, region, f"{region}-kafka", 1)
            await raise_acknowledged_ends(self.store, f"{region}-1.events", {0: 100})
            self.start(region)
            self.said[region] = report(region, {"east-1", "west-1"} - {f"{region}-1"}, 93)
        await self.win("east")

    def start(self, region: str) -> None:
        """Start a region's controller; one that ran before is dead."""
        self.starts += 1
        election = self.elections[region] = Election(self.store, self.clock, EpochSeen(), 2.0, FenceTimes(0.001, 0.1))
        sites = [
            Site(name=name, kind="region", host="127.0.0.1", base_port=self.ports[name] - PORT_OFFSETS["replicator"])
            for name in REGIONS
        ]
        self.desks[region] = ReceiptsDesk(
            self.store,
            ReceiptBook(self.store, self.place / f"{region}-{self.starts}"),
            self.session,
            Deployment(deployment_id="test", network="loopback", sites=sites, directory=str(self.place)),
            region,
            self.clock,
            self.metrics.setdefault(region, ControllerMetrics(CollectorRegistry())),
            lives=list,
            epoch=lambda: election.held.epoch if election.held is not None else None,
            serving_ms=lambda: self.serving.get(region, 1),
            note=lambda *_: None,
            unreachable_seconds=10.0,
        )

    async def win(self, region: str, former: FormerLeader | None = None, operation_id: str = "") -> tuple[int, int]:
        """Let whoever leads lose the lease, and a region win it. It has not looked at receipts yet."""
        self.clock.turn(5.0)
        for election in self.elections.values():
            election.forget("it was lost")
        held = await self.elections[region].campaign(
            Candidacy(region, f"{region}-{self.starts}", "", "the lease ended", operation_id)
        )
        acquired = Acquired(held.epoch, self.clock.unix_ms(), "the lease ended", operation_id)
        self.desks[region].took_over(acquired, former or FormerLeader())
        return held.epoch

    async def look(self, region: str, times: int = 2) -> None:
        """What a region's desk does in a few of its cycles."""
        for _ in range(times):
            await self.desks[region]._cycle()

    async def takeovers(self) -> list[tuple[str, tuple[int, int], str, str]]:
        """Life, epoch, whose term, and who wrote it: of each receipt that there is."""
        found = sorted(await self.book.all(), key=lambda receipt: receipt.epoch)
        return [(each.incarnation, each.epoch, each.holder, each.issued_by) for each in found]

    def failovers(self, region: str) -> float:
        """How many a region has counted."""
        return float(self.metrics[region].failovers.labels("automatic")._value.get())

    async def only(self) -> Receipt:
        """The one receipt."""
        (receipt,) = await self.book.all()
        return receipt


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """East leads."""
    runners: list[web.AppRunner] = []
    stage: Stage | None = None

    async def replicator(region: str) -> int:
        async def answer(_: web.Request) -> web.Response:
            assert stage is not None
            said = stage.said.get(region)
            if said is None:
                raise web.HTTPServiceUnavailable
            return web.Response(body=msgspec.json.encode(said), content_type="application/json")

        app = web.Application()
        app.router.add_get("/v1/replication", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        port: int = runner.addresses[0][1]
        return port

    ports = {region: await replicator(region) for region in REGIONS}
    async with aiohttp.ClientSession() as session:
        stage = Stage(tmp_path, session, ports)
        await stage.begin()
        yield stage
    for runner in runners:
        await runner.cleanup()


async def test_a_winner_knows_its_predecessor_from_the_store(stage: Stage) -> None:
    """Found by a campaign, seed 3088: its own watch was cut off while the other one held the lease."""
    epoch = await stage.win("west", FormerLeader("west", 5, 6, (0, 1)))
    await stage.look("west")
    assert await stage.takeovers() == [("east-1", epoch, "west", "west")]
    assert stage.failovers("west") == 1
    receipt = await stage.only()
    assert (receipt.timeline.lease_gone_ms, receipt.timeline.serving_ms) == (0, 1), "it did not see the lease end"
    assert [(r.start, r.end) for r in receipt.ranges if r.log == "east-1.events"] == [(93, 100)]


async def test_what_was_seen_counts_where_the_store_has_forgotten(stage: Stage) -> None:
    """Whoever led under an earlier release kept no copy of its key; a store that was restored has lost some."""
    epoch = await stage.win("west", FormerLeader("west", 5, 6, (0, 10_000)))
    await stage.look("west")
    assert epoch < (0, 10_000) and stage.failovers("west") == 1, "such a term cannot have been before"
    for term in await read_terms(stage.store):
        await stage.store.compare_and_delete(term.key, term.create_revision)
    stage.desks["west"].took_over(Acquired((1, 50), stage.clock.unix_ms(), "", ""), FormerLeader("east", 5, 6, (0, 9)))
    await stage.look("west")
    _, receipt = sorted(await stage.book.all(), key=lambda found: found.epoch)
    assert (receipt.incarnation, receipt.epoch, receipt.timeline.lease_gone_ms) == ("east-1", (1, 50), 6)


async def test_a_controller_killed_right_after_it_won_writes_it_when_it_is_back(stage: Stage) -> None:
    """Found by a campaign, seed 3110: the same region won again, and followed itself."""
    killed_in = await stage.win("west")
    stage.start("west")
    await stage.win("west", FormerLeader("west", 5, 6, killed_in))
    await stage.look("west")
    assert await stage.takeovers() == [("east-1", killed_in, "west", "west")]
    assert (await stage.only()).timeline.serving_ms == 0, "the term that it is about served nobody"


async def test_two_takeovers_in_quick_succession_have_a_receipt_each(stage: Stage) -> None:
    """East is back before anybody wrote that it was lost: it writes that itself, and nothing is missing."""
    first = await stage.win("west")
    second = await stage.win("east")
    await stage.look("east")
    assert await stage.takeovers() == [("east-1", first, "west", "east"), ("west-1", second, "east", "east")]
    of_east, of_west = sorted(await stage.book.all(), key=lambda receipt: receipt.epoch)
    assert of_east.ranges == [] and of_east.known_ends["east-1.events"] == {0: 100}
    assert [(r.start, r.end) for r in of_west.ranges if r.log == "west-1.events"] == [(93, 100)]


async def test_a_winner_that_the_store_cannot_be_reached_from_leaves_it_to_the_next(stage: Stage) -> None:
    """Its lease ends; when it is back, it finds its receipt written and adds no second one."""
    cut_off_in = await stage.win("west")
    stage.store.set_available(False)
    with pytest.raises(StoreUnavailable):
        await stage.look("west")
    stage.store.set_available(True)
    back_in = await stage.win("east")
    await stage.look("east")
    again_in = await stage.win("west")
    await stage.look("west")
    assert await stage.takeovers() == [
        ("east-1", cut_off_in, "west", "east"),
        ("west-1", back_in, "east", "east"),
        ("east-1", again_in, "west", "west"),
    ]


async def test_a_winner_that_had_looked_before_it_was_cut_off_adds_no_second_one(stage: Stage) -> None:
    """What it has collected waits for its gate; in its next term the receipt is there, and is closed already."""
    stage.serving["west"] = 0
    first = await stage.win("west")
    await stage.look("west")
    assert await stage.book.all() == [], "it waits for its gate, to say how long that took"
    await stage.win("east")
    await stage.look("east")
    for receipt in await stage.book.all():
        await stage.book.change(receipt.receipt_id, lambda it: msgspec.structs.replace(it, state="healed"))
    await stage.win("east")
    stage.elections["west"].forget("")
    await stage.win("west")
    stage.serving["west"] = 1
    await stage.look("west", 4)
    epochs = [receipt.epoch for receipt in await stage.book.all() if receipt.was_active]
    assert epochs.count(first) == 1 and len(epochs) == len(set(epochs)) == 3


async def test_a_holder_that_was_wiped_is_known_by_the_life_that_it_lived_then(stage: Stage) -> None:
    """It is back in another life before anybody writes the receipt: that one was not lost."""
    lost_in = await stage.win("west")
    await open_life(stage.store, "east", "another-kafka", 2)
    stage.start("west")
    lives = await all_lives(stage.store)
    stage.desks["west"]._lives = lambda: lives
    await stage.win("west")
    await stage.look("west")
    assert await stage.takeovers() == [("east-1", lost_in, "west", "west")]


async def test_a_switchover_that_is_worked_off_is_one(stage: Stage) -> None:
    """Its operation is over and archived by then."""
    operation = Operation(
        operation_id="op", kind="switchover", source="east", target="west", by="anna", reason="a test", created_ms=0
    )
    await stage.store.compare_and_put(OPERATIONS + "op", msgspec.json.encode(operation), ABSENT)
    await stage.win("west", operation_id="op")
    stage.start("west")
    await stage.win("west")
    await stage.look("west")
    receipt = await stage.only()
    assert (receipt.kind, receipt.operation_id) == ("switchover", "op") and "anna" in receipt.reason


async def test_an_operation_that_cannot_be_read_keeps_nobody_from_a_receipt(stage: Stage) -> None:
    """Neither its own takeover nor those that come behind it."""
    await stage.store.compare_and_put(OPERATIONS + "op", b"no operation", ABSENT)
    await stage.win("west", operation_id="op")
    stage.start("west")
    await stage.win("west")
    await stage.look("west")
    receipt = await stage.only()
    assert (receipt.kind, receipt.operation_id) == ("failover", "")


async def test_a_replicator_that_has_just_started_is_waited_for_here_too(stage: Stage) -> None:
    """But not for ever."""
    await stage.win("west")
    stage.start("west")
    stage.said["west"] = report("west", ["east-1"], 0, walked=False)
    await stage.win("west")
    await stage.look("west")
    assert await stage.book.all() == []
    stage.clock.turn(SERVING_SECONDS_MAX)
    await stage.elections["west"].renew()
    await stage.win("west")
    await stage.look("west")
    assert (await stage.only()).incarnation == "east-1"


async def test_terms_are_kept_as_long_as_something_is_owed(stage: Stage) -> None:
    """Then the newest is left, and nobody reads them again before there is another."""
    for _ in range(3):
        await stage.win("west")
        await stage.win("east")
    assert len(await read_terms(stage.store)) == 7
    await stage.look("east")
    (left,) = await read_terms(stage.store)
    assert (left.record.region, left.epoch) == ("east", max(receipt.epoch for receipt in await stage.book.all()))
    assert len(await stage.book.all()) == 6


async def test_a_region_that_follows_itself_owes_nothing(stage: Stage) -> None:
    """Nothing changed hands."""
    await stage.win("east")
    await stage.look("east")
    assert await stage.book.all() == []
    assert len(await read_terms(stage.store)) == 1
