"""The ledger against a real broker's raw log, with a region that tells the truth or does not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.runtime.kafka import KafkaBroker
from services.ledger.acks import Ack, AckWriter
from services.ledger.errors import LogUnreadable
from services.ledger.rawlog import RawLog
from services.ledger.region import examine
from services.ledger.verdict import Ledger
from streams.events import Content
from streams.frame import EventRow
from streams.kinds import Kind
from streams.logs import events_log
from tests.support.frames import FrameWriter, make_topics

pytestmark = pytest.mark.integration

SOURCE = "/apps/ledger"


@asynccontextmanager
async def region_saying(claims: dict[str, Any]) -> AsyncIterator[str]:
    """A processor whose `/v1/state` says `claims`."""

    async def state(_: web.Request) -> web.Response:
        return web.json_response(claims)

    app = web.Application()
    app.router.add_get("/v1/state", state)
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("")).rstrip("/")
    finally:
        await server.close()


def click(number: int) -> EventRow:
    """Event number so-and-so."""
    return Content(kind=Kind.CLICK, time_ms=1_000 + number, user=7, item="a", query="q").row(SOURCE, f"{number}")


def written(kafka: KafkaBroker, incarnation: str, acks: Path) -> int:
    """Ten events in partition 1, the last frame twice; returns the partition's end."""
    make_topics(kafka.bootstrap, incarnation)
    log = events_log(incarnation)
    writer = FrameWriter(kafka.bootstrap, log)
    rows = [click(number) for number in range(10)]
    for frame in (rows[:4], rows[4:], rows[4:]):
        writer.frame(frame, partition=1)
    writer.flush()
    with AckWriter(acks) as lines:
        for number, row in enumerate(rows):
            offset, index = (0, number) if number < 4 else (1, number - 4)
            lines.write(
                Ack(
                    source=SOURCE,
                    id=f"{number}",
                    time_ms=row.time_ms,
                    kind="click",
                    item="a",
                    query="q",
                    log=log,
                    partition=1,
                    offset=offset,
                    index=index,
                )
            )
    return 3


async def finding(
    kafka: KafkaBroker, incarnation: str, acks: Path, events: int, end: int, wait_seconds: float = 10.0
) -> Ledger:
    """Examine against a region that claims to have taken `events` events up to `end`."""
    log = events_log(incarnation)
    claims = {
        "incarnation": incarnation,
        "frontier": [[log, 1, end]],
        "events": events,
        "item_events": 0,
        "late": 0,
        "something_new": True,
    }
    async with region_saying(claims) as url:
        return await examine(acks, kafka.bootstrap, log, url, wait_seconds=wait_seconds)


async def test_a_truthful_region_is_proven_right(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Ten events in three frames with a repetition: none lost, each counted once."""
    acks = tmp_path / "acks.jsonl"
    end = written(kafka, "ledger-1", acks)
    result = await finding(kafka, "ledger-1", acks, events=10, end=end)
    assert (result.verdict, result.events_acknowledged, result.copies_in_log) == ("valid", 10, 6)


async def test_double_counting_and_loss_are_found(kafka: KafkaBroker, tmp_path: Path) -> None:
    """A region that counted the repetition, and an acknowledgement of something that was never written."""
    acks = tmp_path / "acks.jsonl"
    end = written(kafka, "ledger-2", acks)
    assert (await finding(kafka, "ledger-2", acks, events=16, end=end)).events_counted_twice == 6
    lost = Ack(source=SOURCE, id="gone", time_ms=1, kind="click", log=events_log("ledger-2"), partition=1, offset=99)
    with AckWriter(acks) as lines:
        lines.write(lost)
    result = await finding(kafka, "ledger-2", acks, events=10, end=end, wait_seconds=0)
    assert (result.verdict, result.events_lost) == ("invalid", 1)
    assert "ledger-2.events/1/99" in result.lost_examples[0]


async def test_a_region_that_lags_or_is_gone_proves_nothing(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Unknown, with the reason; what could be counted is counted."""
    acks = tmp_path / "acks.jsonl"
    written(kafka, "ledger-3", acks)
    behind = await finding(kafka, "ledger-3", acks, events=4, end=1, wait_seconds=0)
    assert behind.verdict == "unknown" and "ledger-3.events/1 is at 1 and must reach 2" in behind.sentence
    assert behind.events_lost == 0
    gone = await examine(acks, kafka.bootstrap, events_log("ledger-3"), "http://127.0.0.1:9", wait_seconds=0)
    assert gone.verdict == "unknown" and gone.events_counted_twice is None


def test_a_log_that_does_not_exist_is_named(kafka: KafkaBroker) -> None:
    """Rather than counted as empty."""
    with pytest.raises(LogUnreadable, match=r"nowhere\.events does not exist"):
        RawLog(kafka.bootstrap, "nowhere.events").ends()
