"""The gateway as a process on a real broker: what it takes, what it refuses, how it starts and ends."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from infra.runtime.kafka import KafkaBroker
from streams.kinds import Kind
from streams.logs import events_log
from tests.support.frames import make_topics
from tests.support.gateway_parts import event
from tests.support.gateway_process import GatewayProcess, raw_frames
from tests.support.poll import wait_until, wait_until_async
from tests.support.small_processor import SmallProcessor

pytestmark = pytest.mark.integration
STRUCTURED = "application/cloudevents+json"


async def test_bad_input_leaves_no_trace_and_the_good_beside_it_is_kept(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Each kind of bad input has its status; afterwards the raw log holds exactly what was accepted."""
    make_topics(kafka.bootstrap, "gw-bad-1")
    async with GatewayProcess(tmp_path, kafka.bootstrap, "gw-bad-1") as gateway:
        good = json.dumps(event(1)).encode()
        expected = [
            (b'{"specversion": "1.0"', STRUCTURED, 400),
            (good.replace(b'"1"', b"1"), STRUCTURED, 400),
            (good.replace(b".click.", b".clack."), STRUCTURED, 400),
            (good.replace(b'"time"', b'"when"'), STRUCTURED, 400),
            (good.replace(b"2026-01-01", b"2999-01-01"), STRUCTURED, 400),
            (good.replace(b'"item": "item-1"', b'"thing": "item-1"'), STRUCTURED, 400),
            (good.replace(b"item-1", b"item-\xc3\x28"), STRUCTURED, 400),
            (b"[" + b" " * 10_000_000 + b"]", "application/cloudevents-batch+json", 413),
            (good, "text/xml", 415),
            (
                b"[" + good + b',{"id":"2"},' + good.replace(b'"1"', b'"3"') + b"]",
                "application/cloudevents-batch+json",
                207,
            ),
            (good, STRUCTURED, 200),
        ]
        for body, media, status in expected:
            assert (await gateway.post("/v1/events", body, media))[0] == status, (body[:100], media)
        frames = raw_frames(kafka.bootstrap, events_log("gw-bad-1"))
        rows = [columns.row(number) for columns in frames.values() for number in range(columns.count)]
        assert [row.item for row in rows] == ["item-1"] * 3
        assert len({row.identity for row in rows}) == 2


async def test_the_same_event_through_a_restarted_gateway_is_the_same_event(kafka: KafkaBroker, tmp_path: Path) -> None:
    """After SIGTERM and after SIGKILL: other coordinates, one identity; the pseudonym key is the first start's."""
    make_topics(kafka.bootstrap, "gw-again-1")
    seen = []
    async with GatewayProcess(tmp_path, kafka.bootstrap, "gw-again-1") as gateway:
        for end in (gateway.stop, gateway.kill, None):
            status, _, body = await gateway.post("/v1/events", event(1), STRUCTURED)
            assert status == 200
            seen.append(body["results"][0]["coordinates"])
            if end is not None:
                end()
                gateway.start()
        frames = raw_frames(kafka.bootstrap, events_log("gw-again-1"))
        rows = [frames[where["partition"], where["offset"]].row(where["index"]) for where in seen]
        assert [where["offset"] for where in seen] == [0, 1, 2]
        assert len({row.identity for row in rows}) == 1
        assert len(set(rows)) == 1


async def test_two_apps_that_number_from_one_lose_nothing(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Same ids, same times, same content, two sources: all events are distinct."""
    make_topics(kafka.bootstrap, "gw-two-1")
    async with GatewayProcess(tmp_path, kafka.bootstrap, "gw-two-1") as gateway:
        for source in ("/apps/a", "/apps/b"):
            batch = [event(number, source=source) for number in range(1, 101)]
            assert (await gateway.post("/v1/events", batch))[0] == 200
        frames = raw_frames(kafka.bootstrap, events_log("gw-two-1"))
        identities = {columns.identity(n) for columns in frames.values() for n in range(columns.count)}
        assert len(identities) == 200


async def test_a_batch_lands_in_frames_at_the_coordinates_that_were_given(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Frames are shared by events and requests; each coordinate points at that very event."""
    make_topics(kafka.bootstrap, "gw-batch-1")
    async with GatewayProcess(tmp_path, kafka.bootstrap, "gw-batch-1") as gateway:
        batches = [[event(100 * k + n) for n in range(100)] for k in range(20)]
        answers = await asyncio.gather(*(gateway.post("/v1/events", batch) for batch in batches))
        frames = raw_frames(kafka.bootstrap, events_log("gw-batch-1"))
        for status, _, body in answers:
            assert status == 200
            for result in body["results"]:
                where = result["coordinates"]
                assert frames[where["partition"], where["offset"]].row(where["index"]).item == f"item-{result['id']}"
        assert sum(columns.count for columns in frames.values()) == 2000
        assert len(frames) < 500, "events were gathered"


async def test_stopping_under_load_keeps_every_promise(kafka: KafkaBroker, tmp_path: Path) -> None:
    """SIGTERM: exit 0, everything acknowledged is in the log, and the acknowledged ends are recorded to the last."""
    make_topics(kafka.bootstrap, "gw-stop-1")
    async with GatewayProcess(tmp_path, kafka.bootstrap, "gw-stop-1", ends_interval_seconds=60) as gateway:
        acknowledged: dict[int, int] = {}
        statuses: list[int] = []

        async def publish(app: int) -> None:
            for number in range(10_000):
                try:
                    status, _, body = await gateway.post("/v1/events", [event(number, source=f"/apps/{app}")])
                except OSError:
                    return
                statuses.append(status)
                for result in body.get("results", []):
                    if result["status"] == "accepted":
                        where = result["coordinates"]
                        end = acknowledged.get(where["partition"], 0)
                        acknowledged[where["partition"]] = max(end, where["offset"] + 1)

        apps = [asyncio.create_task(publish(app)) for app in range(8)]
        await wait_until_async(lambda: statuses.count(200) > 200, what="some load")
        code = await asyncio.to_thread(gateway.stop)
        await asyncio.gather(*apps, return_exceptions=True)
        assert code == 0
        assert set(statuses) <= {200, 503}
        record = json.loads((tmp_path / "coordination.json").read_text())
        recorded = json.loads(record["entries"]["/meridian/acknowledged-ends/gw-stop-1.events"]["value"])
        frames = raw_frames(kafka.bootstrap, events_log("gw-stop-1"))
        found = {p: max(offset for q, offset in frames if q == p) + 1 for p, _ in frames}
        assert {int(p): end for p, end in recorded.items()} == found
        assert all(end <= found[p] for p, end in acknowledged.items())


def test_it_refuses_to_start_without_a_lock_or_under_another_key(kafka: KafkaBroker, tmp_path: Path) -> None:
    """64 for a host that others can reach without tokens, 67 for a pseudonym key that is not the recorded one."""
    make_topics(kafka.bootstrap, "gw-key-1")
    opened = GatewayProcess(tmp_path / "a", kafka.bootstrap, "gw-key-1", host="0.0.0.0")
    opened.start(wait=False)
    assert opened.wait_end() == 64
    assert "API_TOKENS" in opened.log_text()
    gateway = GatewayProcess(tmp_path / "b", kafka.bootstrap, "gw-key-1")
    gateway.start()
    gateway.stop()
    (tmp_path / "b" / "pseudonym.key").write_text("22" * 32)
    gateway.start(wait=False)
    assert gateway.wait_end() == 67
    (tmp_path / "b" / "pseudonym.key").unlink()
    gateway.start(wait=False)
    assert gateway.wait_end() == 67


async def test_it_waits_for_its_log_and_says_so(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Without topics it listens, is not ready, answers 503 with the reason, and opens when they are made."""
    gateway = GatewayProcess(tmp_path, kafka.bootstrap, "gw-wait-1")
    gateway.start(wait=False)
    try:
        wait_until(lambda: "has no log gw-wait-1.events" in gateway.log_text(), what="the reason in the log")
        async with gateway.new_session() as gateway.session:
            status, headers, problem = await gateway.post("/v1/events", event(1), STRUCTURED)
            assert (status, headers["Retry-After"]) == (503, "1")
            assert "has no log gw-wait-1.events" in problem["detail"]
            make_topics(kafka.bootstrap, "gw-wait-1")
            wait_until(lambda: '"event": "open"' in gateway.log_text(), what="the gateway to open")
            assert (await gateway.post("/v1/events", event(1), STRUCTURED))[0] == 200
    finally:
        gateway.kill()


async def test_rankings_come_back_through_the_log(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Search, recommendations, similar: asked in frames, answered from the rankings log, served events written."""
    make_topics(kafka.bootstrap, "gw-rank-1")
    async with (
        SmallProcessor(kafka.bootstrap, "gw-rank-1") as processor,
        GatewayProcess(tmp_path, kafka.bootstrap, "gw-rank-1", processor_port=processor.port) as gateway,
    ):
        await wait_until_async(lambda: ready(gateway), what="readiness")
        body = {"user": "u", "query": "red shoes", "size": 3, "deadline_ms": 5000}
        status, _, answer = await gateway.ask("/v1/search", body)
        assert (status, answer["items"], answer["rung"]) == (200, ["item-0", "item-1", "item-2"], "counters")
        after = [answer["event"]]
        assert (await gateway.ask("/v1/recommendations", {"user": "u", "after": after, "deadline_ms": 5000}))[0] == 200
        assert (await gateway.ask("/v1/similar", {"item": "item-1", "deadline_ms": 5000}))[0] == 200
        assert processor.asked[1].after[0].offset == after[0]["offset"]

        def kinds() -> list[Kind]:
            frames = raw_frames(kafka.bootstrap, events_log("gw-rank-1"))
            return sorted(Kind(int(k)) for columns in frames.values() for k in columns.kind)

        await wait_until_async(lambda: kinds() == [Kind.SEARCH] + [Kind.SERVED] * 3, what="three served events")


async def test_a_processor_that_dies_is_said_at_once_and_one_that_is_back_is_used_at_once(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    """Silent, then not ready, then back: 503 with Retry-After in between, without waiting for deadlines."""
    make_topics(kafka.bootstrap, "gw-dead-1")
    async with (
        SmallProcessor(kafka.bootstrap, "gw-dead-1") as processor,
        GatewayProcess(
            tmp_path, kafka.bootstrap, "gw-dead-1", processor_port=processor.port, trial_interval_ms=2000
        ) as gateway,
    ):
        search = {"user": "u", "query": "q"}
        await wait_until_async(lambda: ready(gateway), what="readiness")
        assert (await gateway.ask("/v1/search", {**search, "deadline_ms": 5000}))[0] == 200
        processor.silent = True
        for _ in range(3):
            assert (await gateway.ask("/v1/search", {**search, "deadline_ms": 200}))[0] == 503
        refused = [await gateway.ask("/v1/search", {**search, "deadline_ms": 1000}) for _ in range(5)]
        assert all(status == 503 and headers["Retry-After"] == "1" for status, headers, _ in refused)
        at_once = [problem["type"].endswith("processor-unavailable") for _, _, problem in refused]
        assert sum(at_once) >= 4, "one of them may have been a trial"
        processor.silent = False
        await wait_until_async(lambda: answered(gateway), 10, "an answer to a trial")
        assert [(await gateway.ask("/v1/search", {**search, "deadline_ms": 5000}))[0] for _ in range(5)] == [200] * 5
        processor.illness = "replaying"
        await wait_until_async(lambda: refuses_with(gateway, "replaying"), 5, "the processor's own reason")
        processor.illness = None
        await wait_until_async(lambda: answered(gateway), 2, "an answer after recovery")


async def test_a_late_or_stale_ranking_is_not_shown(kafka: KafkaBroker, tmp_path: Path) -> None:
    """What is no longer valid when it comes, or made under a smaller epoch than the largest seen, is refused."""
    make_topics(kafka.bootstrap, "gw-stale-1")
    async with (
        SmallProcessor(kafka.bootstrap, "gw-stale-1") as processor,
        GatewayProcess(tmp_path, kafka.bootstrap, "gw-stale-1", processor_port=processor.port) as gateway,
    ):
        search = {"user": "u", "query": "q", "deadline_ms": 5000}
        await wait_until_async(lambda: ready(gateway), what="readiness")
        processor.changes = {"valid_until_ms": 1}
        status, _, problem = await gateway.ask("/v1/search", search)
        assert (status, problem["type"]) == (503, "urn:meridian:problem:ranking-stale")
        processor.changes = {"epoch": (0, 7)}
        assert (await gateway.ask("/v1/search", search))[0] == 200
        processor.changes = {"epoch": (0, 6)}
        assert (await gateway.ask("/v1/search", {**search, "deadline_ms": 300}))[0] == 503
        await wait_until_async(lambda: dropped(gateway, 2), 30, "the answer that is not shown")


async def dropped(gateway: GatewayProcess, count: int) -> bool:
    """Whether so many rankings were dropped; on a busy machine the last one may come after its asker left."""
    return await gateway.figure("meridian_gateway_rankings_dropped_total") == count


async def ready(gateway: GatewayProcess) -> bool:
    """Whether the gateway says so."""
    return (await gateway.ready())[0]


async def answered(gateway: GatewayProcess) -> bool:
    """Whether a search is answered."""
    return (await gateway.ask("/v1/search", {"user": "u", "query": "q"}))[0] == 200


async def refuses_with(gateway: GatewayProcess, reason: str) -> bool:
    """Whether a search is refused for this reason."""
    status, _, problem = await gateway.ask("/v1/search", {"user": "u", "query": "q"})
    return status == 503 and reason in problem["detail"]
