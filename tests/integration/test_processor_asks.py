"""Asks in, rankings out, through a real broker: what was just folded counts, and some rung always answers in time."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from confluent_kafka import Consumer, TopicPartition

from infra.runtime.kafka import KafkaBroker
from models.encode import FEATURE_NAMES
from streams.asks import Ask, Ranking, decode_ranking
from streams.frame import EventRow, header
from streams.kinds import Kind
from streams.logs import consumer_settings, events_log, partition_of, rankings_log
from streams.position import Position
from tests.support import tiny_model
from tests.support.frames import (
    PARTITIONS,
    START_MS,
    FrameWriter,
    event_rows,
    identity,
    item_name,
    item_rows,
    make_topics,
)
from tests.support.inference_worker import InferenceWorker
from tests.support.processor_process import ProcessorProcess
from tests.support.slow_door import SlowDoor

pytestmark = pytest.mark.integration

AT_MS = START_MS + 3_600_000
names = itertools.count(1)


class Shop:
    """A processor with a small shop, a worker beside it, and somebody who asks."""

    def __init__(
        self, kafka: KafkaBroker, directory: Path, *, inference_port: int | None = None, **settings: object
    ) -> None:
        self.incarnation = f"asks-{next(names)}"
        make_topics(kafka.bootstrap, self.incarnation)
        self.writer = FrameWriter(kafka.bootstrap, events_log(self.incarnation))
        repository = directory / "repository"
        tiny_model.write_version(repository)
        self.worker = InferenceWorker(directory, repository)
        self.processor = ProcessorProcess(
            directory,
            kafka.bootstrap,
            self.incarnation,
            inference_port=inference_port or self.worker.port,
            **settings,
        )
        self.tail = Consumer(consumer_settings(kafka.bootstrap, self.incarnation))
        log = rankings_log(self.incarnation)
        self.tail.assign([TopicPartition(log, p, 0) for p in range(PARTITIONS)])
        self.asked = itertools.count(1)

    def ask(self, *rows: EventRow, deadline_ms: int = 2_000, **fields: object) -> Ask:
        """Write a frame with an ask."""
        defaults: dict[str, object] = {"kind": "search", "at_ms": AT_MS, "user": 7, "query": "red lamp"}
        ask = msgspec.convert(
            {
                "ask_id": f"ask-{next(self.asked)}",
                "reply_to": "gateway-1",
                "deadline_unix_ms": int(time.time() * 1000) + deadline_ms,
                **defaults,
                **msgspec.to_builtins(fields),
            },
            Ask,
        )
        self.writer.frame(rows, partition=partition_of(ask.user, PARTITIONS), asks=[ask])
        self.writer.flush()
        return ask

    def answer(self, ask: Ask, timeout_seconds: float = 10.0) -> Ranking:
        """The ranking for an ask; the header's epoch is checked on the way."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            message = self.tail.poll(0.5)
            if message is None or message.error():
                continue
            assert header(message.headers(), "meridian-epoch") == b"0:1"
            ranking = decode_ranking(message.value() or b"")
            if ranking.ask_id == ask.ask_id:
                assert message.key() == b"gateway-1"
                return ranking
        raise AssertionError(f"no answer to {ask.ask_id} in {timeout_seconds:g} s")


@pytest.fixture(scope="module")
def shop(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop of 40 items with some history, up and answering."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_model, "FEATURES", len(FEATURE_NAMES))
        patch.setattr(tiny_model, "WEIGHTS", np.linspace(1.0, 0.1, len(FEATURE_NAMES), dtype=np.float32))
        made = Shop(kafka, tmp_path_factory.mktemp("asks"))
    made.writer.spread(item_rows(40), frame_events=40)
    made.writer.spread(event_rows(600, seed=11))
    made.writer.flush()
    made.worker.start()
    with made.processor as processor:
        processor.wait_events(600)
        yield made
    made.worker.stop()
    made.tail.close()


def click(user: int, query: str, item: str, number: int) -> EventRow:
    """A click just before AT_MS."""
    return EventRow(
        identity=identity("click", user, query, item, number),
        time_ms=AT_MS - 60_000 + number,
        user=user,
        session=user,
        kind=Kind.CLICK,
        query=query,
        item=item,
    )


def test_the_model_answers_with_everything_that_is_shown(shop: Shop) -> None:
    """Rung, version, frontier, age, id, validity."""
    ask = shop.ask()
    ranking = shop.answer(ask)
    assert (ranking.rung, ranking.reason, ranking.region, ranking.after_reached) == ("model", "", "east", True)
    assert len(ranking.items) == len(set(ranking.items)) == 10
    assert ranking.scores == sorted(ranking.scores, reverse=True)
    assert ranking.model_version == "ranker/1"
    assert len(ranking.ranking_id) == 32
    assert 0 <= ranking.feature_age_ms < 2_000
    assert ranking.valid_until_ms == ask.deadline_unix_ms
    assert {log for log, _, _ in ranking.frontier} == {events_log(shop.incarnation)}


def test_a_ranking_knows_the_click_that_came_right_before_it(shop: Shop) -> None:
    """Clicks in the frame before, and even in the same frame, count."""
    query, item = "never asked before", item_name(17)
    first = shop.answer(shop.ask(query=query, user=31))
    shop.writer.frame([click(31, query, item, n) for n in range(20)], partition=partition_of(31, PARTITIONS))
    after = shop.answer(shop.ask(query=query, user=31))
    assert after.items[0] == item
    assert first.items[0] != item
    other = item_name(23)
    same_frame = shop.ask(*[click(31, query, other, n) for n in range(60)], query=query, user=31)
    assert shop.answer(same_frame).items[0] == other


def test_a_read_token_of_another_partition_is_waited_for(shop: Shop) -> None:
    """An ask may come before the position that it wants to know; it is answered after it."""
    other = next(p for p in range(PARTITIONS) if p != partition_of(7, PARTITIONS))
    log = events_log(shop.incarnation)
    next_offset = {(name, p): n for name, p, n in shop.processor.state()["frontier"]}.get((log, other), 0)
    ask = shop.ask(after=[Position(log, other, next_offset)], deadline_ms=5_000)
    shop.writer.frame([], partition=other)
    shop.writer.flush()
    ranking = shop.answer(ask)
    assert ranking.after_reached
    assert {(name, p): n for name, p, n in ranking.frontier}[log, other] > next_offset


def test_a_read_token_that_never_comes_costs_a_bounded_wait(shop: Shop) -> None:
    """The answer says that it does not know it."""
    started = time.monotonic()
    ranking = shop.answer(shop.ask(after=[Position("west-9.events", 0, 5)], deadline_ms=500))
    assert not ranking.after_reached
    assert time.monotonic() - started < 1.0


def test_recommendations_and_similar_are_answered(shop: Shop) -> None:
    """Without a query; what is like an item does not contain the item."""
    recommended = shop.answer(shop.ask(kind="recommendations", query=""))
    assert len(recommended.items) == 10
    similar = shop.answer(shop.ask(kind="similar", query="", item=item_name(3), size=5))
    assert len(similar.items) == 5
    assert item_name(3) not in similar.items


def test_filter_exclude_stock_and_own_candidates_hold(shop: Shop) -> None:
    """Every fifth item is out of stock, every second at home."""
    found = shop.answer(shop.ask(filter={"category": "home"}, in_stock=True, exclude=[item_name(1)], size=40)).items
    numbers = {int(item.removeprefix("item-")) for item in found}
    assert numbers == {n for n in range(40) if n % 2 == 1 and n % 5 != 4 and n != 1}
    own = [item_name(9), "unheard-of", item_name(2)]
    mine = shop.answer(shop.ask(candidates=own)).items
    assert sorted(mine[:2]) == sorted([own[0], own[2]])
    assert mine[2] == "unheard-of"


def test_an_expired_ask_is_dropped_and_counted(shop: Shop) -> None:
    """Nobody waits for it."""
    before = shop.processor.metric('meridian_asks_total{kind="search",outcome="expired",rung="none"}')
    shop.ask(deadline_ms=-1_000)
    shop.answer(shop.ask())
    assert shop.processor.metric('meridian_asks_total{kind="search",outcome="expired",rung="none"}') == before + 1


def test_a_header_of_asks_that_cannot_be_read_costs_only_itself(shop: Shop) -> None:
    """The events of that frame are folded."""
    from streams.frame import encode_frame, frame_headers
    from tests.support.frames import KEY_FINGERPRINT

    before = shop.processor.state()["events"]
    rows = [click(5, "x", item_name(1), 900)]
    headers = [*frame_headers(1, KEY_FINGERPRINT), ("meridian-asks", b"\xc1 rubbish")]
    shop.writer.raw(encode_frame(rows), headers, partition=0)
    shop.writer.flush()
    shop.processor.wait_events(before + 1)
    assert shop.processor.metric("meridian_asks_undecodable_total") == 1
    assert shop.answer(shop.ask()).rung == "model"


def test_a_replay_answers_nobody(shop: Shop) -> None:
    """Old asks stand in the log; a restart does not answer them, nor those that were written while it was down."""
    shop.processor.kill()
    missed = shop.ask(deadline_ms=60_000)
    shop.processor.start()
    ranking = shop.answer(shop.ask())
    assert ranking.rung == "model"
    shop.tail.poll(0)
    with pytest.raises(AssertionError, match="no answer"):
        shop.answer(missed, timeout_seconds=1.0)


def test_a_worker_that_hangs_is_answered_by_the_next_rung_within_the_deadline(shop: Shop) -> None:
    """SIGSTOP: it accepts connections and never answers. When it goes on, the model is back."""
    shop.answer(shop.ask())
    shop.worker.signal(signal.SIGSTOP)
    try:
        for _ in range(6):
            ask = shop.ask(deadline_ms=400)
            ranking = shop.answer(ask)
            assert time.time() * 1000 < ask.deadline_unix_ms + 50
            assert (ranking.rung, bool(ranking.reason)) == ("counters", True)
        assert shop.processor.metric('meridian_step_downs_total{why="inference_expired"}') > 0
    finally:
        shop.worker.signal(signal.SIGCONT)
    wait_for_model(shop)


def test_a_dead_worker_is_answered_by_the_next_rung_and_found_again(shop: Shop) -> None:
    """Refused connections cost nothing; a restarted worker is used again without a restart here."""
    shop.worker.stop()
    ask = shop.ask(deadline_ms=400)
    ranking = shop.answer(ask)
    assert (ranking.rung, bool(ranking.reason)) == ("counters", True)
    shop.worker.start()
    wait_for_model(shop)


def wait_for_model(shop: Shop) -> None:
    """Ask until the model answers again."""
    from tests.support.poll import wait_until

    wait_until(lambda: shop.answer(shop.ask()).rung == "model", 20, "the model rung")


def test_nothing_known_of_a_query_or_any_item_is_answered_by_popularity(kafka: KafkaBroker, tmp_path: Path) -> None:
    """An empty shop, no worker: an empty answer, at once."""
    with pytest.MonkeyPatch.context():
        empty = Shop(kafka, tmp_path)
    with empty.processor:
        ranking = empty.answer(empty.ask(deadline_ms=1_000))
        assert (ranking.rung, ranking.items) == ("popularity", [])
        assert ranking.reason
    empty.tail.close()


def test_a_slow_worker_is_answered_by_the_next_rung_within_the_deadline(
    kafka: KafkaBroker, shop: Shop, tmp_path: Path
) -> None:
    """It answers every request, only too late; once it is quick again, the model answers."""
    with SlowDoor(shop.worker.port, delay_seconds=0.4) as door:
        slow = Shop(kafka, tmp_path, inference_port=door.port)
        slow.writer.spread(item_rows(40), frame_events=40)
        slow.writer.spread(event_rows(200, seed=12))
        slow.writer.flush()
        with slow.processor:
            for _ in range(4):
                ask = slow.ask(deadline_ms=300)
                ranking = slow.answer(ask)
                assert time.time() * 1000 < ask.deadline_unix_ms + 50
                assert (ranking.rung, bool(ranking.reason)) == ("counters", True)
            door.delay_seconds = 0.0
            wait_for_model(slow)
    slow.tail.close()
