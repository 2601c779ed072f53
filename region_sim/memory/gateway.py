"""The gateway of a simulated region: the shipped process, with other hands on Kafka and without sockets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from aiohttp import web
from confluent_kafka import Message
from prometheus_client import CollectorRegistry
from prometheus_client import Counter as PrometheusCounter

from region_sim.memory.kafka import LocalKafka, SimMessage, as_messages
from region_sim.memory.prepare import own_ends
from region_sim.memory.producer import SimProducer
from region_sim.memory.session import RouteBook
from services.common.health import Health
from services.common.region_settings import RegionSettings
from services.coordination import KeyValueStore
from services.coordination.lease import LeaseStore
from services.coordination.region_record import check_key_fingerprint
from services.gateway.acked_ends import AckedEnds
from services.gateway.app import add_api_routes
from services.gateway.core import Core
from services.gateway.errors import BrokerUnreachable
from services.gateway.events_log import Done, Kept
from services.gateway.inbox.desk import NoInbox
from services.gateway.kafka import LogShape
from services.gateway.metrics import GatewayMetrics
from services.gateway.rankings_tail import Listener, RankingsTail
from services.gateway.serve import Gateway, Machinery
from services.gateway.settings import GatewaySettings
from services.gateway.surroundings import Surroundings
from streams.asks import Epoch
from streams.pseudonym import Pseudonyms

if TYPE_CHECKING:
    from region_sim.memory.site import MemorySite

TAIL_WAIT_SECONDS = 2.0
LAST_ANSWERS_SECONDS = 0.1
PSEUDONYMS = Pseudonyms(bytes(range(32)))


class _Fenced:
    """Counts what the last hop threw away."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts

    def labels(self, _where: str) -> _Fenced:
        """See prometheus_client.Counter."""
        return self

    def inc(self) -> None:
        """See prometheus_client.Counter."""
        self._counts["stale_dropped"] += 1


class CountingMetrics(GatewayMetrics):
    """A gateway's figures, of which the world keeps what its coverage is told by."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__(CollectorRegistry())
        self.fenced = cast("PrometheusCounter", _Fenced(counts))


class SimShape:
    """Questions about a log's shape and ends, shaped like LogShape."""

    def __init__(self, kafka: LocalKafka) -> None:
        self._kafka = kafka

    async def partitions(self, log: str) -> int:
        """See LogShape."""
        count = self._found().broker.partition_counts().get(log)
        if count is None:
            raise BrokerUnreachable(f"the broker has no log {log} (yet)")
        return count

    async def ends(self, log: str, partitions: int) -> dict[int, int]:
        """See LogShape."""
        found = self._found().broker.ends([(log, number) for number in range(partitions)])
        return {place[1]: end.next_offset for place, end in found.items()}

    async def epochs(self, log: str, partitions: int) -> dict[int, int]:
        """See LogShape."""
        found = self._found().broker.ends([(log, number) for number in range(partitions)])
        return {place[1]: end.leader_epoch for place, end in found.items()}

    def _found(self) -> LocalKafka:
        if not self._kafka.is_up():
            raise BrokerUnreachable("the broker does not answer")
        return self._kafka


class SimSink:
    """The events log as a sink of records, shaped like KafkaSink."""

    def __init__(self, kafka: LocalKafka, log: str, delivery_timeout_ms: int) -> None:
        self._log = log
        self._producer = SimProducer(kafka, delivery_timeout_ms / 1000)

    def send(self, partition: int, key: bytes, value: bytes, headers: list[tuple[str, bytes]], done: Done) -> None:
        """See RecordSink."""
        self._producer.produce(self._log, partition, value, headers, key, done)

    async def close(self, timeout_seconds: float) -> None:
        """See RecordSink."""


class DiskKeeper:
    """Keeps acknowledged ends on a simulated site's disk, which takes no time. See Keeper."""

    def __init__(self, site: MemorySite, log: str, ends: AckedEnds) -> None:
        self._site = site
        self._name = f"{log}.ends"
        self._ends = ends

    def keep(self, kept: Kept) -> None:
        """See Keeper."""
        self._site.disk[self._name] = self._ends.all()
        kept(None)

    async def close(self) -> None:
        """See Keeper."""


class SimTail(RankingsTail):
    """Follows the rankings log in a task instead of a thread."""

    def __init__(self, site: MemorySite, log: str, reply_to: str, listener: Listener) -> None:
        self._log = log
        self._reply_to = reply_to.encode()
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._seen: dict[int, Epoch] = {}
        self._trouble: str | None = None
        self._kafka = site.kafka
        self._at: dict[int, int] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self, ends: dict[int, int]) -> None:
        """See RankingsTail."""
        self._at = dict(ends)
        self._task = self._loop.create_task(self._run())

    def blocker(self) -> str | None:
        """See RankingsTail."""
        return self._trouble

    async def close(self) -> None:
        """See RankingsTail."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        changed = self._kafka.broker.changed_of("rankings")
        while True:
            if not self._kafka.is_up():
                self._trouble = "no broker can be reached"
                await changed.wait(TAIL_WAIT_SECONDS)
                continue
            self._trouble = None
            for message in self._read():
                self._take(message)
            await changed.wait(TAIL_WAIT_SECONDS)

    def _read(self) -> list[Message]:
        """What came; one that lost its place (the log was cut) goes on at the end."""
        broker, found = self._kafka.broker, []
        ends = broker.ends([(self._log, partition) for partition in self._at])
        for place, end in ends.items():
            at = self._at[place[1]]
            if at < end.next_offset:
                found += [SimMessage(place, record, record.offset) for record in broker.read(*place, at)]
            self._at[place[1]] = found[-1].offset() + 1 if at < end.next_offset else end.next_offset
        return as_messages(found)


async def handed_back(_request: web.Request, _response: web.Response) -> None:
    """The answer is what the handler returns: there is no socket to write it into first."""


class GatewayPart:
    """One start of a gateway process. `on_core` is given what all routes share."""

    def __init__(self, site: MemorySite, store: LeaseStore) -> None:
        world = site.world
        self._site = site
        self.core: Core | None = None
        settings = world.settings.gateway()
        session = world.session(site.name)
        surroundings = Surroundings.among(
            site.region, world.deployment, store, session, site.clock, world.settings.pace()
        )
        machinery = Machinery(
            shape=lambda _, __: cast("LogShape", SimShape(site.kafka)),
            sink=lambda _, log, **found: SimSink(site.kafka, log, found["delivery_timeout_ms"]),
            own_ends=lambda _, log: own_ends(site, log),
            keeper=lambda _, log, _partitions, ends, _on_failure: DiskKeeper(site, log, ends),
            inbox=lambda *_: NoInbox(),
            tail=lambda _, log, reply_to, core: SimTail(site, log, reply_to, core),
            listening=self._listening,
            send=handed_back,
            session=lambda: session,
            metrics=lambda: CountingMetrics(site.world.counts),
            pseudonyms=_pseudonyms,
            random_bytes=site.random_bytes,
        )
        self._stop = asyncio.Event()
        region = site.region_of_life()
        self._gateway = Gateway(region, settings, surroundings, site.clock, self._stop, machinery)

    async def run(self) -> None:
        """Work until it is killed, or told to end. Raises LogCut when the life is over."""
        await self._gateway.run()
        if self._stop.is_set():
            # What has its answer is told before the sockets close.
            await self._site.clock.sleep(LAST_ANSWERS_SECONDS)

    def end(self) -> None:
        """SIGTERM: refuse what comes, wait for the log to take what was taken, record its end."""
        self._stop.set()

    def blocker(self) -> str | None:
        """See Part."""
        return "it does not listen yet" if self.core is None else self.core.log_blocker()

    @asynccontextmanager
    async def _listening(
        self, core: Core, health: Health, _region: RegionSettings, _settings: GatewaySettings
    ) -> AsyncIterator[None]:
        self.core = core
        book = RouteBook()
        add_api_routes(book.as_application(), core, health)
        self._site.world.books[self._site.name, "gateway"] = book
        yield


async def _pseudonyms(_path: Path, store: KeyValueStore) -> Pseudonyms:
    await check_key_fingerprint(store, PSEUDONYMS.fingerprint)
    return PSEUDONYMS
