"""A processor that is small enough to trust: it answers every ask with the same items, and can be silenced."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from confluent_kafka import Consumer, Producer, TopicPartition

from services.common.clock import SystemClock
from streams.asks import Ask, Ranking, decode_asks, encode_ranking, ranking_id
from streams.frame import HEADER_ASKS, header
from streams.kinds import Rung
from streams.logs import consumer_settings, events_log, producer_settings, rankings_log


class SmallProcessor:
    """Answers asks of an incarnation from a thread, and says on a port whether it is ready."""

    def __init__(self, bootstrap: str, incarnation: str, partitions: int = 4) -> None:
        self._log = events_log(incarnation)
        self._rankings = rankings_log(incarnation)
        self._bootstrap = bootstrap
        self._partitions = partitions
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self.silent = False
        self.illness: str | None = None
        self.changes: dict[str, Any] = {}
        self.asked: list[Ask] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join(5)
        await self._runner.cleanup()

    async def _readyz(self, _: web.Request) -> web.Response:
        if self.illness is None:
            return web.Response(text="ready\n")
        return web.Response(status=503, text=f"[-] state: {self.illness}\nnot ready\n")

    def _follow(self) -> None:
        consumer = Consumer(
            {**consumer_settings(self._bootstrap, f"{self._log}.small"), "auto.offset.reset": "earliest"}
        )
        producer = Producer(producer_settings(self._bootstrap))
        consumer.assign([TopicPartition(self._log, p, 0) for p in range(self._partitions)])
        while not self._ending.is_set():
            message = consumer.poll(0.1)
            producer.poll(0)
            if message is None or message.error() is not None:
                continue
            raw = header(message.headers(), HEADER_ASKS)
            for ask in decode_asks(raw) if raw else []:
                self.asked.append(ask)
                if not self.silent:
                    self._answer(producer, ask)
        producer.flush(2)
        consumer.close()

    def _answer(self, producer: Producer, ask: Ask) -> None:
        ranking = Ranking(
            **{
                "ask_id": ask.ask_id,
                "reply_to": ask.reply_to,
                "ranking_id": ranking_id(ask, Rung.COUNTERS, ""),
                "items": [f"item-{number}" for number in range(ask.size)],
                "scores": [float(ask.size - number) for number in range(ask.size)],
                "rung": "counters",
                "model_version": "",
                "region": "east",
                "epoch": (0, 1),
                "frontier": [],
                "feature_age_ms": 0,
                "valid_until_ms": SystemClock().unix_ms() + 5_000,
                **self.changes,
            }
        )
        epoch = f"{ranking.epoch[0]}:{ranking.epoch[1]}".encode()
        headers: list[tuple[str, str | bytes | None]] = [("meridian-epoch", epoch)]
        producer.produce(self._rankings, encode_ranking(ranking), ask.reply_to.encode(), headers=headers)
