"""Apps that publish by Kafka: killed gateways and brokers, records that cannot be taken, records that are gone."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from infra.runtime.kafka import KafkaBroker
from services.coordination.file import FileStore
from services.coordination.inbox_record import inbox_marks
from services.receipts import ReceiptBook
from streams.dead_letter import read_dead_letters
from streams.logs import INBOX_UNMOVED_HOURS_MAX, events_log, inbox_topic
from tests.support.gateway_parts import event
from tests.support.gateway_process import GatewayProcess, raw_frames
from tests.support.inboxes import (
    STRUCTURED,
    Record,
    figure,
    good_records,
    identities,
    make_life,
    positions,
    publish,
    publish_in_transactions,
    receipts,
    until_drained,
    until_still,
    watermarks,
)
from tests.support.poll import wait_until_async

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
EVENTS = 2_000
SLOW: dict[str, Any] = {"inbox_events_waiting_max": 100, "inbox_interval_seconds": 0.1}
"""Few may wait at once, so that a kill finds some moved, some under way, some not read."""
SECRET = "alice@example.org"


def bad_records() -> list[Record]:
    """Each is refused for another reason."""
    return [
        (b"{", STRUCTURED),
        (None, {"ce_id": b"1", "ce_specversion": b"1.0", "ce_source": b"/a", "ce_type": b"meridian.click.v1"}),
        (json.dumps(event(1, "click.v2", id=SECRET)).encode(), STRUCTURED),
        (json.dumps(event(2, time="2999-01-01T00:00:00Z", source=f"/apps/{SECRET}")).encode(), STRUCTURED),
        (json.dumps(event(3, data={"user": SECRET, "item": "i", SECRET: 1})).encode(), STRUCTURED),
        (b"\xff\xfe", {}),
        (b"{}", {"ce_id": b"\xff", "ce_specversion": b"1.0", "content-type": SECRET.encode()}),
    ]


async def drained(gateway: GatewayProcess, bootstrap: str, life: str) -> None:
    """Wait until the position that is noted is the inbox's end."""
    what = f"an empty inbox; the gateway's log: {gateway.log_path}"
    await asyncio.to_thread(until_drained, bootstrap, life, 90, what)


async def test_gateway_and_worker_killed_in_the_middle_lose_and_double_nothing(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    """Every identity is in the log, every bad record in the dead log, every record in a receipt that is true."""
    life = "inbox-1"
    make_life(kafka.bootstrap, life)
    good, bad = good_records(EVENTS), bad_records()
    middle = EVENTS // 2
    places = await asyncio.to_thread(publish, kafka.bootstrap, life, [*good[:middle], *bad, *good[middle:]])
    bad_places = places[middle : middle + len(bad)]
    async with GatewayProcess(tmp_path, kafka.bootstrap, life, **SLOW) as gateway:
        for victim in ("gateway", "worker"):
            await until_moved(gateway, EVENTS / 8)
            os.kill(gateway.pid, signal.SIGSTOP)  # the worker goes on: it reads, and notes what it believes
            await asyncio.to_thread(until_still, kafka.bootstrap, life)
            noted = await asyncio.to_thread(positions, kafka.bootstrap, life)
            assert sum(noted.values()) < len(places), "the kill came too late to find anything under way"
            if victim == "gateway":
                gateway.kill()
                gateway.start()
            else:
                psutil.Process(gateway.pid).children()[0].kill()
                os.kill(gateway.pid, signal.SIGCONT)
        await drained(gateway, kafka.bootstrap, life)
        frames = await asyncio.to_thread(raw_frames, kafka.bootstrap, events_log(life))
        rows = [frame.identity(number) for frame in frames.values() for number in range(frame.count)]
        wanted = identities(gateway, good)
        assert set(rows) == set(wanted)
        assert len(rows) - len(set(rows)) <= 2 * SLOW["inbox_events_waiting_max"], (
            "moved again: more than was under way"
        )
        letters = await asyncio.to_thread(lambda: list(read_dead_letters(kafka.bootstrap, life)))
        assert {(letter.origin.partition, letter.origin.offset) for letter in letters} == set(bad_places)
        assert not any(SECRET in str(letter) for letter in letters)
        identity_at = dict(zip(places[:middle] + places[middle + len(bad) :], wanted, strict=True))
        told = set()
        for receipt in await asyncio.to_thread(receipts, kafka.bootstrap, life):
            for offset, frame, index in receipt.events:
                assert frames[receipt.frames[frame]].identity(index) == identity_at[receipt.partition, offset]
                told.add((receipt.partition, offset))
            told |= {(receipt.partition, offset) for offset in receipt.refused}
        assert told == set(places)


async def until_moved(gateway: GatewayProcess, least: float) -> None:
    """Wait until this start of the gateway moved so many."""

    async def is_moved() -> bool:
        return await figure(gateway, "moved") >= least

    await wait_until_async(is_moved, 30, "some of the inbox to be moved")


@pytest.mark.slow
async def test_a_broker_killed_in_the_middle_changes_nothing(fresh_broker: KafkaBroker, tmp_path: Path) -> None:
    """The same set, once the broker is back; the worker lives on."""
    life = "inbox-2"
    make_life(fresh_broker.bootstrap, life)
    good = good_records(EVENTS)
    await asyncio.to_thread(publish, fresh_broker.bootstrap, life, good)
    settings = {**SLOW, "delivery_timeout_ms": 2000, "stall_seconds": 0.5}
    async with GatewayProcess(tmp_path, fresh_broker.bootstrap, life, **settings) as gateway:
        await until_moved(gateway, EVENTS / 8)
        fresh_broker.kill()
        assert await figure(gateway, "moved") < EVENTS
        await asyncio.to_thread(fresh_broker.start)
        await drained(gateway, fresh_broker.bootstrap, life)
        frames = await asyncio.to_thread(raw_frames, fresh_broker.bootstrap, events_log(life))
        rows = {frame.identity(number) for frame in frames.values() for number in range(frame.count)}
        assert rows == set(identities(gateway, good))


async def test_what_is_moved_is_removed_and_what_is_gone_before_has_a_receipt(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    """Raw identifiers leave with the record that was moved; whatever else removes one is told.

    Transactions of the app change nothing: their marks count as moved, and what they took back was never said.
    """
    keep: dict[str, Any] = {"inbox_keep_seconds": 0.5, "inbox_interval_seconds": 0.1}
    life = "inbox-3"
    make_life(kafka.bootstrap, life)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    resource = ConfigResource(ResourceType.TOPIC, inbox_topic(life))
    config = admin.describe_configs([resource])[resource].result(10)
    assert config["retention.ms"].value == str(INBOX_UNMOVED_HOURS_MAX * 3_600_000)
    assert (config["cleanup.policy"].value, config["message.timestamp.type"].value) == ("delete", "LogAppendTime")
    good = good_records(200)
    places = await asyncio.to_thread(publish, kafka.bootstrap, life, good)
    victim = places[0][0]
    gone = {place for place in places if place[0] == victim and place[1] < 3}
    for done in admin.delete_records([TopicPartition(inbox_topic(life), victim, 3)]).values():
        done.result(10)
    bought, returned = good_records(40, first=200), good_records(40, first=240)
    await asyncio.to_thread(publish_in_transactions, kafka.bootstrap, life, bought, returned)
    async with GatewayProcess(tmp_path, kafka.bootstrap, life, **keep) as gateway:
        await drained(gateway, kafka.bootstrap, life)
        await wait_until_async(lambda: is_clean(kafka.bootstrap, life), 20, "what was moved to be removed")
        frames = await asyncio.to_thread(raw_frames, kafka.bootstrap, events_log(life))
        rows = {frame.identity(number) for frame in frames.values() for number in range(frame.count)}
        left = [record for record, place in zip(good, places, strict=True) if place not in gone]
        assert rows == set(identities(gateway, [*left, *bought]))
        assert "3 record(s) were gone" in (await gateway.ready())[1]
        store = FileStore(tmp_path / "coordination.json")
        found = await ReceiptBook(store, tmp_path / "receipts").all()
        assert [(one.remaining[0].partition, one.remaining[0].start, one.remaining[0].end) for one in found] == [
            (victim, 0, 3)
        ]
        marks = await inbox_marks(store, inbox_topic(life))
        assert marks.lag() == 0 and sum(marks.ends.values()) > len(good) + len(bought) + len(returned)


async def test_the_first_app_of_the_documentation_works(kafka: KafkaBroker, tmp_path: Path) -> None:
    """As it stands on the page, with another address and name: it prints where its event lies."""
    make_life(kafka.bootstrap, "docs-2")
    page = (ROOT / "docs" / "start" / "kafka-app.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = code.replace("127.0.0.1:19092", kafka.bootstrap).replace("east-", "docs-")
    async with GatewayProcess(tmp_path, kafka.bootstrap, "docs-2") as gateway:
        app = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        said, _ = await app.communicate()
        assert app.returncode == 0, gateway.log_text()[-2000:]
        (partition, offset), index = ast.literal_eval(said.decode())
        frames = await asyncio.to_thread(raw_frames, kafka.bootstrap, events_log("docs-2"))
        assert frames[partition, offset].row(index).item == "sku-2"


def is_clean(bootstrap: str, life: str) -> bool:
    """Whether nothing is left to be read in the inbox."""
    return all(low == end for low, end in watermarks(bootstrap, life))
