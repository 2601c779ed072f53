"""A gateway without Kafka: the real core and routes over a log in memory that does what a test says."""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Self

from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from services.common.clock import SystemClock
from services.common.health import Health
from services.common.tracing import NO_TRACER
from services.gateway.acked_ends import AckedEnds, Cut
from services.gateway.app import web_app
from services.gateway.core import Core
from services.gateway.events_log import Done, EventsLog, Kept, LogSettings, SinkFull
from services.gateway.metrics import GatewayMetrics
from services.gateway.routing import Rights
from services.gateway.settings import GatewaySettings
from services.gateway.watermarks import Watermarks
from streams.asks import Ask, Ranking, decode_asks
from streams.events import EventReader
from streams.frame import HEADER_ASKS, EventRow, decode_frame, header
from streams.pseudonym import Pseudonyms

KEY = b"0123456789abcdef0123456789abcdef"
PSEUDONYMS = Pseudonyms(KEY)
LOG = "east-1.events"
ADDRESSES = {"east": "http://east:8080", "west": "http://west:8080"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
JSON = {"Content-Type": "application/json"}
TIME = "2026-01-01T00:00:00Z"


class FakeSink:
    """Keeps records by partition. `hold` keeps acknowledgements back until `release`; `fail` refuses them."""

    def __init__(self) -> None:
        self.records: dict[int, list[tuple[bytes, list[tuple[str, bytes]]]]] = {}
        self.hold = False
        self.fail: str | None = None
        self.full = False
        self.next_offset: dict[int, int] = {}
        self.asked: list[Ask] = []
        self.on_ask: Any = None
        self._held: deque[tuple[Done, int]] = deque()

    def send(self, partition: int, key: bytes, value: bytes, headers: list[tuple[str, bytes]], done: Done) -> None:
        """See RecordSink."""
        if self.full:
            raise SinkFull("the queue of records for the log is full")
        if self.fail is not None:
            done(self.fail, -1)
            return
        self.records.setdefault(partition, []).append((value, headers))
        offset = self.next_offset.get(partition, 0)
        self.next_offset[partition] = offset + 1
        raw = header(headers, HEADER_ASKS)
        asks = decode_asks(raw) if raw else []
        if self.hold:
            self._held.append((done, offset))
        else:
            done(None, offset)
        for ask in asks:
            self.asked.append(ask)
            if self.on_ask is not None:
                self.on_ask(ask)

    def release(self, error: str | None = None) -> None:
        """Acknowledge (or fail) what is held, and hold nothing any more."""
        self.hold = False
        while self._held:
            done, offset = self._held.popleft()
            done(error, offset)

    def rows(self) -> list[EventRow]:
        """Every event that is kept, by partition and offset."""
        rows = []
        for _, records in sorted(self.records.items()):
            for value, headers in records:
                columns = decode_frame(value, headers)
                rows += [columns.row(number) for number in range(columns.count)]
        return rows

    async def close(self, timeout_seconds: float) -> None:
        """See RecordSink. What comes later is too late."""
        self.full = True
        self.release()


class FakeKeeper:
    """A disk that takes no time, until it is told to `hold`."""

    def __init__(self) -> None:
        self.hold = False
        self.held: list[Kept] = []

    def keep(self, kept: Kept) -> None:
        """See Keeper."""
        if self.hold:
            self.held.append(kept)
        else:
            kept(None)

    def release(self, problem: str | None = None) -> None:
        """All is on the disk, or is not for this reason; hold nothing any more."""
        self.hold, held, self.held = False, self.held, []
        for kept in held:
            kept(problem)

    async def close(self) -> None:
        """See Keeper."""
        self.release()


class GatewayParts:
    """Use with `async with`; `post` talks to the real routes."""

    def __init__(self, *, opened: bool = True, rights: Rights | None = None, **settings: Any) -> None:
        self.settings = GatewaySettings(**settings)
        self.sink = FakeSink()
        self.keeper = FakeKeeper()
        self.cuts: list[Cut] = []
        self.metrics = GatewayMetrics(CollectorRegistry())
        self.health = Health()
        self.rights = rights
        self.tracer = NO_TRACER
        self._opened = opened

    async def __aenter__(self) -> Self:
        clock = SystemClock()
        self.core = Core(
            self.settings,
            "east",
            "east-gateway-1",
            self.metrics,
            clock,
            self.rights,
            ADDRESSES,
            tracer=self.tracer,
        )
        self.health.add("log", self.core.log_blocker)
        shape = LogSettings(
            log=LOG,
            partitions=4,
            key_fingerprint=PSEUDONYMS.fingerprint,
            limits=self.settings.frame_limits(),
            stall_seconds=self.settings.stall_seconds,
        )
        self.ends = AckedEnds(LOG, {})
        acks = self.core.acks
        acks.watermarks = Watermarks(LOG, {}, self.settings.peer_fresh_seconds, acks.now())
        self.log = EventsLog(
            shape, self.sink, self.ends, self.keeper, self.metrics, self.cuts.append, acks.acknowledged
        )
        if self._opened:
            self.core.open(self.log, EventReader(PSEUDONYMS))
        self.client = TestClient(TestServer(web_app(self.core, self.health)))
        await self.client.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sink.release("the test is over")
        await self.client.close()
        await self.log.close(0)

    async def post(
        self, path: str, body: object, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and decoded body of the answer."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.client.post(path, data=raw, headers=headers or JSON, allow_redirects=False) as response:
            return response.status, dict(response.headers), json.loads(await response.read())

    def answer(self, ask: Ask, **changes: Any) -> None:
        """Answer an ask as a processor would."""
        ranking = answer_to(ask, **changes)
        self.core.desk.on_ranking(ranking, ranking.epoch)

    def figure(self, name: str, **labels: str) -> float:
        """The value of a metric, 0 when it was never touched."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def answer_to(ask: Ask, **changes: Any) -> Ranking:
    """A ranking for an ask, valid for ten seconds."""
    fields: dict[str, Any] = {
        "ask_id": ask.ask_id,
        "reply_to": ask.reply_to,
        "ranking_id": "0" * 30 + "7f",
        "items": ["i-1", "i-2"],
        "scores": [2.0, 1.0],
        "rung": "model",
        "model_version": "ranker/1",
        "region": "east",
        "epoch": (0, 1),
        "frontier": [(LOG, 0, 1)],
        "feature_age_ms": 3,
        "valid_until_ms": SystemClock().unix_ms() + 10_000,
    }
    return Ranking(**(fields | changes))


def event(number: int = 1, kind: str = "click", **changes: Any) -> dict[str, Any]:
    """A good CloudEvent."""
    fields = {
        "specversion": "1.0",
        "id": str(number),
        "source": "/apps/shop",
        "type": f"meridian.{kind}.v1",
        "time": TIME,
        "data": {"user": f"user-{number}", "item": f"item-{number}"},
    }
    return fields | changes
