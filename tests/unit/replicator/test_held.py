"""What an origin's gateway is told, and what is taken from its answers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.common.clock import SystemClock
from services.common.deployment import Site
from services.coordination.lives import Life
from services.gateway.client import HeldAnswer, HeldRequest, OriginPartition
from services.replicator.checkpoint import Checkpoints
from services.replicator.copied_log import CopiedLog
from services.replicator.held import tell
from services.replicator.peer import Peer
from services.replicator.positions import CopyState
from services.replicator.settings import ReplicatorSettings
from streams.truncation import LogEnd
from tests.support.poll import wait_until_async

CLOCK = SystemClock()
SETTINGS = ReplicatorSettings()
LIFE = Life(incarnation="east-1", region="east", number=1, cluster_id="A", opened_ms=1)


@dataclass
class Holds:
    """The part of a replicator that is asked."""

    logs: dict[str, CopiedLog] = field(default_factory=dict)
    incarnation: str = "west-1"


def east_at(port: int) -> Peer:
    """The other region, whose gateway listens there."""
    site = Site(name="east", kind="region", host="127.0.0.1", base_port=port)
    return Peer(site, SETTINGS, CLOCK, list, lambda _ends: None)


def walked(count: int) -> CopyState:
    """A copy of so many records."""
    state = CopyState()
    for offset in range(count):
        state.read(offset, offset, offset + 1, offset, 1)
    return state


async def test_what_is_known_to_be_held_is_reported_and_the_answer_gives_the_lag() -> None:
    """A partition that was not walked is not claimed; an end that the gateway does not know leaves events unknown."""
    said: list[HeldRequest] = []

    async def held(request: web.Request) -> web.Response:
        said.append(msgspec.json.decode(await request.read(), type=HeldRequest))
        parts = {n: OriginPartition(acknowledged_end=9, events_after_held=40 if n == 0 else None) for n in range(2)}
        body = HeldAnswer(incarnation="east-1", partitions=parts)
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    app = web.Application()
    app.router.add_post("/v1/replication/held", held)
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        peer = east_at(server.port or 0)
        copied = CopiedLog(LIFE, "east-1.events", 2, {"east": peer}, SETTINGS)
        copied.controls[0].walked(walked(5), "", "", 0.0)
        holds, advanced = Holds({copied.name: copied}), asyncio.Event()
        task = asyncio.create_task(tell(holds, "west", peer, SETTINGS, CLOCK, http, advanced))
        await wait_until_async(lambda: copied.said is not None, what="an answer")
        assert (said[0].region, said[0].incarnation, said[0].held) == ("west", "west-1", {0: 5})
        assert copied.lag_events(copied.controls[0]) == 40
        assert copied.lag_events(copied.controls[1]) is None
        copied.controls[0].saw_end(LogEnd(12, 0), 0.0)
        assert copied.lag_events(copied.controls[0]) is None
        copied.controls[1].walked(walked(9), "", "", 0.0)
        assert copied.lag_events(copied.controls[1]) == 0
        advanced.set()
        await wait_until_async(lambda: said[-1].held == {0: 5, 1: 9}, what="the next report")
        task.cancel()


async def test_an_answer_of_another_life_says_nothing_about_this_one() -> None:
    """The region came back, and this copy is of the life before."""
    copied = CopiedLog(LIFE, "east-1.events", 1, {"east": east_at(1000)}, SETTINGS)
    copied.take_answer(HeldAnswer(incarnation="east-2", partitions={}), {})
    assert copied.said is None


def test_a_contact_counts_once_every_partition_said_where_it_ends() -> None:
    """Of one that did not, what was acknowledged since is not known: the receipt must not claim a later contact."""
    copied = CopiedLog(LIFE, "east-1.events", 2, {"east": east_at(1000)}, SETTINGS)
    first, second = (control.place for control in copied.controls)
    for control in copied.controls:
        control.walked(CopyState(), "", "", 0.0)
    copied.take_ends({first: LogEnd(5, 0), second: LogEnd(3, 0)}, 1_000, 0.0)
    assert copied.last_contact_ms == 1_000
    copied.take_ends({first: LogEnd(9, 0)}, 2_000, 0.1)
    assert copied.last_contact_ms == 1_000
    assert [copied.end_of(control) for control in copied.controls] == [9, 3]
    copied.take_ends({first: LogEnd(9, 0), second: LogEnd(4, 0)}, 3_000, 0.2)
    assert copied.last_contact_ms == 3_000


def test_a_log_that_lost_records_is_no_contact() -> None:
    """It may have acknowledged more than was ever seen: what was said since the last look would count as known."""
    copied = CopiedLog(LIFE, "east-1.events", 1, {"east": east_at(1000)}, SETTINGS)
    (control,) = copied.controls
    copied.take_ends({control.place: LogEnd(4, 0)}, 1_000, 0.0)
    assert copied.last_contact_ms == 0, "what the copy holds was not looked at yet: whether this is less is not known"
    control.walked(walked(5), "", "", 0.1)
    copied.take_ends({control.place: LogEnd(7, 0)}, 2_000, 0.2)
    copied.take_ends({control.place: LogEnd(6, 1)}, 3_000, 0.3)
    assert copied.last_contact_ms == 2_000
    copied.take_ends({control.place: LogEnd(7, 1)}, 4_000, 0.4)
    assert copied.last_contact_ms == 4_000


def test_only_a_count_of_exactly_what_is_missing_now_is_repeated() -> None:
    """Between a report and the next answer the copy goes on: a receipt must not list the events of more records."""
    copied = CopiedLog(LIFE, "east-1.events", 1, {"east": east_at(1000)}, SETTINGS)
    (control,) = copied.controls
    assert copied.counted_events(control) == 0
    control.walked(walked(5), "", "", 0.0)
    said = {0: OriginPartition(acknowledged_end=9, events_after_held=40)}
    copied.take_answer(HeldAnswer(incarnation="east-1", partitions=said), {0: 5})
    assert copied.counted_events(control) == 40
    assert control.state is not None
    control.state.read(5, 5, 6, 5, 1)
    assert (copied.lag_events(control), copied.counted_events(control)) == (40, None)
    copied.take_answer(HeldAnswer(incarnation="east-1", partitions=said), {0: 6})
    assert copied.counted_events(control) == 40
    for offset in range(6, 9):
        control.state.read(offset, offset, offset + 1, offset, 1)
    assert copied.counted_events(control) == 0, "whatever was said last: nothing is missing"
    assert copied.report(0.0).partitions[0].lag_events == 0


def test_a_restarted_replicator_still_says_when_the_origin_was_last_heard(tmp_path: Path) -> None:
    """The origin may be gone by then: a receipt without that time would excuse every loss."""
    before = CopiedLog(LIFE, "east-1.events", 1, {"east": east_at(1000)}, SETTINGS)
    before.controls[0].walked(CopyState(), "", "", 0.0)
    before.take_ends({before.controls[0].place: LogEnd(7, 1)}, asked_ms=1_234, now=1.0)
    before.save(Checkpoints(tmp_path))
    after = CopiedLog(LIFE, "east-1.events", 1, {"east": east_at(1000)}, SETTINGS)
    assert after.report(2.0).last_contact_ms == 0
    after.load(Checkpoints(tmp_path))
    assert after.last_contact_ms == 1_234
    assert after.controls[0].bounds.end == 7
